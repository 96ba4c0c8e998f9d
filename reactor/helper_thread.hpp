// One thread for the few requests io_uring has no opcode for on the oldest kernel we run on (reading a directory, locks,
// listen, truncate, stat). None of them is on the way of a commit. The queue is bounded and refuses.
//
// Threads: push(), take_finished() and the destructor belong to the kernel's thread; `wake` is called on the helper.
#pragma once

#include <semaphore.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "reactor/operation.hpp"
#include "reactor/thread.hpp"

namespace millrace {

/// Carries the request out, blocking. A result as in a Completion. Any thread.
std::int32_t run_blocking(Operation& operation);
/// True for the codes that run_blocking() knows.
bool runs_blocking(OperationCode code);

/// Intrusive first-in-first-out list through Operation::kernel_next.
class OperationList {
 public:
  bool empty() const { return first_ == nullptr; }
  Operation* first() const { return first_; }
  void push(Operation& operation);
  Operation* pop();
  /// False when it is not in the list.
  bool remove(Operation& operation);

 private:
  Operation* first_ = nullptr;
  Operation* last_ = nullptr;
};

class HelperThread {
 public:
  static constexpr std::size_t queue_max = 128;  // operations accepted and not taken back yet; a power of two

  /// `perform` carries an operation out, blocking; `wake(context)` is called after each.
  HelperThread(void (*wake)(void*), void* context, std::int32_t (*perform)(Operation&) = run_blocking)
      : wake_(wake), context_(context), perform_(perform) {
    ::sem_init(&queued_, 0, 0);
  }
  ~HelperThread();
  HelperThread(const HelperThread&) = delete;
  HelperThread& operator=(const HelperThread&) = delete;

  /// False when the system gives no thread. Once, before any push.
  bool start();
  bool has_room() const { return in_flight_ < queue_max; }
  std::size_t in_flight() const { return in_flight_; }
  /// Only when there is room.
  void push(Operation& operation);
  /// One finished operation and its result; nullptr when there is none.
  Operation* take_finished(std::int32_t& result);
  bool has_finished() const { return finished_count_.load(std::memory_order_acquire) != taken_back_; }

 private:
  struct Finished {
    Operation* operation;
    std::int32_t result;
  };
  void run();

  void (*const wake_)(void*);
  void* const context_;
  std::int32_t (*const perform_)(Operation&);
  Thread thread_;
  std::size_t in_flight_ = 0;  // accepted and not taken back: what keeps both rings from running over

  // Two rings, each filled by one side and emptied by the other; the counts only grow.
  std::array<Operation*, queue_max> queue_{};
  std::array<Finished, queue_max> finished_{};
  // Not std::atomic::wait, which yields a few times before it sleeps: on a machine with more to run than cores, each yield
  // waits for everybody else's slice, and a helper with nothing to do takes turns away from one that has.
  sem_t queued_;
  std::uint32_t queued_count_ = 0;                // kernel's thread
  std::atomic<std::uint32_t> finished_count_{0};  // set by the helper
  std::uint32_t taken_back_ = 0;                  // kernel's thread
  std::atomic<bool> stopping_{false};
};

}  // namespace millrace
