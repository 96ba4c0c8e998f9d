// The kernel seam without io_uring: epoll for sockets, and a few helper threads that carry out file operations as blocking
// calls (pwritev2 with RWF_DSYNC for durable writes, on the same O_DIRECT files). For places that refuse io_uring: container
// runtimes' default seccomp profiles, kernel.io_uring_disabled, tiny memlock limits. Same operations, same results, same
// bytes on disk; it costs two thread hand-overs a disk operation.
//
// - Operations complete in any order, as with io_uring; two writes in flight run on two threads.
// - Where the system gives fewer threads, fewer serve; where it gives none, or no epoll, every operation fails with ENOMEM.
// - The helpers' queue is bounded; what does not fit waits in a list through the callers' own Operations.
//
// Thread: one thread submits and polls; only wake() may be called from elsewhere.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "reactor/helper_thread.hpp"
#include "reactor/kernel.hpp"
#include "reactor/posix_sockets.hpp"

namespace millrace {

struct PosixOptions {
  std::size_t threads = 4;    // file operations that may run at once
  std::string without_uring;  // why this is no io_uring: shown in features().missing; empty = nothing to say
};

class PosixKernel final : public Kernel {
 public:
  explicit PosixKernel(const PosixOptions& options = {});
  /// Cause and cure when the system gives what this cannot do without; empty = it works.
  const std::string& refusal() const { return refusal_; }
  /// Waits for the file operations that run; nobody is told of what was still in flight.
  ~PosixKernel() override;

  void submit(Operation& operation) override;
  std::size_t poll(std::span<Completion> target, Nanos deadline) override;
  Nanos now() override;
  Nanos wall_now() override;
  void wake() override;
  std::uint64_t seed() override;
  std::size_t register_memory(MutableBytes memory) override;
  Result<> provide_buffers(std::size_t count, std::size_t bytes_each) override;
  void recycle(const ProvidedBuffer& buffer) override;
  const KernelFeatures& features() const override { return features_; }

  /// Receives that found no provided buffer so far.
  std::uint64_t starved() const { return sockets_.starved(); }

 private:
  void start_submitted();
  void cancel(Operation& operation);
  void complete(Operation& operation, std::int32_t result);
  std::size_t reap(std::span<Completion> target);
  bool hand_over(Operation& operation);
  bool has_finished() const;

  void start_helpers(std::size_t wanted);

  KernelFeatures features_;
  std::string refusal_;
  int wake_descriptor_ = -1;

  OperationList submitted_;           // since the last poll
  OperationList waiting_;             // file operations the helpers have no room for
  std::vector<Completion> finished_;  // cancels, and what they ended
  PosixSockets sockets_;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> woken_{false};
  std::deque<HelperThread> files_;         // last: their threads call wake()
  std::vector<const Operation*> running_;  // handed to a helper and not finished
};

}  // namespace millrace
