// A log as a copy: what the leader submitted is verified, put where the leader put it, and made durable by the same writer. And
// what a log shows to those that copy it.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "storage/log_core.hpp"
#include "storage/log_limits.hpp"

namespace millrace {

namespace {

Error not_serving(bool closed) { return closed ? Error::closed : Error::not_ready; }

}  // namespace

// ---- LogSource.

std::optional<SubmittedGroup> LogCore::submitted(SegmentKey key, std::uint64_t offset) const {
  return writer_ ? writer_->submitted(key, offset) : std::nullopt;
}

// ---- LogCopy.

Task<> LogCore::accept_epoch(Epoch epoch) {
  MR_ASSERT(options_.follow);
  if (epoch < meta_->slot().epoch) co_return fail(Error::fenced);
  auto accepting = meta_->accept_epoch(epoch);
  auto accepted = co_await accepting;
  if (!accepted) co_return fail(accepted.error());
  if (state_ != State::serving) co_return fail(not_serving(state_ == State::closed));
  epoch_ = epoch;
  writer_->set_epoch(epoch);
  co_return Result<>{};
}

Epoch LogCore::known_epoch() const { return meta_->slot().epoch; }

CopyEnd LogCore::end() const {
  CopyEnd end;
  end.damaged = copy_damaged_;
  end.next_lsn = watermarks().appended;
  end.chain = writer_ ? writer_->chain() : Chain{};
  if (!last_key_) return end;
  end.begun = true;
  end.key = *last_key_;
  end.segment_id = last_header_.segment_id;
  end.first_lsn = last_header_.first_lsn;
  if (!groups_.empty()) end.last_group = groups_.back();
  return end;
}

Result<> LogCore::take_segment(Bytes block) {
  MR_ASSERT(options_.follow);
  if (state_ != State::serving) return fail(not_serving(state_ == State::closed));
  auto header = read_segment_header(block, OpenFor::writing);
  if (!header) return fail(header.error() == Error::unsupported_version ? header.error() : Error::diverged);
  if (header->log_id != meta_->node().log_id || header->shard != options_.shard ||
      header->segment_bytes != options_.segment_bytes)
    return fail(Error::foreign);
  SegmentHeader again = *header;
  std::array<std::byte, block_bytes> written;
  write_segment_header(again, written);
  if (!std::ranges::equal(written, block)) return fail(Error::unsupported_version);
  const SegmentKey key{header->day, header->number};
  if (!last_key_) return begin_copy(key, *header);
  if (writer_->open_bytes() != 0 || !(*last_key_ < key) || header->first_lsn != writer_->marks().appended)
    return fail(Error::diverged);
  const bool next =
      key.day == last_key_->day ? key.number == last_key_->number + 1 && !sealed_ : key.number == 0 && sealed_;
  if (!next) return fail(Error::diverged);
  if (writer_->has_segment()) {
    if (!writer_->segment().attached || view_->runs_behind() >= runs_behind_max) return fail(Error::retry_later);
    if (header->previous_length != writer_->segment().end) return fail(Error::diverged);
  }
  if (!can_begin()) return fail(Error::retry_later);
  if (writer_->has_segment()) close_segment();
  if (header->previous_segment_id != previous_->segment_id || header->previous_length != previous_->length ||
      header->previous_chain != previous_->chain)
    return fail(Error::diverged);
  begin_segment(key, *header);
  // The leader submits a segment's first group when everything before it is durable.
  take_durable(header->first_lsn);
  return {};
}

// The first segment of a new copy: the log begins where the leader's, or the day wanted, does.
Result<> LogCore::begin_copy(SegmentKey key, const SegmentHeader& header) {
  if (header.first_lsn != writer_->marks().appended) return fail(Error::diverged);
  if (!can_begin()) return fail(Error::retry_later);
  begin_segment(key, header);
  return {};
}

Result<> LogCore::take_placed(std::uint64_t group, std::uint64_t from, Bytes header, Bytes batches) {
  MR_ASSERT(options_.follow);
  if (state_ != State::serving) return fail(not_serving(state_ == State::closed));
  if (!writer_->has_segment()) return fail(Error::diverged);
  const bool open = writer_->open_bytes() != 0;
  const std::uint64_t at = open ? writer_->open_offset() : writer_->segment().end;
  const std::uint64_t have = open ? writer_->open_bytes() : group_header_bytes;
  const std::uint64_t length = have + batches.size();
  if (group != at || from != have || !is_aligned(batches.size(), batch_align)) return fail(Error::diverged);
  if (length == group_header_bytes || length > group_span_max || (open && length > group_bytes_max) ||
      at + align_up(length, block_bytes) > options_.segment_bytes)
    return fail(Error::diverged);
  std::uint32_t count = 0;
  Nanos time = tables_->log().last_leader_time;
  BatchWalk walk(batches, writer_->marks().appended, writer_->chain());
  while (!walk.at_end()) {
    auto batch = walk.check_next();
    if (!batch || batch->header.day != writer_->segment().key.day.value || batch->header.leader_time < time)
      return fail(Error::diverged);
    time = batch->header.leader_time;
    ++count;
  }
  GroupHeader closing;
  if (!header.empty()) {
    auto read = read_group_header(header, group, writer_->segment().header.segment_id);
    if (!read) return fail(Error::diverged);
    closing = writer_->expected_header(count, batches.size(), walk.chain());
    closing.epoch = read->epoch;
    closing.durable_upto = read->durable_upto;
    seal_group_header(closing);
    if (std::memcmp(&closing, header.data(), group_header_bytes) != 0) return fail(Error::diverged);
  }
  if (!batches.empty() || !open) {
    const auto room = writer_->make_room(batches.size(), true);
    if (room == LogWriter::Room::no_memory) return fail(Error::retry_later);
    MR_ASSERT(room == LogWriter::Room::ready);
  }
  if (auto applied = apply_copied(batches); !applied) return applied;
  if (header.empty()) return {};
  writer_->close_group(closing);
  groups_.push_back(mark_of(closing));
  if (sealed_) end_copied_day();
  return {};
}

// What tables and readers learn is what an append, or a recovery, would have told them.
Result<> LogCore::apply_copied(Bytes batches) {
  BatchWalk walk(batches, writer_->marks().appended, writer_->chain());
  while (!walk.at_end()) {
    const PlacedBatch batch = walk.next_checked();
    if (auto applied = tables_->apply(batch.header, batch.body); !applied) {
      // The leader's tables took it: these are not the same. What was written stays, for a person.
      state_ = State::closed;
      view_->failed();
      return fail(Error::diverged);
    }
    const std::uint64_t position = writer_->position();
    const Bytes whole = writer_->append(batch.header, batch.body);
    sealed_ = batch.header.kind == BatchKind::seal;
    written_bytes_ += whole.size();
    if (batch.header.kind == BatchKind::data) {
      ++appended_batches_;
      appended_records_ += batch.header.record_count;
      appended_body_bytes_ += batch.header.body_bytes;
    }
    if (batch.header.kind == BatchKind::state) note_copied_state(batch);
    view_->appended(batch.header, whole, position);
  }
  return {};
}

void LogCore::note_copied_state(const PlacedBatch& batch) {
  auto piece = read_state_piece(batch.body);
  if (!piece) return;
  if (piece->piece == 0) state_series_begun_ = Lsn{batch.header.lsn};
  if (piece->piece + 1 == piece->pieces && state_series_begun_ != Lsn{}) state_series_first_ = state_series_begun_;
}

void LogCore::end_copied_day() {
  FinishJob job;
  job.last = writer_->segment().key;
  job.batches = tables_->log().day_batches;
  job.records = tables_->log().day_records;
  job.body_bytes = tables_->log().day_body_bytes;
  job.epoch = tables_->log().epoch;
  close_segment();
  job.end = *previous_;
  finishing_.push_back(job);
  if (finishing_running_) return;
  finishing_running_ = true;
  background(run_finishing());
}

void LogCore::take_durable(Lsn leader) {
  leader_durable_ = std::max(leader_durable_, leader);
  if (state_ != State::serving) return;
  const Lsn readable = readable_end(writer_->marks().durable);
  if (readable > view_->durable()) view_->durable_moved(readable);
  settle_closed();
}

Lsn LogCore::readable_end(Lsn durable) const { return options_.follow ? std::min(durable, leader_durable_) : durable; }

// Pending batches came back from the slots: they take the way they took when the leader sent them.
Result<> LogCore::resume_pending(const PendingGroup& pending) {
  if (pending.batches.empty()) return {};
  if (writer_->resume_group(pending) != LogWriter::Room::ready) return fail(Error::internal);
  auto applied = apply_copied(pending.batches);
  if (!applied) return applied;
  writer_->resumed(pending);
  return {};
}

}  // namespace millrace
