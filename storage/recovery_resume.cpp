// The second pass, after damage: every group, and every batch of a damaged group, that still verifies is found again, and
// what is lost between them is counted.
#include <algorithm>

#include "storage/recovery_machine.hpp"

namespace millrace {

bool SegmentRecovery::Machine::resume() {
  if (joining_) return join_tail_group();
  if (x_ >= limit_ || x_ >= nonzero_end_) {
    end_resume();
    return true;
  }
  if (!is_aligned(x_, block_bytes)) return resume_batch();
  Bytes here = at_least(block_bytes);
  if (here.empty()) return false;
  if (all_zero(here.first(block_bytes))) {
    x_ += block_bytes;
    return true;
  }
  Result<GroupHeader> header = read_group_header(here, x_, verdict_.segment_id);
  if (header) return resume_group(*header);
  hole_nonzero_ = true;
  if (x_ >= covered_upto_) {
    uncovered_ += block_bytes;
    covered_upto_ = x_ + block_bytes;
  }
  return resume_batch();
}

bool SegmentRecovery::Machine::resume_group(const GroupHeader& header) {
  bool fits = header.first_lsn >= end_.next_lsn && group_span(header) <= limit_ - x_;
  if (fits) {
    Bytes here = at_least(group_span(header));
    if (here.empty()) return false;
    Bytes group = here.first(group_span(header));
    if (check_group(header, group)) {
      note_evidence(header);
      close_hole(x_, header.first_lsn, x_ - hole_begin_);
      keep_group(header, group);
      hole_begin_ = x_;
      return true;
    }
  }
  note_evidence(header);
  if (x_ == hole_begin_) hole_has_header_ = true;
  hole_nonzero_ = true;
  covered_upto_ = x_ + group_span(header);
  x_ += group_header_bytes;
  return true;
}

/// Looks for a batch from x_ to the end of its block. A batch's own hashes prove it; its lsn must be one that is missing here,
/// so that a payload that happens to hold a copy of an older batch proves nothing.
bool SegmentRecovery::Machine::resume_batch() {
  std::uint64_t block_end = align_down(x_, block_bytes) + block_bytes;
  for (; x_ < block_end; x_ += batch_align) {
    Bytes here = at_least(batch_header_bytes);
    if (here.empty()) return false;
    if (here.size() < batch_header_bytes || load<std::uint32_t>(here) != batch_magic) continue;
    Result<BatchHeader> header = read_batch_header(here);
    std::uint64_t missing_max = (x_ - hole_begin_) / batch_header_bytes;
    if (!header || header->lsn < end_.next_lsn.value || header->lsn - end_.next_lsn.value > missing_max) continue;
    std::uint64_t span = batch_span(header->body_bytes);
    if (span <= limit_ - x_) {
      here = at_least(span);
      if (here.empty()) return false;
      Bytes body = here.subspan(batch_header_bytes, header->body_bytes);
      if (hash128(body) == header->body_hash) {
        close_hole(x_, Lsn{header->lsn}, x_ - hole_begin_);
        visit({*header, 0, here.first(span), body}, x_, BatchSource::salvaged);
        x_ += span;
        end_ = {x_, Lsn{header->lsn + 1}, Chain{header->chain}, end_.epoch};
        hole_begin_ = x_;
        return true;
      }
    }
    if (header->lsn > known_upto_.value) {
      visitor_.lost_batch(*header, x_);
      ++known_in_hole_;
      known_upto_ = Lsn{header->lsn};
    }
  }
  return true;
}

/// Tail groups are closed anew over what the segment holds there. Batches that continue them right behind are taken along.
bool SegmentRecovery::Machine::join_tail_group() {
  TailGroup& group = verdict_.tail_groups.back();
  if (x_ + batch_header_bytes > limit_) {
    stop_joining();
    return true;
  }
  Bytes here = at_least(batch_header_bytes);
  if (here.empty()) return false;
  Result<BatchHeader> header = read_batch_header(here);
  std::uint64_t span = header ? batch_span(header->body_bytes) : 0;
  if (!header || span > limit_ - x_ || group.length + span > group_bytes_max) {
    stop_joining();
    return true;
  }
  here = at_least(span);
  if (here.empty()) return false;
  BatchWalk walk(here.first(span), end_.next_lsn, end_.chain);
  Result<PlacedBatch> batch = walk.check_next();
  if (!batch) {
    stop_joining();
    return true;
  }
  visit(*batch, x_, BatchSource::salvaged);
  group.more.insert(group.more.end(), batch->whole.begin(), batch->whole.end());
  group.length += span;
  ++group.batches;
  group.chain_after = walk.chain();
  x_ += span;
  end_ = {x_, walk.next_lsn(), walk.chain(), end_.epoch};
  return true;
}

void SegmentRecovery::Machine::stop_joining() {
  joining_ = false;
  const TailGroup& group = verdict_.tail_groups.back();
  std::uint64_t end = group.file_offset + align_up(group.length, block_bytes);
  verdict_.cut_end = end;
  // The window begins at the block x_ is in; what lies before `end` was looked at.
  end_.position = end;
  hole_begin_ = end;
  if (end > wanted()) {
    window_.clear();
    window_at_ = end;
  }
  x_ = end;
}

/// Accounts for [hole_begin_, end): batches from the next lsn up to `end_lsn` are lost there. `record_bytes` is what their
/// records can have taken, 0 = unknown: how many offsets they can have had follows from it.
void SegmentRecovery::Machine::close_hole(std::uint64_t end, Lsn end_lsn, std::uint64_t record_bytes) {
  MR_ASSERT(end_lsn >= end_.next_lsn);
  std::uint64_t lost = end_lsn.value - end_.next_lsn.value;
  if (lost > 0) {
    if (verdict_.lost_batches == 0) verdict_.lost_first = end_.next_lsn;
    verdict_.lost_end = end_lsn;
    verdict_.lost_batches += lost;
    std::uint64_t unknown = lost - std::min(lost, known_in_hole_);
    std::uint64_t records = unknown * batch_records_max;
    // Every record has an end of four bytes.
    if (record_bytes > 0) records = std::min(records, record_bytes / sizeof(std::uint32_t));
    if (unknown > 0) verdict_.offset_bump += std::max<std::uint64_t>(records, 1);
  }
  if (lost > 0 || (hole_nonzero_ && !hole_has_header_ && end > hole_begin_))
    visitor_.lost({hole_begin_, std::max(end, hole_begin_), end_.next_lsn, end_lsn});
  end_.next_lsn = end_lsn;
  known_in_hole_ = 0;
  hole_nonzero_ = hole_has_header_ = false;
  uncovered_ = 0;
}

void SegmentRecovery::Machine::end_resume() {
  std::uint64_t hole_end = std::max(hole_begin_, std::min(nonzero_end_, limit_));
  std::uint64_t bytes = hole_end - hole_begin_;
  Lsn end_lsn = std::max({end_.next_lsn, durable_, groups_end_lsn_});
  if (known_in_hole_ > 0) end_lsn = std::max(end_lsn, known_upto_.next());
  // Bytes that nothing explains may have held acknowledged batches: their numbers are never used again.
  if (uncovered_ > 0) end_lsn = std::max(end_lsn, end_.next_lsn.next(uncovered_ / batch_header_bytes));
  if (input_.expected_end) end_lsn = std::max(end_.next_lsn, input_.expected_end->next_lsn);
  std::uint64_t lost = end_lsn.value - end_.next_lsn.value;
  close_hole(hole_end, end_lsn, lost <= bytes / batch_header_bytes ? bytes : 0);
  bool here = verdict_.go_on_here;
  finish(verdict_.row);
  verdict_.go_on_here = here;
}

}  // namespace millrace
