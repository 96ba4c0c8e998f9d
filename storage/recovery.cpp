#include "storage/recovery.hpp"

#include <algorithm>

#include "storage/recovery_machine.hpp"

namespace millrace {

namespace {

constexpr std::size_t sector_bytes = 512;  // what a disk writes whole or not at all

bool has_zero_sector(Bytes bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += sector_bytes)
    if (all_zero(bytes.subspan(at, std::min(sector_bytes, bytes.size() - at)))) return true;
  return false;
}

}  // namespace

SegmentRecovery::Machine::Machine(const RecoveryInput& input, RecoveryVisitor& visitor)
    : input_(input), visitor_(visitor), limit_(align_up(input.file_bytes, block_bytes)) {
  durable_ = input.known_durable;
  if (input_.expected_end) {
    durable_ = std::max(durable_, input_.expected_end->next_lsn);
    limit_ = std::min(limit_, align_up(input_.expected_end->length, block_bytes));
  }
  Result<TailScan> tail = TailScan::read(input_.tail, input_.log_id, input_.shard, input_.purpose);
  if (!tail) {
    bool newer = tail.error() == Error::unsupported_version;
    refuse(newer ? RecoveryRow::unsupported : RecoveryRow::foreign, tail.error());
    return;
  }
  tail_ = std::move(*tail);
  verdict_.slot_number = tail_.highest_number();
  if (limit_ == 0) {
    header_zero_ = true;
    decide();
  }
}

void SegmentRecovery::Machine::feed(std::uint64_t offset, Bytes bytes) {
  MR_ASSERT(!done() && offset == wanted() && !bytes.empty() && bytes.size() <= recovery_feed_max);
  MR_ASSERT(is_aligned(bytes.size(), block_bytes) || offset + bytes.size() == input_.file_bytes);
  // What was looked at leaves only when it is the larger part, so that a large group fed in small pieces moves seldom.
  std::size_t used = x_ - window_at_;
  if (used >= window_.size() - used) {
    window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(used));
    window_at_ = x_;
  }
  std::size_t take = std::min<std::uint64_t>(bytes.size(), limit_ - offset);
  window_.insert(window_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
  // A file whose length is no multiple of 4 KiB (a copy that was cut short) reads as zeros behind its end.
  if (wanted() == input_.file_bytes) window_.resize(align_up(window_.size() + window_at_, block_bytes) - window_at_);
  while (!done() && step()) {
  }
}

Bytes SegmentRecovery::Machine::at_least(std::uint64_t bytes) const {
  MR_ASSERT(x_ >= window_at_ && x_ < limit_);
  Bytes here = Bytes(window_).subspan(x_ - window_at_);
  return here.size() >= std::min(bytes, limit_ - x_) ? here : Bytes{};
}

bool SegmentRecovery::Machine::step() {
  switch (phase_) {
    case Phase::header: return read_header();
    case Phase::prefix: return read_group();
    case Phase::probe: return probe_block();
    case Phase::resume: return resume();
    case Phase::done: break;
  }
  return false;
}

void SegmentRecovery::Machine::refuse(RecoveryRow row, Error error) {
  verdict_.row = row;
  verdict_.refused = error;
  phase_ = Phase::done;
}

bool SegmentRecovery::Machine::read_header() {
  Bytes here = at_least(block_bytes);
  if (here.empty()) return false;
  Bytes block = here.first(block_bytes);
  Result<SegmentHeader> header = read_segment_header(block, input_.purpose);
  if (!header && header.error() == Error::unsupported_version) {
    refuse(RecoveryRow::unsupported, Error::unsupported_version);
    return true;
  }
  if (!header) {
    header_zero_ = all_zero(block);
    phase_ = Phase::probe;
    return true;
  }
  bool ours = header->log_id == input_.log_id && header->shard == input_.shard;
  if (ours && input_.previous)
    ours = header->previous_segment_id == input_.previous->segment_id && header->first_lsn >= input_.previous->next_lsn;
  if (!ours) {
    refuse(RecoveryRow::foreign, Error::foreign);
    return true;
  }
  verdict_.header = *header;
  verdict_.header_readable = true;
  verdict_.begun = true;
  verdict_.segment_id = header->segment_id;
  x_ = block_bytes;
  nonzero_end_ = block_bytes;
  end_ = {block_bytes, header->first_lsn, first_chain(*header), header->epoch};
  phase_ = Phase::prefix;
  if (x_ == limit_) decide();
  return true;
}

/// The valid prefix ends at x_.
void SegmentRecovery::Machine::stop_prefix(bool explained) {
  explained_ = explained;
  phase_ = Phase::probe;
}

bool SegmentRecovery::Machine::read_group() {
  Bytes here = at_least(block_bytes);
  if (here.empty()) return false;
  Result<GroupHeader> header = read_group_header(here, x_, verdict_.segment_id);
  if (!header) {
    // A sector is written whole or not at all: an unwritten one reads as zeros, and a written one verifies.
    stop_prefix(all_zero(here.first(sector_bytes)));
    return true;
  }
  bool continues =
      header->first_lsn == end_.next_lsn && header->chain_before == end_.chain && group_span(*header) <= limit_ - x_;
  if (!continues) {
    stop_prefix(false);
    return true;
  }
  here = at_least(group_span(*header));
  if (here.empty()) return false;
  Bytes group = here.first(group_span(*header));
  if (!check_group(*header, group)) {
    stop_prefix(has_zero_sector(group.first(header->length)));
    return true;
  }
  note_evidence(*header);
  keep_group(*header, group);
  nonzero_end_ = x_;
  if (x_ == limit_) decide();
  return true;
}

void SegmentRecovery::Machine::note_evidence(const GroupHeader& header) {
  if (epoch_led(input_.epochs_led, header.epoch)) durable_ = std::max(durable_, header.durable_upto);
  groups_end_lsn_ = std::max(groups_end_lsn_, group_end_lsn(header));
}

void SegmentRecovery::Machine::visit(const PlacedBatch& batch, std::uint64_t position, BatchSource source) {
  ++verdict_.batches;
  verdict_.records += batch.header.record_count;
  verdict_.last_leader_time = std::max(verdict_.last_leader_time, batch.header.leader_time);
  visitor_.batch({batch.header, position, source, batch.whole, batch.body});
}

/// The group at x_ verifies: its batches are the log's.
void SegmentRecovery::Machine::keep_group(const GroupHeader& header, Bytes group) {
  ++verdict_.groups;
  visitor_.group(header, group);
  Bytes batches = group.subspan(group_header_bytes, header.length - group_header_bytes);
  BatchWalk walk(batches, header.first_lsn, header.chain_before);
  while (!walk.at_end()) {
    PlacedBatch batch = walk.next_checked();
    visit(batch, x_ + group_header_bytes + batch.at, BatchSource::segment);
  }
  x_ += group.size();
  // A group closed anew after damage has a newer epoch than those behind it; the chain is what orders groups.
  end_ = {x_, group_end_lsn(header), header.chain_after, std::max(end_.epoch, header.epoch)};
}

bool SegmentRecovery::Machine::probe_block() {
  if (x_ == limit_) {
    decide();
    return true;
  }
  Bytes here = at_least(block_bytes);
  if (here.empty()) return false;
  Bytes block = here.first(block_bytes);
  if (!all_zero(block)) {
    nonzero_end_ = x_ + block_bytes;
    Result<GroupHeader> header = read_group_header(block, x_);
    if (header && verdict_.segment_id.is_zero()) {
      verdict_.segment_id = header->segment_id;
      first_group_lsn_ = header->first_lsn;
    }
    if (header && header->segment_id == verdict_.segment_id) {
      note_evidence(*header);
      if (x_ > end_.position && first_group_behind_ == 0) first_group_behind_ = x_;
    }
  }
  x_ += block_bytes;
  return true;
}

SegmentRecovery::SegmentRecovery(const RecoveryInput& input, RecoveryVisitor& visitor)
    : machine_(std::make_unique<Machine>(input, visitor)) {}
SegmentRecovery::~SegmentRecovery() = default;

bool SegmentRecovery::done() const { return machine_->done(); }
std::uint64_t SegmentRecovery::wanted() const { return machine_->wanted(); }
void SegmentRecovery::feed(std::uint64_t offset, Bytes bytes) { machine_->feed(offset, bytes); }
const Verdict& SegmentRecovery::verdict() const {
  MR_ASSERT(machine_->done());
  return machine_->verdict();
}

void close_tail_group(const TailGroup& group, const Id128& segment_id, Epoch epoch, Lsn durable_upto,
                      MutableBytes target) {
  MR_ASSERT(target.size() == align_up(group.length, block_bytes));
  std::size_t at = group_header_bytes;
  auto put = [&](Bytes bytes) {
    MR_ASSERT(bytes.size() <= target.size() - at);
    std::ranges::copy(bytes, target.begin() + static_cast<std::ptrdiff_t>(at));
    at += bytes.size();
  };
  for (Bytes piece : group.pieces) put(piece);
  if (!group.more.empty()) put(group.more);
  MR_ASSERT(at == group.length);
  std::memset(target.data() + at, 0, target.size() - at);
  GroupHeader header{.batches = group.batches,
                     .segment_id = segment_id,
                     .file_offset = group.file_offset,
                     .epoch = epoch,
                     .first_lsn = group.first_lsn,
                     .chain_before = group.chain_before,
                     .durable_upto = durable_upto,
                     .length = group.length,
                     .chain_after = group.chain_after};
  seal_group_header(header);
  store(target, 0, header);
}

}  // namespace millrace
