// One thread's loop: it owns time, the ready queue and timers, and is the only caller of its Kernel. A turn is: resume
// what is ready, run the turn-end hooks (this is where group commit and acknowledgements coalesce), then ask the kernel
// once. Coroutines and callbacks run only inside a turn.
//
// Threads: everything here belongs to the thread that calls turn()/run(), except stop() and wake().
#pragma once

#include <array>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/units.hpp"
#include "reactor/frame_pool.hpp"
#include "reactor/kernel.hpp"
#include "reactor/random.hpp"
#include "reactor/task.hpp"
#include "reactor/timer.hpp"

namespace millrace {

/// Runs once at the end of each turn in which request() was called; hooks run in the order of their requests.
class TurnHook {
 public:
  virtual void turn_ended() = 0;

 protected:
  ~TurnHook() = default;

 private:
  friend class Reactor;
  bool requested_ = false;
};

/// Messages from other threads (reactor/mailbox.hpp): looked into once a turn. Whoever posts calls Kernel::wake() after it.
class Inbox {
 public:
  /// Handles what is there; true when there was something. Bounded: what is left is taken in the next turn.
  virtual bool drain() = 0;

 protected:
  ~Inbox() = default;
};

/// What files were asked for and got, whoever asked: the log, its index, the preparation of segments.
struct FileTraffic {
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t writes = 0;
  std::uint64_t durable_writes = 0;  // of these; each is a flush, or a write that the device has durably
  std::uint64_t written_bytes = 0;
  std::uint64_t zeroed_bytes = 0;  // ranges the system zeroed by itself
  std::uint64_t syncs = 0;
};

/// Nothing on a shard should wait longer than this for its turn.
inline constexpr Nanos turn_length_wanted = 1'000'000;

struct ReactorStats {
  std::uint64_t turns = 0;
  std::uint64_t completions = 0;
  // Computing time of the longest turn since the start or the last reset, without the kernel's wait.
  Nanos longest_turn = 0;
  /// Turns by their computing time: [n] counts those of less than 2^n microseconds and not less than half of it; the last takes
  /// all that are longer. Two looks tell what happened between them, whatever a start cost.
  std::array<std::uint64_t, 16> turns_by_length{};
  std::uint64_t long_turns = 0;  // of more than turn_length_wanted
  FileTraffic files;
};

class Reactor {
 public:
  explicit Reactor(Kernel& kernel);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  Kernel& kernel() { return kernel_; }
  Reactor& reactor() { return *this; }
  FramePool& frame_pool() { return frame_pool_; }
  Random& random() { return random_; }

  /// Monotonic and wall time, constant within a turn.
  Nanos now() const { return now_; }
  Nanos wall_now() const { return wall_now_; }

  /// Starts an operation; operation.on_complete is called in a later turn.
  void submit(Operation& operation);
  /// Starts a task nobody waits for; the reactor owns its frame until it ends. Errors it returns are dropped: handle them inside.
  void spawn(Task<> task);
  void make_ready(std::coroutine_handle<> handle) { ready_.push_back(handle); }
  /// Closes a descriptor nobody waits for: what the destructor of a file or socket calls.
  void close_later(int descriptor);

  /// `timer.fire` is called in the first turn at or after `deadline` (now() clock). Arming an armed timer moves it.
  void arm(Timer& timer, Nanos deadline);
  void disarm(Timer& timer);

  /// Asks for `hook.turn_ended()` at the end of this turn.
  void request(TurnHook& hook);
  /// Takes the request back, for a hook that is about to be destroyed.
  void withdraw(TurnHook& hook);
  /// Inboxes are drained in the order they were attached; not to be called from drain().
  void attach(Inbox& inbox) { inboxes_.push_back(&inbox); }
  void detach(Inbox& inbox) { std::erase(inboxes_, &inbox); }

  /// One turn; waits in the kernel until `deadline` at the longest, and not at all while something is ready. Returns true
  /// when anything happened.
  bool turn(Nanos deadline);
  /// Turns until stop().
  void run();
  /// Any thread, any time.
  void stop();
  /// When the earliest timer is due; wait_forever when none is armed.
  Nanos next_deadline() const;
  /// True when coroutines or hooks are waiting for the next turn.
  bool has_ready() const { return !ready_.empty() || !hooks_.empty(); }
  /// What a crash does, for simulations: every coroutine is destroyed where it waits, while what it refers to still stands.
  /// No turn may follow, and the kernel completes nothing any more.
  void abandon();
  /// Operations the kernel has not completed for the last time.
  std::uint64_t in_flight() const { return in_flight_; }

  const ReactorStats& stats() const { return stats_; }
  void reset_longest_turn() { stats_.longest_turn = 0; }

 private:
  friend struct detail::PromiseBase;
  void refresh_time();
  void run_ready(Nanos begin);
  void run_hooks();
  void count_turn(Nanos length);
  void deliver(const Completion& completion);
  void count(const Operation& done, std::uint32_t result);

  Kernel& kernel_;
  FramePool frame_pool_;
  Random random_;
  std::atomic<bool> stopping_{false};

  Nanos now_ = 0;
  Nanos wall_now_ = 0;
  TimerHeap timers_;
  std::deque<std::coroutine_handle<>> ready_;
  std::vector<TurnHook*> hooks_;
  std::vector<Inbox*> inboxes_;
  bool inbox_had_messages_ = false;  // there may be more: the next turn does not wait
  std::vector<Completion> completions_;
  std::vector<std::coroutine_handle<>> detached_;   // frames spawn() owns, destroyed with the reactor if still waiting
  std::vector<std::unique_ptr<Operation>> closes_;  // of close_later(), reused when they are done
  std::uint64_t in_flight_ = 0;
  ReactorStats stats_;
};

/// Waits for one operation: `auto got = co_await Io(operation);` The Operation is named by the caller and outlives the wait.
struct [[nodiscard]] Io {
  explicit Io(Operation& operation) : operation_(operation) {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    handle_ = handle;
    reactor_ = handle.promise().reactor;
    operation_.context = this;
    operation_.on_complete = [](Operation& self, const Completion& completion) {
      auto& io = *static_cast<Io*>(self.context);
      io.result_ = completion.result;
      io.reactor_->make_ready(io.handle_);
    };
    reactor_->submit(operation_);
  }
  /// >= 0 as the operation says, or our Error.
  Result<std::uint32_t> await_resume() const {
    if (result_ < 0) return fail(error_from_errno(-result_));
    return static_cast<std::uint32_t>(result_);
  }

 private:
  Operation& operation_;
  Reactor* reactor_ = nullptr;
  std::coroutine_handle<> handle_{};
  std::int32_t result_ = 0;
};

/// `co_await Yield{};` goes to the back of the ready queue, into the next turn: how long work is cut into steps.
struct [[nodiscard]] Yield {
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    handle.promise().reactor->make_ready(handle);
  }
  void await_resume() const noexcept {}
};

/// A condition coroutines wait for: `co_await signal.wait();` Every notify() wakes all that wait then. Spurious wake-ups
/// happen: re-check in a loop.
class Signal {
 public:
  struct [[nodiscard]] Waiter {
    Signal& signal;
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) {
      signal.reactor_ = handle.promise().reactor;
      signal.waiting_.push_back(handle);
    }
    void await_resume() const noexcept {}
  };
  Waiter wait() { return Waiter{*this}; }
  void notify() {
    for (auto handle : waiting_) reactor_->make_ready(handle);
    waiting_.clear();
  }
  bool has_waiters() const { return !waiting_.empty(); }

 private:
  Reactor* reactor_ = nullptr;
  std::vector<std::coroutine_handle<>> waiting_;
};

/// `co_await Sleep(reactor, deadline);`
class [[nodiscard]] Sleep {
 public:
  Sleep(Reactor& reactor, Nanos deadline) : reactor_(reactor), deadline_(deadline) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    timer_.context = this;
    timer_.fire = [](Timer& self) {
      auto& sleep = *static_cast<Sleep*>(self.context);
      sleep.reactor_.make_ready(sleep.handle_);
    };
    reactor_.arm(timer_, deadline_);
  }
  void await_resume() const noexcept {}

 private:
  Reactor& reactor_;
  Nanos deadline_;
  Timer timer_;
  std::coroutine_handle<> handle_{};
};

}  // namespace millrace
