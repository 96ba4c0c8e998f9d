// Reading what a device still gives of a file: a block that it refuses again and again is filled with bytes that are neither zeros nor
// a header of anything, so that whoever judges them sees damage, and never a hole that a crash left.
//
// Thread: the shard's.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "reactor/file.hpp"
#include "reactor/task.hpp"

namespace millrace {

/// Blocks of one read that may be unreadable unless somebody knows better; a device that gives even less is not damaged but gone.
inline constexpr std::uint32_t unreadable_blocks_max = 16;

struct ReadAround {
  std::uint32_t bytes = 0;       // as of File::read, what was filled in included
  std::uint32_t unreadable = 0;  // blocks filled in
};

/// File::read, and block by block where that fails with io_failed. `offset` and the target's length are multiples of a block.
/// Errors: those of File::read; io_failed when more than `unreadable_max` blocks cannot be read.
Task<ReadAround> read_around(File& file, std::uint64_t offset, MutableBytes target,
                             std::uint64_t unreadable_max = unreadable_blocks_max);

}  // namespace millrace
