// A batch: the records of one stream that one producer commits together. Its 192-byte header and its body are the same
// bytes in the producer's append, on disk, on every node and at the reader. Layout: protocol/FORMAT.md, "Batch".
//
// The producer fills the header's first half and leaves what the leader assigns zero; the leader completes it with
// complete(). Everything here is pure.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"
#include "base/hash.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

enum class BatchKind : std::uint8_t {
  data = 0,       // records of one stream
  catalogue = 1,  // streams created, producers registered
  state = 2,      // a piece of the tables, at the start of a day
  epoch = 3,      // an opening for writing, with what it found lost
  seal = 4,       // the end of a day; the last batch of it
  trim = 5,       // a stream's first readable offset moves, on every node
};

inline constexpr std::uint32_t batch_magic = 0x3142524d;   // "MRB1"
inline constexpr std::uint32_t batch_bytes_max = 8 * MiB;  // header and body
inline constexpr std::uint32_t batch_records_max = 1u << 20;
inline constexpr std::size_t batch_align = 16;

/// Reserved bytes are zero; a reader refuses others.
struct BatchHeader {
  std::uint32_t magic = batch_magic;
  BatchKind kind = BatchKind::data;
  std::uint8_t codec = 0;  // 0 = none
  std::uint16_t flags = 0;
  std::uint64_t checksum = 0;  // XXH3-64 of the 192 bytes with this field zero
  Hash128 body_hash{};         // XXH3-128 of the body, by the producer
  std::uint64_t chain = 0;  // leader: XXH3-64 of the header with checksum and chain zero, seeded with the chain before
  std::uint64_t lsn = 0;    // leader
  std::uint64_t stream_id = 0;     // 0 in control batches
  std::uint64_t first_offset = 0;  // leader
  std::uint64_t first_id = 0;      // leader: number of the first record within the stream's day
  std::uint32_t record_count = 0;
  std::uint32_t body_bytes = 0;     // without padding
  std::int64_t leader_time = 0;     // leader: ns since 1970, never falls within a log
  std::int64_t event_time_min = 0;  // over the records
  std::int64_t event_time_max = 0;
  std::uint64_t producer_id = 0;  // 0 = none: no dedupe
  std::uint32_t producer_epoch = 0;
  std::uint32_t day = 0;                // leader: days since 1970
  std::uint64_t producer_sequence = 0;  // dense per (producer, stream), from 0
  std::uint64_t raw_bytes = 0;          // length of the body without codec; = body_bytes for codec 0
  std::uint64_t reserved[7] = {};
};
static_assert(sizeof(BatchHeader) == 192 && std::is_trivially_copyable_v<BatchHeader>);

inline constexpr std::size_t batch_header_bytes = sizeof(BatchHeader);

/// Bytes a batch takes in a group, an append or a read: header, body, zeros to 16.
constexpr std::size_t batch_span(std::uint32_t body_bytes) {
  return align_up(batch_header_bytes + body_bytes, batch_align);
}

/// The checksum `header` should carry.
std::uint64_t header_checksum(const BatchHeader& header);
/// The chain value `header` should carry after a log whose chain is `before`.
Chain chain_after(Chain before, const BatchHeader& header);
/// Sets chain, then checksum: the last step of the leader (and of a producer, with chain left zero).
void seal_header(BatchHeader& header, Chain before);

/// Reads a header at the front of `bytes` and checks magic, checksum, reserved bytes and limits; not the body.
Result<BatchHeader> read_batch_header(Bytes bytes);

/// The records of a data batch's body in place. Valid as long as the bytes are.
class BodyView {
 public:
  /// Checks hash (when `header` is given), flatbuffer structure, ends that never fall, equal lengths of vectors. After
  /// this the accessors are plain array reads. Errors: bad_body.
  static Result<BodyView> parse(Bytes body, const BatchHeader& header);

  std::uint32_t count() const { return count_; }
  Bytes payload(std::uint32_t record) const;
  std::uint16_t type(std::uint32_t record) const;
  Nanos event_time(std::uint32_t record) const;
  bool has_keys() const { return key_ends_ != nullptr; }
  Bytes key(std::uint32_t record) const;
  bool has_headers() const { return header_ends_ != nullptr; }
  Bytes headers(std::uint32_t record) const;

 private:
  std::uint32_t count_ = 0;
  const std::uint32_t* ends_ = nullptr;
  const std::uint16_t* types_ = nullptr;
  const std::int64_t* event_times_ = nullptr;
  const std::byte* payload_ = nullptr;
  const std::uint32_t* key_ends_ = nullptr;
  const std::byte* keys_ = nullptr;
  const std::uint32_t* header_ends_ = nullptr;
  const std::byte* headers_ = nullptr;
  Nanos event_time_min_ = 0;
};

}  // namespace millrace
