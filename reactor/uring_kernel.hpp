// The kernel seam over io_uring: one ring for files and sockets, one system call a turn.
//
// - Operations without an io_uring opcode on Linux 6.1 run on one helper thread and come back through poll().
// - A multishot that the kernel ends early (no buffers, a full completion queue) is re-armed here; the owner sees
//   more == false only with an error, at the end of the stream, or after cancel.
// - What this kernel lacks is worked around with the same results (features().missing says how), see uring_options.hpp.
// - Descriptors from open_file are closed through the kernel that opened them. Sockets may move between kernels.
//
// Thread: create() is called on the thread that will call poll() for as long as the object lives, and that thread
// destroys it: a DEFER_TASKRUN ring belongs to the thread that made it. Only wake() may be called from elsewhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "reactor/helper_thread.hpp"
#include "reactor/kernel.hpp"
#include "reactor/uring_options.hpp"
#include "reactor/uring_refusal.hpp"

struct io_uring_sqe;
struct io_uring_cqe;

namespace millrace {

class UringRing;
class RegisteredMemory;
class RegisteredFiles;
class ProvidedBuffers;
struct Connecting;

class UringKernel final : public Kernel {
 public:
  /// When io_uring is refused, `why` is one sentence naming cause and cure.
  static Result<std::unique_ptr<UringKernel>> create(const UringOptions& options, std::string& why);
  /// Cancels what is still in flight and waits up to a second for it, without telling the owners.
  ~UringKernel() override;

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

  /// System calls made by poll() and submit(), and operations that used registered memory; for benchmarks and tests.
  struct Counters {
    std::uint64_t enters = 0;
    std::uint64_t fixed_transfers = 0;  // reads and writes in registered memory
    std::uint64_t fixed_files = 0;      // operations on a registered file
    std::uint64_t rearmed = 0;          // multishots started again here
    std::uint64_t starved = 0;          // receives that found no provided buffer
  };
  const Counters& counters() const { return counters_; }

 private:
  explicit UringKernel(const UringOptions& options);
  void choose_receive();
  bool choose_wake();  // false = no descriptor to be woken with
  void open_tables();
  /// Names a feature that io_uring_register refused, and why.
  void miss(const MissingFeature& feature, int system_errno);

  void start(Operation& operation);
  bool make_room();
  void issue(Operation& operation);
  void issue_cancel(Operation& operation);
  void issue_connect(Operation& operation);
  void prepare(io_uring_sqe& sqe, Operation& operation);
  void prepare_transfer(io_uring_sqe& sqe, Operation& operation);
  void prepare_receive(io_uring_sqe& sqe, Operation& operation);
  void prepare_accept(io_uring_sqe& sqe, Operation& operation);
  void aim_at_file(io_uring_sqe& sqe, const Operation& operation);
  void arm_wake_descriptor();

  void push_on();
  void push_on_helper();
  void enter(bool wait, Nanos timeout);
  void wait_for_events(Nanos deadline);
  std::size_t reap(std::span<Completion> target);
  std::size_t reap_finished(std::span<Completion> target, std::size_t count);
  bool translate(const io_uring_cqe& cqe, Completion& out);
  bool translate_receive(Operation& operation, const io_uring_cqe& cqe, Completion& out);
  bool translate_emulated(Operation& operation, const io_uring_cqe& cqe, Completion& out);
  bool translate_accept(Operation& operation, const io_uring_cqe& cqe, Completion& out);
  void translate_connect(Operation& operation, Completion& out);
  void finish(Operation& operation, std::int32_t result);
  void rearm(Operation& operation);
  void starve(Operation& operation);

  const UringOptions options_;
  const UringStanding standing_ = uring_standing();
  KernelFeatures features_;
  bool shared_buffers_ = false;  // provided receives use a buffer ring
  bool multishot_ = false;
  bool message_wake_ = false;
  int wake_descriptor_ = -1;      // eventfd, when there is no message_wake_
  std::uint64_t wake_count_ = 0;  // what the eventfd read fills

  std::unique_ptr<UringRing> ring_;
  std::unique_ptr<RegisteredMemory> memory_;
  std::unique_ptr<RegisteredFiles> files_;
  std::unique_ptr<ProvidedBuffers> buffers_;
  std::unique_ptr<HelperThread> helper_;
  Counters counters_;

  std::uint64_t in_ring_ = 0;         // entries the system has not completed for the last time
  std::uint64_t disk_in_ring_ = 0;    // those of them that wait for a disk
  OperationList pending_;             // the submission queue was full
  OperationList helper_pending_;      // the helper's queue was full
  OperationList starved_;             // receives waiting for a provided buffer
  std::vector<Completion> finished_;  // completed without the ring; those before finished_at_ are handed out
  std::size_t finished_at_ = 0;
  std::unordered_map<const Operation*, std::unique_ptr<Connecting>> connecting_;

  std::atomic<bool> woken_{false};     // wake() was called since the last poll
  std::atomic<bool> sleeping_{false};  // poll() is about to wait or waits
};

}  // namespace millrace
