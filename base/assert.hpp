// Assertions are for bugs, and they are always on: a server that has lost its own invariants must stop before it
// writes another byte. What the world may do (disk, network, users) is a Result, never an assertion.
#pragma once

namespace millrace {

/// Prints the failed condition with its place to stderr and aborts. Never returns.
[[noreturn]] void assert_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace millrace

#define MR_ASSERT(condition)                                     \
  do {                                                           \
    if (!(condition)) [[unlikely]]                               \
      ::millrace::assert_failed(#condition, __FILE__, __LINE__); \
  } while (false)
