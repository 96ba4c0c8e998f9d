#include "reactor/posix_kernel.hpp"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "base/time.hpp"
#include "reactor/posix_files.hpp"

namespace millrace {

namespace {

Nanos clock(clockid_t id) {
  timespec time{};
  ::clock_gettime(id, &time);
  return static_cast<Nanos>(time.tv_sec) * nanos_per_second + time.tv_nsec;
}

}  // namespace

PosixKernel::PosixKernel(const PosixOptions& options) : wake_descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  MR_ASSERT(options.threads > 0);
  features_.name = "posix";
  if (!options.without_uring.empty()) features_.missing.push_back(options.without_uring);
  if (wake_descriptor_ < 0 || !sockets_.watch_wake(wake_descriptor_))
    refusal_ = "out of file descriptors, so epoll cannot be opened; raise the limit with `ulimit -n`";
  else start_helpers(options.threads);
}

PosixKernel::~PosixKernel() {
  files_.clear();  // joins: no wake() comes after this
  if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
}

void PosixKernel::start_helpers(std::size_t wanted) {
  auto wake = [](void* self) { static_cast<PosixKernel*>(self)->wake(); };
  while (files_.size() < wanted) {
    if (files_.emplace_back(wake, this, run_file_operation).start()) continue;
    files_.pop_back();
    break;
  }
  if (files_.empty()) refusal_ = thread_refused;
  const std::string count = std::to_string(files_.size());
  features_.used = {"epoll", "RWF_DSYNC", "file threads: " + count};
  if (files_.size() < wanted)
    features_.missing.push_back("file threads: " + count + " of " + std::to_string(wanted) +
                                ", so disk operations wait for each other: raise the limit on processes (ulimit -u, "
                                "TasksMax=, a container's pids limit)");
}

void PosixKernel::submit(Operation& operation) { submitted_.push(operation); }

void PosixKernel::complete(Operation& operation, std::int32_t result) {
  finished_.push_back(Completion{&operation, result, {}, false});
}

void PosixKernel::cancel(Operation& operation) {
  MR_ASSERT(operation.target != nullptr);
  Operation& target = *operation.target;
  if (waiting_.remove(target)) {
    complete(target, -ECANCELED);
    return complete(operation, 0);
  }
  if (is_file_operation(target)) {
    bool runs = std::find(running_.begin(), running_.end(), &target) != running_.end();
    return complete(operation, runs ? -EALREADY : -ENOENT);
  }
  const bool found = sockets_.cancel(target) && !mutant("kernel_denies_a_cancel");
  complete(operation, found ? 0 : -ENOENT);
}

void PosixKernel::start_submitted() {
  while (Operation* operation = submitted_.pop()) {
    if (!refusal_.empty()) complete(*operation, -ENOMEM);
    else if (operation->code == OperationCode::nop) complete(*operation, 0);
    else if (operation->code == OperationCode::cancel) cancel(*operation);
    else if (is_file_operation(*operation)) waiting_.push(*operation);
    else sockets_.start(*operation);
  }
  while (Operation* operation = waiting_.first()) {
    if (!hand_over(*operation)) break;
  }
}

// To the helper with the least to do, so that a slow sync does not hold back a write while another thread is idle.
bool PosixKernel::hand_over(Operation& operation) {
  auto least = std::min_element(files_.begin(), files_.end(), [](const HelperThread& a, const HelperThread& b) {
    return a.in_flight() < b.in_flight();
  });
  if (!least->has_room()) return false;
  waiting_.remove(operation);
  running_.push_back(&operation);
  least->push(operation);
  return true;
}

bool PosixKernel::has_finished() const {
  return std::any_of(files_.begin(), files_.end(), [](const HelperThread& helper) { return helper.has_finished(); });
}

std::size_t PosixKernel::reap(std::span<Completion> target) {
  std::size_t count = std::min(target.size(), finished_.size());
  std::copy_n(finished_.begin(), count, target.begin());
  finished_.erase(finished_.begin(), finished_.begin() + static_cast<std::ptrdiff_t>(count));
  for (HelperThread& helper : files_)
    while (count < target.size() && helper.has_finished()) {
      std::int32_t result = 0;
      Operation* operation = helper.take_finished(result);
      auto entry = std::find(running_.begin(), running_.end(), operation);
      MR_ASSERT(entry != running_.end());
      *entry = running_.back();
      running_.pop_back();
      target[count++] = Completion{operation, result, {}, false};
    }
  return count + sockets_.reap(target.subspan(count));
}

std::size_t PosixKernel::poll(std::span<Completion> target, Nanos deadline) {
  start_submitted();
  sockets_.wait(0);
  std::size_t count = reap(target);
  if (count > 0 || deadline == wait_never) {
    start_submitted();
    return count;
  }
  // Say that we sleep, then look once more: who finishes after the look sees the flag and writes the eventfd.
  sleeping_.store(true, std::memory_order_seq_cst);
  bool wait = !woken_.exchange(false, std::memory_order_seq_cst) && !has_finished() && !sockets_.has_work();
  Nanos left = deadline == wait_forever ? wait_forever : std::max<Nanos>(0, deadline - now());
  sockets_.wait(wait ? left : 0);
  sleeping_.store(false, std::memory_order_seq_cst);
  count = reap(target);
  start_submitted();  // room the finished ones left
  return count;
}

Nanos PosixKernel::now() { return clock(CLOCK_MONOTONIC); }
Nanos PosixKernel::wall_now() { return clock(CLOCK_REALTIME); }

void PosixKernel::wake() {
  woken_.store(true, std::memory_order_seq_cst);
  if (!sleeping_.load(std::memory_order_seq_cst)) return;
  std::uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_descriptor_, &one, sizeof(one));
}

std::uint64_t PosixKernel::seed() {
  std::uint64_t bits = 0;
  MR_ASSERT(::getrandom(&bits, sizeof(bits), 0) == static_cast<ssize_t>(sizeof(bits)));
  return bits;
}

std::size_t PosixKernel::register_memory(MutableBytes) { return 0; }

Result<> PosixKernel::provide_buffers(std::size_t count, std::size_t bytes_each) {
  return sockets_.provide_buffers(count, bytes_each);
}

void PosixKernel::recycle(const ProvidedBuffer& buffer) { sockets_.recycle(buffer); }

}  // namespace millrace
