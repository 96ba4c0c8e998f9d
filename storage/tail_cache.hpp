// The newest batches of a shard in memory, so that whoever follows the tail never touches the disk. A bounded window over
// the log's end: batches enter in lsn order and leave from the front. Every batch is linked to the next one of its stream,
// so a follower of one thin stream among ten thousand steps over the others without looking at them.
//
// Memory: the constructor takes all there will ever be; append allocates nothing. A batch is either copied into the ring
// (append) or referred to where it stands (append_in_place: the owner keeps the bytes until it tells forget_in).
// One cache uses one of the two ways.
//
// The cache holds bytes that are not durable yet: its users compare lsn with the durable watermark. What the segment file
// does not hold yet (appended, or durable in the tail only) must be here: the ring is larger than the log may have pending.
//
// Thread: the shard's. A Bytes or Entry pointer is good until the next append, forget_before or clear.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "storage/place.hpp"

namespace millrace {

struct TailCacheOptions {
  std::size_t ring_bytes = 32 * MiB;      // 0 = batches are referred to in place
  std::uint32_t batches_max = 64 * 1024;  // also the most streams it can hold; a power of two
};

class TailCache {
 public:
  struct Entry {
    StreamId stream{};
    Offset first_offset{};
    RecordId first_id{};
    std::uint32_t record_count = 0;
    BatchKind kind{};
    Day day{};
    Nanos leader_time = 0;
    SegmentKey segment{};
    std::uint64_t position = 0;
    Bytes bytes;  // header, body and padding as on disk
    Lsn lsn{};
    Lsn previous_in_stream{};  // 0 = none, or not in the cache any more: compare with first()
    Lsn next_in_stream{};      // 0 = this is the stream's newest
    Offset end_offset() const { return first_offset.next(record_count); }
  };

  explicit TailCache(const TailCacheOptions& options);
  TailCache(const TailCache&) = delete;
  TailCache& operator=(const TailCache&) = delete;

  /// Takes the log's next batch; `header.lsn` follows the last one's (or begins anew after clear()). Oldest batches leave
  /// when space runs out; a batch larger than the ring empties it and is not kept.
  void append(const BatchHeader& header, Bytes batch, SegmentKey segment, std::uint64_t position);
  /// The same without a copy.
  void append_in_place(const BatchHeader& header, Bytes batch, SegmentKey segment, std::uint64_t position);
  /// This memory is about to be overwritten: the batches in it leave, and all before them. They are the oldest held.
  void forget_in(Bytes memory);
  /// Every batch with a smaller lsn leaves.
  void forget_before(Lsn lsn);
  /// Everything leaves; the next batch has this lsn.
  void clear(Lsn next);

  /// The batches held: first() <= lsn < end().
  Lsn first() const { return first_; }
  Lsn end() const { return end_; }
  /// nullptr when not held.
  const Entry* find(Lsn lsn) const;
  /// The stream's newest batch held, or nullptr.
  const Entry* newest(StreamId stream) const;
  /// The stream's first batch held that ends after `offset`; nullptr when there is none, or when an earlier batch that does may
  /// have left already: the answer is complete only down to what is held of the stream.
  const Entry* seek(StreamId stream, Offset offset) const;

  std::size_t bytes_used() const { return used_; }
  /// Memory taken at construction.
  std::size_t memory_bytes() const;

 private:
  struct StreamSlot {  // open addressing, linear probing
    StreamId stream{};
    Lsn newest{};  // 0 = free
  };
  Entry& at(Lsn lsn) { return entries_[lsn.value & mask_]; }
  const Entry& at(Lsn lsn) const { return entries_[lsn.value & mask_]; }
  Entry& link(const BatchHeader& header, SegmentKey segment, std::uint64_t position);
  void drop_first();
  std::size_t slot_of(StreamId stream) const;
  void erase_slot(std::size_t slot);

  std::uint64_t mask_;
  std::vector<std::byte> ring_;
  std::vector<Entry> entries_;
  std::vector<StreamSlot> streams_;
  Lsn first_{1};
  Lsn end_{1};
  std::size_t head_ = 0;  // where the next batch goes in the ring
  std::size_t used_ = 0;  // bytes of the batches held
};

}  // namespace millrace
