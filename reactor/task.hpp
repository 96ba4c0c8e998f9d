// Task<T>: a lazy coroutine that yields Result<T>, for what waits in sequence (a connection, a recovery scan).
//
// House rules, measured on g++ 12 (5 of 13 shapes destroy a temporary twice): inside `co_await (...)` stand only names,
// scalars and trivially destructible temporaries, so name a Task before awaiting it when its arguments are not trivial:
//     auto reading = read_all(file, path);          // a std::string argument: named first
//     auto bytes = co_await reading;
// Parameters come by value or as references to owners that outlive the task. There is no symmetric transfer: whatever
// completes is pushed on the Reactor's ready queue, so the stack stays bounded in every build.
//
// Frames come from the Reactor's FramePool when the coroutine's first parameter (or its object) has `reactor()` or is a
// Reactor; otherwise from the heap.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "base/result.hpp"
#include "reactor/frame_pool.hpp"

namespace millrace {

class Reactor;

namespace detail {

/// Pushes a handle on the reactor's ready queue; out of line so that this header needs no Reactor.
void make_ready(Reactor& reactor, std::coroutine_handle<> handle);

struct PromiseBase : PooledFrame {
  Reactor* reactor = nullptr;        // set by Reactor::spawn, handed down by co_await
  std::coroutine_handle<> parent{};  // who waits for this task; none = detached or not yet awaited
  bool detached = false;             // the reactor destroys the frame when it ends

  std::suspend_always initial_suspend() noexcept { return {}; }
  struct Final {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      PromiseBase& promise = handle.promise();
      if (promise.parent) make_ready(*promise.reactor, promise.parent);
      else if (promise.detached) finish_detached(promise, handle);
    }
    void await_resume() noexcept {}
  };
  Final final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { assert_failed("a coroutine let an exception out", __FILE__, __LINE__); }
  static void finish_detached(PromiseBase& promise, std::coroutine_handle<> handle);
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  struct promise_type : detail::PromiseBase {
    std::optional<Result<T>> value;
    Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
    void return_value(Result<T> result) { value.emplace(std::move(result)); }
  };
  using Handle = std::coroutine_handle<promise_type>;

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> waiting) noexcept {
    handle_.promise().reactor = waiting.promise().reactor;
    handle_.resume();
    if (handle_.done()) return false;  // it never waited: go on without growing the stack
    handle_.promise().parent = waiting;
    return true;
  }
  Result<T> await_resume() { return std::move(*handle_.promise().value); }

  bool done() const { return handle_ && handle_.done(); }
  /// Gives the frame away (Reactor::spawn).
  Handle release() { return std::exchange(handle_, {}); }

 private:
  explicit Task(Handle handle) : handle_(handle) {}
  Handle handle_;
};

}  // namespace millrace
