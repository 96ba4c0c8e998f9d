// What a writer does for copies: its groups as they were submitted, and, where it writes a copy itself, groups that a leader
// closes.
#include <cstring>

#include "base/assert.hpp"
#include "storage/log_writer.hpp"

namespace millrace {

std::optional<SubmittedGroup> LogWriter::submitted(SegmentKey key, std::uint64_t offset) const {
  for (std::uint64_t number = first_group_; number < next_group_; ++number) {
    const Group& group = groups_[number % Committer::groups_max];
    if (!group.segment || group.segment->key != key || group.offset != offset || group.submitted == 0) continue;
    SubmittedGroup found;
    found.key = key;
    found.segment = &group.segment->header;
    found.offset = offset;
    found.closed = group.final;
    found.first = group.first;
    found.before = group.before;
    found.bytes = {group.buffer.group, group.submitted};
    return found;
  }
  return std::nullopt;
}

void LogWriter::begin_at(Lsn first, Chain chain) {
  MR_ASSERT(follows_ && segment_ == nullptr && next_group_ == 0);
  marks_ = WatermarkKeeper(first);
  committer_.begin_at(first);
  chain_ = chain;
}

LogWriter::Room LogWriter::resume_group(const PendingGroup& pending) {
  MR_ASSERT(follows_ && segment_ != nullptr && next_group_ == 0 && pending.offset == segment_->end);
  const GroupBuffer buffer = staging_.take(group_header_bytes + pending.batches.size());
  if (!buffer) return Room::no_memory;
  tell_reused(buffer);
  Group& opened = group(next_group_++);
  opened = Group{};
  opened.buffer = buffer;
  opened.segment = segment_;
  opened.offset = open_offset_ = segment_->end;
  opened.first = marks_.marks().appended;
  opened.before = chain_;
  open_bytes_ = group_header_bytes;
  open_ = resuming_ = true;
  return Room::ready;
}

// The committer hears of the whole group at once: nothing of it goes to the tail again.
void LogWriter::resumed(const PendingGroup& pending) {
  MR_ASSERT(resuming_);
  resuming_ = false;
  const Group& opened = group(next_group_ - 1);
  HeldGroup held;
  held.bytes = static_cast<std::uint32_t>(open_bytes_);
  held.first = opened.first;
  held.end = marks_.marks().appended;
  held.ring_next = pending.ring_next;
  held.ring_live = pending.ring_live;
  committer_.resume(held);
  covered_chain_ = chain_;
  const bool moved = marks_.make_durable(held.end);
  MR_ASSERT(moved);
}

GroupHeader LogWriter::expected_header(std::uint32_t more, std::uint64_t more_bytes, Chain chain) const {
  const bool open = open_;
  const Group& opened = groups_[(next_group_ - 1) % Committer::groups_max];
  GroupHeader header;
  header.batches = (open ? opened.batches : 0) + more;
  header.segment_id = segment_->header.segment_id;
  header.file_offset = open ? open_offset_ : segment_->end;
  header.first_lsn = open ? opened.first : marks_.marks().appended;
  header.chain_before = open ? opened.before : chain_;
  header.length = (open ? open_bytes_ : group_header_bytes) + more_bytes;
  header.chain_after = chain;
  return header;
}

void LogWriter::close_group(const GroupHeader& header) {
  MR_ASSERT(follows_ && open_ && header.length == open_bytes_ && header.chain_after == chain_);
  group(next_group_ - 1).given = header;
  close_group();
}

}  // namespace millrace
