#include "server/verify_run.hpp"

#include <optional>
#include <utility>

#include "reactor/posix_kernel.hpp"

namespace millrace {

namespace {

template <class Report>
Task<> keep(Task<Report> task, std::optional<Result<Report>>& outcome) {
  auto report = co_await task;
  outcome.emplace(std::move(report));
  co_return Result<>();
}

template <class Report>
Result<Report> run(Reactor& reactor, Task<Report> task) {
  std::optional<Result<Report>> outcome;
  reactor.spawn(keep(std::move(task), outcome));
  while (!outcome) reactor.turn(wait_forever);
  return std::move(*outcome);
}

}  // namespace

Result<VerifyReport> run_verify(const std::string& directory, bool buffered, VerifyVisitor& visitor) {
  PosixKernel kernel;
  Reactor reactor(kernel);
  return run(reactor, verify_directory(reactor, directory, VerifyOptions{.buffered = buffered}, visitor));
}

Result<CompareReport> run_compare(const std::string& directory, const CompareOptions& options, CompareVisitor& visitor,
                                  std::string& complaint) {
  constexpr std::size_t receive_buffers = 8, receive_buffer_bytes = 64 * KiB;
  PosixKernel kernel;
  Reactor reactor(kernel);
  const auto receiving = kernel.provide_buffers(receive_buffers, receive_buffer_bytes);
  if (!receiving) {
    complaint = "there is no memory to receive into";
    return fail(receiving.error());
  }
  return run(reactor, compare_directory(reactor, directory, options, visitor, complaint));
}

}  // namespace millrace
