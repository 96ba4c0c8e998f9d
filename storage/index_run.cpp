#include "storage/index_run.hpp"

#include <algorithm>

namespace millrace {

OpenRun::OpenRun() : parts_(parts) {}

void OpenRun::begin(const SegmentFacts& segment) {
  segment_ = segment;
  end_lsn_ = segment.first_lsn;
  end_position_ = 0;
  first_time_ = last_time_ = 0;
  entries_.clear();
  streams_.clear();
  for (Part& part : parts_) {
    std::fill(part.slots.begin(), part.slots.end(), none);
    part.used = 0;
  }
}

void OpenRun::append(const BatchHeader& header, std::uint64_t position) {
  MR_ASSERT(header.lsn == end_lsn_.value && is_aligned(position, batch_align));
  if (end_lsn_ == segment_.first_lsn) first_time_ = header.leader_time;
  last_time_ = header.leader_time;
  end_lsn_ = end_lsn_.next();
  end_position_ = position + batch_span(header.body_bytes);
  if (header.kind != BatchKind::data) return;

  const StreamId id{header.stream_id};
  Part& part = parts_[part_of(id)];
  if (part.used * 2 >= part.slots.size()) grow(part);
  std::uint32_t& slot = part.slots[slot_of(part, id)];
  if (slot == none) {
    slot = stream_count();
    ++part.used;
    streams_.push_back({.facts = {.stream = id,
                                  .first_offset = Offset{header.first_offset},
                                  .first_id = RecordId{header.first_id},
                                  .first_time = header.leader_time}});
  }
  Stream& stream = streams_[slot];
  const std::uint32_t number = entry_count();
  entries_.push_back({.facts = {.first_offset = Offset{header.first_offset},
                                .leader_time = header.leader_time,
                                .event_time_min = header.event_time_min,
                                .event_time_max = header.event_time_max,
                                .position = static_cast<std::uint32_t>(position / batch_align),
                                .span = static_cast<std::uint32_t>(batch_span(header.body_bytes) / batch_align)}});
  if (stream.last == none) stream.first = number;
  else entries_[stream.last].next = number;
  stream.last = number;
  stream.facts.entries += 1;
  stream.facts.records += header.record_count;
  stream.facts.end_offset = Offset{header.first_offset + header.record_count};
  stream.facts.last_time = header.leader_time;
}

std::uint32_t OpenRun::find(StreamId stream) const {
  const Part& part = parts_[part_of(stream)];
  return part.slots.empty() ? none : part.slots[slot_of(part, stream)];
}

std::size_t OpenRun::memory_bytes() const {
  std::size_t total = entries_.memory_bytes() + streams_.memory_bytes();
  for (const Part& part : parts_) total += part.slots.capacity() * sizeof(std::uint32_t);
  return total;
}

// Stream ids are hashes: their high byte chose the part, their low bits choose the slot.
std::size_t OpenRun::slot_of(const Part& part, StreamId stream) const {
  const std::size_t mask = part.slots.size() - 1;
  std::size_t slot = stream.value & mask;
  while (part.slots[slot] != none && streams_[part.slots[slot]].facts.stream != stream) slot = (slot + 1) & mask;
  return slot;
}

void OpenRun::grow(Part& part) {
  std::vector<std::uint32_t> old(std::max<std::size_t>(16, part.slots.size() * 2), none);
  old.swap(part.slots);
  for (const std::uint32_t number : old)
    if (number != none) part.slots[slot_of(part, streams_[number].facts.stream)] = number;
}

}  // namespace millrace
