// Counts the heap allocations of this program, so that `stat` can show that steady state makes none.
#pragma once

#include <cstdint>

namespace millrace::cli {

/// Calls of operator new since the program began. Any thread.
std::uint64_t heap_allocations();

}  // namespace millrace::cli
