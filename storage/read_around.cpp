#include "storage/read_around.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "storage/aligned_memory.hpp"

namespace millrace {

namespace {
constexpr unsigned block_attempts_max = 3;
constexpr int unreadable_fill = 0xeb;
}  // namespace

Task<ReadAround> read_around(File& file, std::uint64_t offset, MutableBytes target, std::uint64_t unreadable_max) {
  MR_ASSERT(is_aligned(offset, block_bytes) && is_aligned(target.size(), block_bytes));
  auto reading = file.read(offset, target);
  auto read = co_await reading;
  if (read) co_return ReadAround{*read, 0};
  if (read.error() != Error::io_failed) co_return fail(read.error());
  ReadAround around;
  for (std::uint64_t at = 0; at < target.size(); at += block_bytes) {
    const MutableBytes block = target.subspan(at, block_bytes);
    Result<std::uint32_t> got = fail(Error::io_failed);
    for (unsigned attempt = 0; attempt < block_attempts_max && !got; ++attempt) {
      auto trying = file.read(offset + at, block);
      got = co_await trying;
      if (!got && got.error() != Error::io_failed) co_return fail(got.error());
    }
    if (!got) {
      if (++around.unreadable > unreadable_max) co_return fail(Error::io_failed);
      std::memset(block.data(), unreadable_fill, block.size());
      got = static_cast<std::uint32_t>(block_bytes);
    }
    around.bytes += *got;
    if (*got < block_bytes) break;
  }
  co_return around;
}

}  // namespace millrace
