// Accepts connections on one address. When the process is out of descriptors it waits and tries again; connections wait
// in the system's queue meanwhile.
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

  /// Returns the port, chosen by the system when `address.port` is 0.
  Task<std::uint16_t> listen(Address address);

  struct [[nodiscard]] Accept {
    Listener& listener;
    bool await_ready() const { return !listener.accepted_.empty() || listener.closing_; }
    void await_suspend(std::coroutine_handle<> handle);
    Result<std::int32_t> await_resume();
  };
  /// The descriptor of the next connection; `cancelled` once close() was called. One waiter at a time.
  Accept accept() { return Accept{*this}; }

  Task<> close();

  std::uint64_t refused() const { return refused_; }  // closed because accepted_max waited
  std::uint64_t failed() const { return failed_; }    // times accepting had to wait, for descriptors mostly

 private:
  void arm();
  void on_accepted(const Completion& completion);
  void wake_waiter();

  Reactor& reactor_;
  std::int32_t descriptor_ = -1;
  std::deque<std::int32_t> accepted_;  // oldest first
  std::coroutine_handle<> waiter_{};
  Timer retry_;
  Signal progress_;
  std::uint64_t refused_ = 0;
  std::uint64_t failed_ = 0;
  bool closing_ = false;

  Operation accept_;
  Operation cancel_;
  bool accepting_ = false;
  bool cancelling_ = false;
};

}  // namespace millrace
