#include "storage/committer.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/bytes.hpp"
#include "base/mutant.hpp"

namespace millrace {

void CommitActions::add(const CommitAction& action) {
  MR_ASSERT(count_ < actions_max);
  actions_[count_++] = action;
}

Committer::Committer(const CommitterConfig& config, Lsn durable, std::uint64_t next_slot)
    : config_(config), durable_(durable), next_slot_(next_slot) {
  MR_ASSERT(config.ring_bytes >= 2 * config.sizes.slot_pending_max && is_aligned(config.ring_bytes, block_bytes));
}

std::uint32_t Committer::in_flight() const {
  return static_cast<std::uint32_t>(std::count_if(writes_.begin(), writes_.end(), [](auto& w) { return w.busy; }));
}

bool Committer::settled() const {
  if (in_flight() != 0) return false;
  for (std::uint64_t number = oldest_; number < newest_; ++number)
    if (group(number).end > group(number).first) return false;
  return true;
}

std::uint64_t Committer::waiting_bytes() const {
  std::uint64_t bytes = 0;
  for (std::uint64_t number = next_submit_; number < newest_; ++number) bytes += group(number).bytes;
  return bytes;
}

CommitActions Committer::step(const CommitEvent& event) {
  CommitActions actions;
  switch (event.kind) {
    case CommitEvent::Kind::group_opened: open_group(event); break;
    case CommitEvent::Kind::batch_appended: appended(event.bytes, event.end, event.now); break;
    case CommitEvent::Kind::group_closed:
      MR_ASSERT(has_open() && group(newest_ - 1).end > group(newest_ - 1).first);
      group(newest_ - 1).closed = true;
      break;
    case CommitEvent::Kind::segment_ready:
      for (std::uint64_t number = oldest_; number < newest_; ++number) group(number).ready = true;
      break;
    case CommitEvent::Kind::move_wanted: move_wanted_ = true; break;
    case CommitEvent::Kind::turn_ended: flush(actions, event.now); break;
    case CommitEvent::Kind::write_done:
    case CommitEvent::Kind::write_failed: complete(actions, event); break;
  }
  return actions;
}

void Committer::appended(std::uint32_t bytes, Lsn end, Nanos now) {
  MR_ASSERT(has_open());
  Group& open = group(newest_ - 1);
  MR_ASSERT(bytes > open.bytes && end > open.end);
  open.bytes = bytes;
  open.end = end;
  last_append_ = now;
}

void Committer::resume(const HeldGroup& held) {
  MR_ASSERT(config_.follows && newest_ == 0 && held.end > held.first && durable_ == held.first);
  MR_ASSERT(held.ring_next <= config_.ring_bytes && held.ring_live <= config_.ring_bytes);
  Group resumed;
  resumed.bytes = resumed.covered = held.bytes;
  resumed.first = held.first;
  resumed.end = resumed.covered_end = durable_ = held.end;
  resumed.ready = true;
  group(newest_++) = resumed;
  ring_next_ = held.ring_next;
  ring_live_ = held.ring_live;
}

void Committer::begin_at(Lsn first) {
  MR_ASSERT(newest_ == 0);
  durable_ = first;
}

void Committer::open_group(const CommitEvent& event) {
  MR_ASSERT(!has_open() && !full() && event.group == newest_);
  Group opened;
  opened.bytes = opened.covered = event.bytes;
  opened.first = opened.end = opened.covered_end = event.end;
  opened.first_of_segment = event.first_of_segment;
  opened.ready = !event.first_of_segment;
  group(newest_++) = opened;
}

void Committer::flush(CommitActions& actions, Nanos now) {
  if (failed_) return;
  // A second round only helps when the first one went to a free slot and enough still waits.
  while (in_flight() < writes_max && flush_one(actions)) {
  }
  if (in_flight() == 0) lull(actions, now);
}

bool Committer::flush_one(CommitActions& actions) {
  if (next_submit_ == newest_) return false;
  const Group& next = group(next_submit_);
  if (next.end == next.first) return false;
  const bool busy = in_flight() > 0;
  // The header of a segment's first group vouches for everything before it, so nothing before it may be undecided.
  if (next.first_of_segment && (busy || !next.ready)) return false;
  const bool small = next.bytes < config_.sizes.slot_pending_max;
  if (config_.follows && !next.closed && (next.first_of_segment || !small)) return false;
  if (!next.closed && !next.first_of_segment && !move_wanted_ && small) {
    if (next.end == next.covered_end || busy) return false;
    if (submit_slot(actions)) return true;
    if (config_.follows) return false;
  } else if (busy && waiting_bytes() < config_.sizes.second_write_min) {
    return false;
  }
  submit_group(actions);
  return true;
}

std::uint32_t Committer::take_ticket() {
  std::uint32_t ticket = 0;
  while (writes_[ticket].busy) ++ticket;
  MR_ASSERT(ticket < writes_max);
  return ticket;
}

void Committer::submit_group(CommitActions& actions) {
  Group& next = group(next_submit_);
  CommitAction action;
  action.kind = CommitAction::Kind::write_group;
  action.closes = !next.closed;
  action.group = next_submit_++;
  action.ticket = take_ticket();
  action.first = next.first;
  action.to = next.bytes;
  action.durable = durable_;
  next.closed = true;
  writes_[action.ticket] = {true, false, action.group, true, next.first, next.end, durable_};
  actions.add(action);
}

// Room for `bytes` in the ring that overwrites no slot whose bytes are in the tail alone; slots never wrap.
bool Committer::place_slot(std::uint64_t bytes, std::uint64_t& ring_at) {
  if (mutant("tail_overwrite_early")) {
    ring_at = 0;
    return true;
  }
  const bool wraps = ring_next_ + bytes > config_.ring_bytes;
  const std::uint64_t skipped = wraps ? config_.ring_bytes - ring_next_ : 0;
  if (ring_live_ + skipped + bytes > config_.ring_bytes) return false;
  ring_at = wraps ? 0 : ring_next_;
  ring_next_ = ring_at + bytes;
  // Before the first live slot nothing is counted: it may be overwritten.
  const bool live = next_submit_ < newest_ && group(next_submit_).covered_end > group(next_submit_).first;
  ring_live_ = live ? ring_live_ + skipped + bytes : bytes;
  return true;
}

bool Committer::submit_slot(CommitActions& actions) {
  Group& open = group(next_submit_);
  CommitAction action;
  if (!place_slot(align_up(slot_header_bytes + open.bytes - open.covered, block_bytes), action.ring_at)) return false;
  action.kind = CommitAction::Kind::write_slot;
  action.group = next_submit_;
  action.ticket = take_ticket();
  action.from = open.covered;
  action.to = open.bytes;
  action.first = open.covered_end;
  action.durable = durable_;
  action.slot = next_slot_++;
  writes_[action.ticket] = {true, false, action.group, false, open.covered_end, open.end, durable_};
  open.covered = open.bytes;
  open.covered_end = open.end;
  actions.add(action);
  return true;
}

void Committer::lull(CommitActions& actions, Nanos now) {
  const bool has_pending = next_submit_ < newest_ && group(next_submit_).end > group(next_submit_).first;
  if (has_pending && group(next_submit_).end > group(next_submit_).covered_end) return;
  if (has_pending && !config_.follows && now >= last_append_ + config_.move_after) {
    submit_group(actions);
    return;
  }
  if (recorded_ >= durable_ || now < last_append_ + config_.record_end_after || !may_record_end()) return;
  CommitAction action;
  if (!place_slot(block_bytes, action.ring_at)) {
    submit_group(actions);  // the ring is full of what this group still has in the tail alone
    return;
  }
  action.kind = CommitAction::Kind::write_end;
  action.group = next_submit_;
  action.ticket = take_ticket();
  action.first = durable_;
  action.durable = durable_;
  action.slot = next_slot_++;
  writes_[action.ticket] = {true, false, action.group, false, durable_, durable_, durable_};
  actions.add(action);
}

Nanos Committer::deadline() const {
  if (failed_ || in_flight() > 0) return 0;
  if (recorded_ < durable_ && may_record_end()) return last_append_ + config_.record_end_after;
  if (config_.follows) return 0;
  const bool in_tail = next_submit_ < newest_ && group(next_submit_).end > group(next_submit_).first;
  return in_tail ? last_append_ + config_.move_after : 0;
}

void Committer::complete(CommitActions& actions, const CommitEvent& event) {
  MR_ASSERT(event.ticket < writes_max && writes_[event.ticket].busy && !writes_[event.ticket].done);
  Write& write = writes_[event.ticket];
  if (event.kind == CommitEvent::Kind::write_failed || failed_) {
    // Nothing of what is in flight counts any more: recovery decides from the bytes on the device.
    write.busy = false;
    if (failed_) return;
    failed_ = true;
    CommitAction action;
    action.kind = CommitAction::Kind::failed;
    action.durable = durable_;
    actions.add(action);
    return;
  }
  write.done = true;
  Lsn before = durable_;
  if (mutant("ack_out_of_order")) durable_ = std::max(durable_, write.end);
  recorded_ = std::max(recorded_, write.recorded);
  if (write.is_group) group(write.group).written = true;
  for (bool moved = true; moved;) {
    moved = false;
    for (Write& other : writes_) {
      if (!other.busy || !other.done || other.from > durable_) continue;
      durable_ = std::max(durable_, other.end);
      other.busy = false;
      moved = true;
    }
  }
  settle_groups();
  if (durable_ > before) {
    CommitAction action;
    action.kind = CommitAction::Kind::durable;
    action.durable = durable_;
    actions.add(action);
  }
}

void Committer::settle_groups() {
  while (oldest_ < next_submit_ && group(oldest_).written) {
    // The slots that held bytes of this group may be overwritten now.
    if (group(oldest_).covered_end > group(oldest_).first) ring_live_ = 0;
    ++oldest_;
  }
}

}  // namespace millrace
