#include "storage/tail_cache.hpp"

#include <bit>
#include <cstring>

namespace millrace {

TailCache::TailCache(const TailCacheOptions& options)
    : mask_(options.batches_max - 1),
      ring_(options.ring_bytes),
      entries_(options.batches_max),
      // Every batch held may be of another stream; half empty keeps probes short.
      streams_(std::size_t{2} * options.batches_max) {
  MR_ASSERT(options.batches_max >= 2 && std::has_single_bit(options.batches_max));
  MR_ASSERT(is_aligned(options.ring_bytes, batch_align));
}

void TailCache::append(const BatchHeader& header, Bytes batch, SegmentKey segment, std::uint64_t position) {
  MR_ASSERT(!ring_.empty() && batch.size() == batch_span(header.body_bytes));
  if (batch.size() > ring_.size()) {
    clear(Lsn{header.lsn + 1});
    return;
  }
  if (head_ + batch.size() > ring_.size()) {
    // A batch is one piece of memory: what is left at the ring's end stays unused this time round.
    while (first_ != end_ && at(first_).bytes.data() >= ring_.data() + head_) drop_first();
    head_ = 0;
  }
  const std::byte* begin = ring_.data() + head_;
  forget_in({begin, batch.size()});
  std::memcpy(ring_.data() + head_, batch.data(), batch.size());
  link(header, segment, position).bytes = {begin, batch.size()};
  head_ += batch.size();
  used_ += batch.size();
}

void TailCache::append_in_place(const BatchHeader& header, Bytes batch, SegmentKey segment, std::uint64_t position) {
  MR_ASSERT(ring_.empty() && batch.size() == batch_span(header.body_bytes));
  link(header, segment, position).bytes = batch;
  used_ += batch.size();
}

TailCache::Entry& TailCache::link(const BatchHeader& header, SegmentKey segment, std::uint64_t position) {
  if (first_ == end_) {
    first_ = end_ = Lsn{header.lsn};
  }
  MR_ASSERT(end_.value == header.lsn);
  if (end_.value - first_.value == entries_.size()) drop_first();
  Entry& entry = at(end_);
  entry = Entry{.stream = StreamId{header.stream_id},
                .first_offset = Offset{header.first_offset},
                .first_id = RecordId{header.first_id},
                .record_count = header.record_count,
                .kind = header.kind,
                .day = Day{header.day},
                .leader_time = header.leader_time,
                .segment = segment,
                .position = position,
                .bytes = {},
                .lsn = end_,
                .previous_in_stream = {},
                .next_in_stream = {}};
  StreamSlot& slot = streams_[slot_of(entry.stream)];
  if (slot.newest.value != 0) {
    entry.previous_in_stream = slot.newest;
    at(slot.newest).next_in_stream = end_;
  }
  slot = {entry.stream, end_};
  end_ = end_.next();
  return entry;
}

void TailCache::drop_first() {
  Entry& entry = at(first_);
  if (entry.next_in_stream.value == 0) erase_slot(slot_of(entry.stream));
  else at(entry.next_in_stream).previous_in_stream = Lsn{};
  used_ -= entry.bytes.size();
  first_ = first_.next();
}

void TailCache::forget_in(Bytes memory) {
  while (first_ != end_) {
    const Bytes oldest = at(first_).bytes;
    if (oldest.data() + oldest.size() <= memory.data() || oldest.data() >= memory.data() + memory.size()) break;
    drop_first();
  }
}

void TailCache::forget_before(Lsn lsn) {
  while (first_ != end_ && first_ < lsn) drop_first();
}

void TailCache::clear(Lsn next) {
  forget_before(end_);
  first_ = end_ = next;
  head_ = 0;
}

const TailCache::Entry* TailCache::find(Lsn lsn) const { return lsn >= first_ && lsn < end_ ? &at(lsn) : nullptr; }

const TailCache::Entry* TailCache::newest(StreamId stream) const {
  const StreamSlot& slot = streams_[slot_of(stream)];
  return slot.newest.value == 0 ? nullptr : &at(slot.newest);
}

const TailCache::Entry* TailCache::seek(StreamId stream, Offset offset) const {
  const Entry* entry = newest(stream);
  if (entry == nullptr || entry->end_offset() <= offset) return nullptr;
  while (entry->first_offset > offset) {
    if (entry->previous_in_stream.value == 0) return nullptr;
    const Entry* before = &at(entry->previous_in_stream);
    if (before->end_offset() <= offset) return entry;
    entry = before;
  }
  return entry;
}

std::size_t TailCache::memory_bytes() const {
  return ring_.size() + entries_.size() * sizeof(Entry) + streams_.size() * sizeof(StreamSlot);
}

// Stream ids are hashes already: their low bits choose the slot.
std::size_t TailCache::slot_of(StreamId stream) const {
  const std::size_t mask = streams_.size() - 1;
  std::size_t slot = stream.value & mask;
  while (streams_[slot].newest.value != 0 && streams_[slot].stream != stream) slot = (slot + 1) & mask;
  return slot;
}

// Moves the slots behind back over the hole, so that probing needs no tombstones.
void TailCache::erase_slot(std::size_t slot) {
  const std::size_t mask = streams_.size() - 1;
  std::size_t hole = slot;
  for (std::size_t next = (slot + 1) & mask; streams_[next].newest.value != 0; next = (next + 1) & mask) {
    const std::size_t home = streams_[next].stream.value & mask;
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    streams_[hole] = streams_[next];
    hole = next;
  }
  streams_[hole] = {};
}

}  // namespace millrace
