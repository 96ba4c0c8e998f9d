// Accepts connections on one address. When the process is out of descriptors it waits and tries again; connections wait
// in the system's queue meanwhile. With a spare descriptor to give up they need not wait: each is accepted in its place, and
// marked as one that can only be refused.
//
// Thread: the reactor's. close() must have ended before a Listener is destroyed while its reactor goes on.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>

#include "base/time.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

class Listener {
 public:
  /// Accepted descriptors that wait for accept(); those beyond are closed at once. More than a turn can bring.
  static constexpr std::size_t accepted_max = 4096;
  static constexpr std::uint32_t backlog = 4096;
  static constexpr Nanos retry_after = 100 * nanos_per_milli;

  explicit Listener(Reactor& reactor);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  Reactor& reactor() { return reactor_; }

  /// An open descriptor that serves nothing; the Listener's from now on. Before listen().
  void keep_spare(std::int32_t descriptor) {
    spare_ = descriptor;
    spare_wanted_ = descriptor >= 0;
  }
  /// Returns the port, chosen by the system when `address.port` is 0.
  Task<std::uint16_t> listen(Address address);

  struct Accepted {
    std::int32_t descriptor = -1;
    bool last = false;  // the process has no other descriptor left: refuse this one, and close it
  };
  struct [[nodiscard]] Accept {
    Listener& listener;
    bool await_ready() const { return !listener.accepted_.empty() || listener.closing_; }
    void await_suspend(std::coroutine_handle<> handle);
    Result<Accepted> await_resume();
  };
  /// The next connection; `cancelled` once close() was called. One waiter at a time.
  Accept accept() { return Accept{*this}; }

  Task<> close();

  std::uint64_t refused() const { return refused_; }  // closed because accepted_max waited
  std::uint64_t failed() const { return failed_; }    // times accepting had to wait, for descriptors mostly

 private:
  void arm();
  bool give_up_spare(std::int32_t result);
  void take_spare();
  void on_spare(const Completion& completion);
  void add(Accepted connection);
  void on_accepted(const Completion& completion);
  void wake_waiter();

  Reactor& reactor_;
  std::int32_t descriptor_ = -1;
  std::deque<Accepted> accepted_;       // oldest first
  std::deque<std::int32_t> undecided_;  // accepted without a spare: waiting for what take_spare() finds
  std::int32_t spare_ = -1;
  bool spare_wanted_ = false;
  std::coroutine_handle<> waiter_{};
  Timer retry_;
  Signal progress_;
  std::uint64_t refused_ = 0;
  std::uint64_t failed_ = 0;
  bool closing_ = false;

  Operation accept_;
  Operation cancel_;
  Operation open_spare_;
  bool taking_spare_ = false;
  bool accepting_ = false;
  bool cancelling_ = false;
};

}  // namespace millrace
