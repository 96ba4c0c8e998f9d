// Runs tasks on a reactor from plain test code.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "base/time.hpp"
#include "reactor/reactor.hpp"

namespace millrace::test {

namespace detail {

template <class T>
Task<> keep_result([[maybe_unused]] Reactor& reactor, Task<T> task, std::optional<Result<T>>& out) {
  auto result = co_await task;
  out.emplace(std::move(result));
  co_return Result<>{};
}

template <class T>
Task<> keep_shared([[maybe_unused]] Reactor& reactor, Task<T> task, std::shared_ptr<std::optional<Result<T>>> out) {
  auto result = co_await task;
  out->emplace(std::move(result));
  co_return Result<>{};
}

}  // namespace detail

/// Turns until `done()` says so; false after ten seconds.
template <class Done>
bool turn_until(Reactor& reactor, Done done) {
  Nanos end = reactor.kernel().now() + 10 * nanos_per_second;
  while (!done()) {
    if (reactor.kernel().now() > end) return false;
    reactor.turn(reactor.kernel().now() + 50 * nanos_per_milli);
  }
  return true;
}

template <class T>
Result<T> run_task(Reactor& reactor, Task<T> task) {
  auto out = std::make_shared<std::optional<Result<T>>>();  // a task that hangs outlives this call
  reactor.spawn(detail::keep_shared<T>(reactor, std::move(task), out));
  if (!turn_until(reactor, [&] { return out->has_value(); })) {
    ADD_FAILURE() << "the task did not end within ten seconds";
    return fail(Error::timed_out);
  }
  return std::move(**out);
}

/// Turns until nothing is ready or in flight.
inline bool settle(Reactor& reactor) {
  return turn_until(reactor, [&] { return !reactor.has_ready() && reactor.in_flight() == 0; });
}

}  // namespace millrace::test
