// The decision: what the first pass found becomes a row of the table. The argument for each is in storage/RECOVERY.md.
#include <algorithm>

#include "base/mutant.hpp"
#include "storage/recovery_machine.hpp"

namespace millrace {

std::uint64_t SegmentRecovery::Machine::in_flight_max() const {
  std::uint64_t stated = verdict_.header_readable ? verdict_.header.in_flight_bytes_max : 0;
  return stated != 0 ? stated : input_.in_flight_bytes_max;
}

void SegmentRecovery::Machine::decide() {
  verdict_.prefix_end = verdict_.header_readable ? end_.position : 0;
  verdict_.nonzero_end = nonzero_end_;
  if (!verdict_.header_readable) return decide_headless();
  if (input_.expected_end) return decide_closed();
  decide_open();
}

void SegmentRecovery::Machine::decide_open() {
  std::uint64_t prefix_end = end_.position;
  bool silent = nonzero_end_ <= prefix_end;
  durable_ = std::max(durable_, tail_.durable_end());

  LogEnd after = end_;
  std::optional<TailGroup> group = tail_.take(verdict_.segment_id, after);
  // Slots hold the front of a group that ends before the next one begins; others lie.
  bool collides = group && first_group_behind_ != 0 && first_group_behind_ < after.position;
  bool extends = group && !collides && after.position <= limit_;
  if (extends) place_tail_group(std::move(*group), after);

  bool damaged = end_.next_lsn < durable_;
  bool far = nonzero_end_ > prefix_end && nonzero_end_ - prefix_end > in_flight_max();
  if (mutant("first_bad_truncation")) {
    damaged = collides = far = false;
    explained_ = true;
  }
  if (!damaged && !collides && !far && (silent || explained_)) {
    verdict_.cut_begin = prefix_end;
    verdict_.cut_end = std::max(prefix_end, nonzero_end_);
    if (silent) return finish(extends ? RecoveryRow::tail_extends : RecoveryRow::clean_end);
    return finish(extends ? RecoveryRow::tail_then_cut : RecoveryRow::torn_cut);
  }
  // Closing tail groups anew overwrites what stands there: it goes to quarantine first.
  if (extends && !silent) {
    verdict_.cut_begin = prefix_end;
    verdict_.cut_end = end_.position;
  }
  hole_begin_ = end_.position;
  std::size_t groups = verdict_.tail_groups.size();
  if (damaged && silent) take_tail_after_gaps();
  RecoveryRow row = RecoveryRow::unexplainable_group;
  if (damaged) row = verdict_.tail_groups.size() > groups ? RecoveryRow::damaged_tail : RecoveryRow::damaged_durable;
  else if (far) row = RecoveryRow::unexplainable_far;
  joining_ = extends && !silent;
  begin_resume(row, joining_ ? prefix_end + verdict_.tail_groups.back().length : end_.position);
}

/// The header block says nothing: either this segment's first write was torn, or the block is damaged.
void SegmentRecovery::Machine::decide_headless() {
  Lsn told = input_.first_lsn.value != 0 ? input_.first_lsn : std::max(first_group_lsn_, Lsn{1});
  Lsn base = input_.previous ? input_.previous->next_lsn : told;
  end_ = {0, base, input_.previous ? input_.previous->chain : Chain{}, Epoch{}};
  // Without a predecessor only slots of this very segment say something about it.
  if (input_.previous) durable_ = std::max(durable_, tail_.durable_end());
  else if (!verdict_.segment_id.is_zero()) durable_ = std::max(durable_, tail_.durable_end(&verdict_.segment_id));

  bool damaged = durable_ > base;
  if (!damaged && header_zero_) {
    if (nonzero_end_ == 0) return finish(RecoveryRow::clean_empty);
    if (nonzero_end_ <= block_bytes + in_flight_max()) {
      verdict_.cut_end = nonzero_end_;
      return finish(RecoveryRow::torn_header);
    }
  }
  verdict_.begun = nonzero_end_ != 0;
  if (verdict_.begun) end_.position = block_bytes;
  RecoveryRow row = nonzero_end_ == 0 ? RecoveryRow::damaged_durable : RecoveryRow::damaged_header;
  if (input_.expected_end) row = RecoveryRow::closed_damaged;
  begin_resume(row, std::min(limit_, std::uint64_t{block_bytes}));
}

void SegmentRecovery::Machine::decide_closed() {
  const SegmentEnd& expected = *input_.expected_end;
  bool reached = end_.position == expected.length;
  if (reached && (end_.chain != expected.chain || end_.next_lsn > expected.next_lsn))
    return finish(RecoveryRow::closed_mismatch);
  if (reached && end_.next_lsn == expected.next_lsn) return finish(RecoveryRow::closed_ok);
  begin_resume(RecoveryRow::closed_damaged, end_.position);
}

/// Visits what the slots hold and keeps the group for opening to close anew.
void SegmentRecovery::Machine::place_tail_group(TailGroup group, const LogEnd& after) {
  std::uint64_t position = group.file_offset + group_header_bytes;
  for (Bytes piece : group.pieces) {
    BatchWalk walk(piece, Lsn{}, Chain{});
    while (!walk.at_end()) {
      PlacedBatch batch = walk.next_checked();
      visit(batch, position + batch.at, BatchSource::tail);
    }
    position += piece.size();
  }
  verdict_.tail_groups.push_back(std::move(group));
  end_ = after;
}

/// Slots behind a damaged one still hold good batches; they are closed into groups of their own.
void SegmentRecovery::Machine::take_tail_after_gaps() {
  while (end_.next_lsn < durable_) {
    LogEnd after = end_;
    std::optional<TailGroup> group = tail_.take_after_gap(verdict_.segment_id, after);
    if (!group || after.position > limit_) return;
    close_hole(end_.position, group->first_lsn, input_.tail.size());
    place_tail_group(std::move(*group), after);
    hole_begin_ = end_.position;
  }
}

void SegmentRecovery::Machine::begin_resume(RecoveryRow row, std::uint64_t from) {
  verdict_.row = row;
  verdict_.damaged = true;
  verdict_.go_on_here = !verdict_.begun;
  hole_begin_ = from;
  // Nothing stands behind: what is lost is lost without a trace.
  if (nonzero_end_ <= from || from >= limit_) return end_resume();
  x_ = from;
  window_.clear();
  window_at_ = align_down(from, block_bytes);
  phase_ = Phase::resume;
}

void SegmentRecovery::Machine::finish(RecoveryRow row) {
  verdict_.row = row;
  RecoveryAction action = recovery_row_text(row).action;
  if (action == RecoveryAction::go_on || action == RecoveryAction::cut_go_on) verdict_.go_on_here = true;
  if (row == RecoveryRow::closed_mismatch) verdict_.damaged = true;
  verdict_.content_end = verdict_.begun ? align_up(end_.position, block_bytes) : 0;
  verdict_.next_lsn = end_.next_lsn;
  verdict_.chain = end_.chain;
  verdict_.last_epoch = end_.epoch;
  verdict_.durable_known = durable_;
  verdict_.slots_taken = tail_.taken();
  verdict_.slots_dead = tail_.slots().size() - tail_.taken();
  phase_ = Phase::done;
}

}  // namespace millrace
