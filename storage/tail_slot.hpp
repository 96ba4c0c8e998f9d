// The tail: a node's small ring of slots that makes little commits durable before they reach the segment. Here are its
// bytes; who writes when is the committer's. Layout and rules: storage/FORMAT.md, "Tail". Pure; any thread.
#pragma once

#include "storage/file_head.hpp"

namespace millrace {

inline constexpr std::uint32_t tail_magic = 0x3154524d;       // "MRT1"
inline constexpr std::uint32_t tail_slot_magic = 0x314c524d;  // "MRL1"
inline constexpr std::size_t tail_slot_header_bytes = 128;
inline constexpr std::uint64_t tail_ring_bytes_default = 1 * MiB;
inline constexpr std::uint64_t tail_ring_bytes_max = 64 * MiB;
/// A flush whose pending bytes are under this goes to the tail.
inline constexpr std::uint64_t tail_flush_bytes_max = 32 * KiB;

struct TailHeader {
  FileHead head{.magic = tail_magic};
  Id128 log_id{};
  ShardIndex shard{};
  std::uint32_t reserved = 0;
  std::uint64_t ring_bytes = tail_ring_bytes_default;  // the ring follows at 4096
};
static_assert(sizeof(TailHeader) == 72);

/// Errors: corrupt, unsupported_version.
Result<TailHeader> read_tail_header(Bytes block, OpenFor purpose);
void write_tail_header(TailHeader& header, MutableBytes block);

struct TailSlot {
  std::uint32_t magic = tail_slot_magic;
  std::uint32_t length = 0;    // of the bytes held; 0 = only a durable end
  std::uint64_t checksum = 0;  // XXH3-64 of header and bytes held with this field zero
  std::uint64_t number = 0;    // from 1, never falls
  Id128 segment_id{};
  std::uint64_t group = 0;  // file offset of the group the bytes belong to
  std::uint64_t start = 0;  // file offset of the first byte held
  Epoch epoch{};
  Lsn first_lsn{};
  Chain chain_before{};
  Lsn durable_end{};  // every batch with a smaller lsn was durable on this node when the slot was submitted
  std::uint64_t reserved[5] = {};
};
static_assert(sizeof(TailSlot) == tail_slot_header_bytes && std::is_trivially_copyable_v<TailSlot>);

/// What a slot takes in the ring.
constexpr std::uint64_t tail_slot_span(std::uint32_t length) {
  return align_up(tail_slot_header_bytes + length, block_bytes);
}

/// `bytes` begins with the slot and reaches to the ring's end. Errors: corrupt (also for an empty block).
Result<TailSlot> read_tail_slot(Bytes bytes);
/// Writes the header before the `slot.length` bytes that stand at +128 of `target` already, zeros the rest of `target`'s
/// tail_slot_span(slot.length) bytes, and sets the checksum.
void write_tail_slot(TailSlot& slot, MutableBytes target);

}  // namespace millrace
