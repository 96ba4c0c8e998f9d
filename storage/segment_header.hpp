// A segment's first 4 KiB: which log, day and place the file holds, and what came before it. Layout: storage/FORMAT.md.
// Pure; any thread.
#pragma once

#include "storage/file_head.hpp"

namespace millrace {

inline constexpr std::uint32_t segment_magic = 0x3153524d;  // "MRS1"
inline constexpr std::uint64_t segment_bytes_min = 16 * MiB;
inline constexpr std::uint64_t segment_bytes_default = 128 * MiB;
inline constexpr std::uint64_t segment_bytes_max = 64 * GiB;  // positions in index entries are 32 bits of 16 bytes
/// Kept free at the end of every segment, so that a day can always be sealed where it stands.
inline constexpr std::uint64_t seal_reserve_bytes = 64 * KiB;

struct SegmentHeader {
  FileHead head{.magic = segment_magic};
  Id128 log_id{};
  Id128 segment_id{};
  ShardIndex shard{};
  Day day{};
  std::int32_t day_offset_seconds = 0;
  std::uint32_t number = 0;  // within the day, from 0
  Lsn first_lsn{};
  Epoch epoch{};  // it was begun in
  Id128 previous_segment_id{};
  std::uint64_t previous_length = 0;  // end of its last group
  Chain previous_chain{};
  std::uint64_t in_flight_bytes_max = 0;  // W: no group is submitted that ends further behind the durable end
  std::uint64_t segment_bytes = segment_bytes_default;
};
static_assert(sizeof(SegmentHeader) == 152);

/// `block` is the file's first 4096 bytes. Errors: corrupt, unsupported_version. An all-zero block ("not begun") is
/// corrupt here: ask all_zero() first.
Result<SegmentHeader> read_segment_header(Bytes block, OpenFor purpose);
/// Fills `block` and the header's checksum.
void write_segment_header(SegmentHeader& header, MutableBytes block);

/// The chain before the segment's first batch.
inline Chain first_chain(const SegmentHeader& header) { return Chain{header.head.checksum}; }

}  // namespace millrace
