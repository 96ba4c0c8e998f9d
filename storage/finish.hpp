// The `finish` file: a day is complete. Believed only when it verifies against the seal's chain. Layout: storage/FORMAT.md.
// Pure; any thread.
#pragma once

#include "storage/file_head.hpp"

namespace millrace {

inline constexpr std::uint32_t finish_magic = 0x3146524d;  // "MRF1"

struct Finish {
  FileHead head{.magic = finish_magic};
  Id128 log_id{};
  ShardIndex shard{};
  Day day{};
  std::uint32_t last_segment_number = 0;
  std::uint32_t reserved = 0;
  std::uint64_t last_segment_length = 0;
  Lsn end_lsn{};  // after the seal
  Chain final_chain{};
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t body_bytes = 0;
  Epoch epoch{};
};
static_assert(sizeof(Finish) == 128);

/// Errors: corrupt, unsupported_version.
Result<Finish> read_finish(Bytes block, OpenFor purpose);
void write_finish(Finish& finish, MutableBytes block);

}  // namespace millrace
