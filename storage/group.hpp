// A group: the batches that reach a segment in one write. Layout: storage/FORMAT.md. Pure; any thread.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"

namespace millrace {

inline constexpr std::uint32_t group_magic = 0x3147524d;  // "MRG1"
inline constexpr std::size_t group_header_bytes = 128;
/// A group is at most this long, or holds exactly one batch.
inline constexpr std::uint64_t group_bytes_max = 1 * MiB;
/// What the longest group takes in a file: one largest batch, padded.
inline constexpr std::uint64_t group_span_max =
    align_up(group_header_bytes + batch_bytes_max + batch_align, block_bytes);

struct GroupHeader {
  std::uint32_t magic = group_magic;
  std::uint32_t batches = 0;
  std::uint64_t checksum = 0;  // XXH3-64 of the 128 bytes with this field zero
  Id128 segment_id{};
  std::uint64_t file_offset = 0;
  Epoch epoch{};
  Lsn first_lsn{};
  Chain chain_before{};
  Lsn durable_upto{};        // every batch with a smaller lsn was durable on the leader when this was submitted
  std::uint64_t length = 0;  // from this header to the end of the last batch and its padding to 16
  Chain chain_after{};
  std::uint64_t reserved[5] = {};
};
static_assert(sizeof(GroupHeader) == group_header_bytes && std::is_trivially_copyable_v<GroupHeader>);

/// What the group takes in the file.
constexpr std::uint64_t group_span(const GroupHeader& header) { return align_up(header.length, block_bytes); }
constexpr Lsn group_end_lsn(const GroupHeader& header) { return header.first_lsn.next(header.batches); }

/// Sets the checksum: the last step before the group is submitted.
void seal_group_header(GroupHeader& header);

/// Magic, checksum, file offset, reserved bytes and limits; `segment_id` is not compared here. Errors: corrupt.
Result<GroupHeader> read_group_header(Bytes bytes, std::uint64_t file_offset);
/// The same, and the segment id must fit.
Result<GroupHeader> read_group_header(Bytes bytes, std::uint64_t file_offset, const Id128& segment_id);

/// A group as a copy remembers it: what two nodes compare.
struct GroupMark {
  std::uint64_t offset = 0;
  std::uint64_t checksum = 0;
  std::uint64_t end = 0;  // file offset behind it
  Lsn end_lsn{};
  Chain end_chain{};
};
constexpr GroupMark mark_of(const GroupHeader& header) {
  return {header.file_offset, header.checksum, header.file_offset + group_span(header), group_end_lsn(header),
          header.chain_after};
}

/// A batch in place inside a group's, slot's or read's bytes.
struct PlacedBatch {
  BatchHeader header;
  std::uint64_t at = 0;  // from the start of the bytes walked
  Bytes whole;           // header, body, padding
  Bytes body;
};

/// Walks batches that stand one after the other. `check_next` verifies everything: header, lsn, chain, body hash, zero
/// padding. After an error the walker stays where it is.
class BatchWalk {
 public:
  BatchWalk(Bytes batches, Lsn first_lsn, Chain before) : bytes_(batches), lsn_(first_lsn), chain_(before) {}

  bool at_end() const { return at_ == bytes_.size(); }
  /// Errors: corrupt.
  Result<PlacedBatch> check_next();
  /// The same over bytes that were checked before: only the header is read.
  PlacedBatch next_checked();

  std::uint64_t at() const { return at_; }
  Lsn next_lsn() const { return lsn_; }
  Chain chain() const { return chain_; }

 private:
  Bytes bytes_;
  std::uint64_t at_ = 0;
  Lsn lsn_{};
  Chain chain_{};
};

/// The header (as read) and every batch of the group, the chain and the zero padding to 4 KiB. `group` is group_span(header)
/// bytes. Errors: corrupt.
Result<> check_group(const GroupHeader& header, Bytes group);

}  // namespace millrace
