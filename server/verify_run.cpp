#include "server/verify_run.hpp"

#include <optional>

#include "reactor/posix_kernel.hpp"

namespace millrace {

namespace {

Task<> run(Reactor& reactor, std::string directory, bool buffered, VerifyVisitor& visitor,
           std::optional<Result<VerifyReport>>& outcome) {
  auto verifying = verify_directory(reactor, std::move(directory), VerifyOptions{.buffered = buffered}, visitor);
  auto report = co_await verifying;
  outcome.emplace(std::move(report));
  co_return Result<>();
}

}  // namespace

Result<VerifyReport> run_verify(const std::string& directory, bool buffered, VerifyVisitor& visitor) {
  PosixKernel kernel;
  Reactor reactor(kernel);
  std::optional<Result<VerifyReport>> outcome;
  reactor.spawn(run(reactor, directory, buffered, visitor, outcome));
  while (!outcome) reactor.turn(wait_forever);
  return std::move(*outcome);
}

}  // namespace millrace
