// The second half of opening: from the newest segment's bytes to tables, a view and a place to go on.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/log_limits.hpp"
#include "storage/names.hpp"
#include "storage/opening.hpp"
#include "storage/quarantine.hpp"
#include "storage/read_around.hpp"
#include "storage/state_load.hpp"
#include "storage/tail_slot.hpp"

namespace millrace {

void Opening::group(const GroupHeader& header, Bytes) {
  if (!options_.follow) return;
  // What this node said as a leader is no claim of the one it follows now.
  if (!was_led(header.epoch))
    opened_.leader_durable = std::max(opened_.leader_durable, std::min(header.durable_upto, group_end_lsn(header)));
  scanned_groups_.push_back(mark_of(header));
}

void Opening::batch(const FoundBatch& found) {
  // A copy takes what its slots hold as it takes what its leader sends: into an open group.
  if (replay_failed_ || (options_.follow && found.source == BatchSource::tail)) return;
  LogRow at = tables_.log();
  const Lsn lsn{found.header.lsn};
  if (lsn != at.next_lsn) {
    // What lies between is lost, or stands before the first segment that is kept.
    at.next_lsn = lsn;
    tables_.set_log(at);
  }
  if (nameless_) begin_nameless(lsn);
  if (!tables_.apply(found.header, found.body)) {
    replay_failed_ = true;
    return;
  }
  last_kind_ = found.header.kind;
  if (feeding_view_)
    view_.recovered(found.header, found.position, found.source == BatchSource::tail ? found.whole : Bytes{});
}

// A segment whose header block is damaged shows that it holds something with its first batch that verifies.
void Opening::begin_nameless(Lsn first) {
  if (opened_.in_view) {
    view_.segment_closed(tables_.capture_segment());
    view_.segment_settled(opened_.last.key);
    tables_.begin_segment();
  }
  view_.segment_begun({*nameless_, Id128{}, first});
  opened_.in_view = true;
  feeding_view_ = true;
  nameless_.reset();
}

void Opening::lost_batch(const BatchHeader& header, std::uint64_t) {
  if (header.kind != BatchKind::data) return;
  Offset& upto = lost_upto_[StreamId{header.stream_id}];
  upto = std::max(upto, Offset{header.first_offset + header.record_count});
}

// How far every stream must skip, so that no offset is used again that a lost batch's header still shows.
std::uint64_t Opening::bump_for_lost_headers() const {
  std::uint64_t bump = 0;
  for (const auto& [stream, upto] : lost_upto_) {
    const std::uint32_t number = tables_.streams().find(stream);
    // Nobody knows it: its creation is lost too, and when it is created again it begins at the floor.
    const Offset next =
        number == Catalogue::none ? tables_.log().offset_floor : tables_.streams().at(number).next_offset;
    if (next < upto) bump = std::max(bump, upto.value - next.value);
  }
  return bump;
}

void Opening::lost(const LostRange& range) {
  if (range.first_lsn == range.end_lsn) return;
  opened_.lost.push_back({range.first_lsn, range.end_lsn});
  view_.lost({range.first_lsn, range.end_lsn});
}

Task<> Opening::load_tables() {
  if (candidates_.empty() || !candidates_.front().header) co_return Result<>{};
  const SegmentKey newest = candidates_.front().segment.key;
  SegmentKey from = opened_.first_kept;
  if (mutant("dedupe_lost_at_restart")) co_return Result<>{};
  report_.step = "loading the tables";
  StateLoadOptions wanted{.shard_directory = options_.directory,
                          .log_id = meta_.node().log_id,
                          .day_offset_seconds = options_.day_offset_seconds,
                          .buffered = options_.buffered,
                          .first_kept = from,
                          .until = newest};
  auto loading = millrace::load_tables(reactor_, std::move(wanted), tables_);
  auto load = co_await loading;
  if (!load && load.error() != Error::corrupt && load.error() != Error::io_failed) co_return fail(load.error());
  if (load) {
    report_.reads += load->reads;
    described_ = load->described;
    from = load->next;
  } else {
    // Derivable files are never a reason not to start. Whether they describe the newest segment nobody knows then; a copy's do not
    // as long as its leader may go on in it.
    described_ = !options_.follow;
    report_.notes.push_back("the index or the state file is damaged: the tables are read from the segments");
  }
  if (!(from < newest)) co_return Result<>{};
  // The index lacks the rest: it is read from the segments.
  report_.step = "reading closed segments";
  derive_from_ = load ? load->derive_from : from;
  auto replaying = replay_closed(from, newest);
  auto replayed = co_await replaying;
  co_return std::move(replayed);
}

Task<> Opening::replay_closed(SegmentKey from, SegmentKey to) {
  std::vector<SegmentKey> keys;
  for (const Day day : days_) {
    if (day < from.day || day > to.day) continue;
    auto listing = list_day(reactor_, options_.directory, day);
    auto files = co_await listing;
    if (!files) co_return fail(files.error());
    for (std::uint32_t number : files->segments) {
      const SegmentKey key{day, number};
      if (!(key < from) && key < to) keys.push_back(key);
    }
  }
  report_.bytes_done = 0;
  report_.bytes_total = keys.size() * options_.segment_bytes;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto looking = look_at(keys[i]);
    auto closed = co_await looking;
    if (!closed) co_return fail(closed.error());
    SegmentHeader after = *candidates_.front().header;
    if (i + 1 < keys.size()) {
      auto peeking = look_at(keys[i + 1]);
      auto next = co_await peeking;
      if (!next) co_return fail(next.error());
      if (next->header) after = *next->header;
    }
    RecoveryInput input;
    if (closed->header && after.previous_segment_id == closed->header->segment_id)
      input.expected_end =
          SegmentEnd{after.previous_segment_id, after.previous_length, after.previous_chain, after.first_lsn};
    if (closed->header) {
      LogRow at = tables_.log();
      at.next_lsn = closed->header->first_lsn;
      at.epoch = std::max(at.epoch, closed->header->epoch);
      tables_.set_log(at);
    }
    // Its run is made anew on the way, by the path that a live segment's takes.
    tables_.begin_segment();
    feeding_view_ = closed->header.has_value() && !(keys[i] < derive_from_);
    if (feeding_view_) {
      ViewStart start{
          .first_kept = opened_.first_kept, .has_open = true, .open = {keys[i], closed->header->segment_id, {}}};
      start.open.first_lsn = start.next_lsn = closed->header->first_lsn;
      view_.begin(start);
    }
    auto scanning = scan(closed->segment, input);
    auto verdict = co_await scanning;
    if (!verdict) co_return fail(verdict.error());
    if (feeding_view_) {
      view_.segment_closed(tables_.capture_segment());
      view_.segment_settled(keys[i]);
      if (keys[i].day < (i + 1 < keys.size() ? keys[i + 1] : to).day) view_.day_finished(keys[i].day);
      feeding_view_ = false;
      while (view_.runs_behind() >= runs_behind_max) co_await view_.run_written().wait();
    }
    // Damage in a closed segment costs its range, not the start.
    if (verdict->damaged)
      report_.notes.push_back(path_of(keys[i]) + ": " + std::string(recovery_row_text(verdict->row).reason));
  }
  tables_.finish_rows();
  co_return Result<>{};
}

Task<Verdict> Opening::scan(NamedSegment& segment, RecoveryInput input) {
  const std::vector<EpochRange> led(epochs_led(meta_.slot()).begin(), epochs_led(meta_.slot()).end());
  input.log_id = meta_.node().log_id;
  input.shard = options_.shard;
  input.file_bytes = segment.file_bytes;
  input.in_flight_bytes_max = in_flight_bytes_max;
  input.epochs_led = led;
  scanned_groups_.clear();
  SegmentRecovery recovery(input, *this);
  while (!recovery.done()) {
    // Nothing but reading stands between here and the state a crash would leave.
    if (options_.given_up()) co_return fail(Error::cancelled);
    const std::uint64_t at = recovery.wanted();
    const std::uint64_t left = segment.file_bytes - at;
    const MutableBytes target = buffer_.bytes().first(align_up(std::min<std::uint64_t>(feed_bytes, left), block_bytes));
    auto reading = read_around(segment.file, at, target);
    auto read = co_await reading;
    if (!read) co_return fail(refuse(read.error(), path_of(segment.key) + ": cannot be read"));
    if (read->bytes < std::min<std::uint64_t>(target.size(), left)) co_return fail(Error::io_failed);
    note_unreadable(path_of(segment.key), read->unreadable);
    recovery.feed(at, target.first(std::min<std::uint64_t>(read->bytes, left)));
    ++report_.reads;
    report_.bytes_read += read->bytes;
    report_.bytes_done += read->bytes;
  }
  if (replay_failed_)
    co_return fail(refuse(
        Error::corrupt, path_of(segment.key) + ": its batches verify but contradict each other. Nothing was touched."));
  const Verdict verdict = recovery.verdict();
  if (verdict.refused)
    co_return fail(refuse(
        *verdict.refused,
        path_of(segment.key) + ": " + std::string(recovery_row_text(verdict.row).reason) + " Nothing was touched."));
  co_return verdict;
}

// The newest segment with a readable header, then those named after it: usually one, all zeros.
Task<> Opening::scan_newest() {
  ViewStart start;
  start.first_kept = opened_.first_kept;
  if (candidates_.empty()) {
    view_.begin(start);
    co_return Result<>{};
  }
  // A day is complete once a later one was begun.
  for (const Day day : days_)
    if (candidates_.front().header && day < candidates_.front().segment.key.day) start.finished = day;
  start.first_lsn = opened_.first_lsn;
  report_.step = "reading the newest segment";
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    Candidate& candidate = candidates_[i];
    report_.bytes_done = 0;
    report_.bytes_total = candidate.segment.file_bytes;
    RecoveryInput input;
    // The tail belongs to the newest segment that holds anything; what stands before it is closed.
    const bool newest = std::none_of(candidates_.begin() + static_cast<std::ptrdiff_t>(i) + 1, candidates_.end(),
                                     [](const Candidate& later) { return later.has_bytes; });
    if (newest) input.tail = tail_bytes_.bytes();
    if (opened_.begun) input.previous = opened_.end;
    feeding_view_ = candidate.header.has_value();
    if (!candidate.header) nameless_ = candidate.segment.key;
    if (candidate.header) {
      start.has_open = opened_.in_view = true;
      start.open = {candidate.segment.key, candidate.header->segment_id, candidate.header->first_lsn};
      start.next_lsn = candidate.header->first_lsn;
      LogRow at = tables_.log();
      at.next_lsn = candidate.header->first_lsn;
      tables_.set_log(at);
    }
    if (i == 0) {
      view_.begin(start);
      tables_.begin_segment();
    }
    lost_upto_.clear();
    auto scanning = scan(candidate.segment, input);
    auto verdict = co_await scanning;
    if (!verdict) co_return fail(verdict.error());
    nameless_.reset();
    auto acting = act_on(*verdict, candidate);
    auto acted = co_await acting;
    if (!acted) co_return fail(acted.error());
  }
  if (!opened_.pending.batches.empty()) step_before_pending();
  tables_.finish_rows();
  co_return Result<>{};
}

/// The copy ends before what its slots hold: that is taken like what its leader sends.
void Opening::step_before_pending() {
  const PendingGroup& pending = opened_.pending;
  opened_.end.length = pending.offset;
  opened_.end.next_lsn = opened_.next_lsn = pending.first;
  opened_.end.chain = opened_.chain = pending.before;
  LogRow at = tables_.log();
  at.next_lsn = pending.first;
  at.chain = pending.before;
  tables_.set_log(at);
}

Task<> Opening::act_on(Verdict verdict, Candidate& candidate) {
  // A damaged copy is kept as it is and serves what it can: the bytes that it lacks are its leader's to give, not its own to cut.
  const bool kept = options_.follow && verdict.damaged;
  opened_.next_slot = std::max(opened_.next_slot, verdict.slot_number + 1);
  report_.slots_taken += verdict.slots_taken;
  report_.lost_batches += verdict.lost_batches;
  if (verdict.begun || report_.verdict.empty()) report_.verdict = recovery_row_name(verdict.row);
  if (verdict.cut_begin < verdict.cut_end && !kept) {
    auto cutting = cut(candidate.segment, verdict.cut_begin, verdict.cut_end, verdict.next_lsn);
    auto was_cut = co_await cutting;
    if (!was_cut) co_return fail(refuse(was_cut.error(), path_of(candidate.segment.key) + ": cannot be cut"));
    report_.bytes_cut += verdict.cut_end - verdict.cut_begin;
  }
  if (!verdict.begun) {
    if (!opened_.begun) opened_.next_lsn = std::max(opened_.next_lsn, verdict.next_lsn);
    if (!opened_.spare) opened_.spare = std::move(candidate.segment);
    else opened_.surplus.push_back(std::move(candidate.segment));
    co_return Result<>{};
  }
  if (kept) {
    verdict.tail_groups.clear();
    opened_.copy_damaged = true;
  } else if (options_.follow) {
    hold_pending(verdict);
  } else if (opened_.epoch == Epoch{}) {
    auto taking = meta_.take_epoch(std::max(verdict.last_epoch, tables_.log().epoch), tables_.log().day);
    auto epoch = co_await taking;
    if (!epoch) co_return fail(refuse(epoch.error(), options_.node_meta_path + ": the new epoch cannot be written"));
    opened_.epoch = *epoch;
  }
  auto closing = close_tail_groups(verdict, candidate.segment.file);
  auto closed = co_await closing;
  if (!closed) co_return fail(refuse(closed.error(), path_of(candidate.segment.key) + ": cannot be written"));
  opened_.begun = true;
  opened_.groups = std::move(scanned_groups_);
  opened_.header = verdict.header;
  opened_.end = {verdict.segment_id, verdict.content_end, verdict.chain, verdict.next_lsn};
  opened_.next_lsn = verdict.next_lsn;
  opened_.chain = verdict.chain;
  // A segment is closed before its successor has a file. After a crash in between its run is in the index, and perhaps in the
  // state: what still fits behind it would be in neither.
  // A copy's leader may go on in it all the same: this node closed it as a leader, or learned too early that its leader had.
  opened_.index_is_ahead = verdict.go_on_here && described_ && options_.follow;
  opened_.resume = verdict.go_on_here && (!described_ || options_.follow);
  if (verdict.damaged) {
    report_.notes.push_back(path_of(candidate.segment.key) + ": " + std::string(recovery_row_text(verdict.row).reason) +
                            " Batches " + std::to_string(verdict.lost_first.value) + " to " +
                            std::to_string(verdict.lost_end.value) + " (end excluded) answer data_loss.");
    if (!opened_.loss_is_new) opened_.lost_first = verdict.lost_first;
    opened_.loss_is_new = true;
    opened_.lost_end = std::max(opened_.lost_end, verdict.lost_end);
    opened_.offset_bump += verdict.offset_bump + bump_for_lost_headers();
  }
  opened_.last = std::move(candidate.segment);
  LogRow at = tables_.log();
  at.next_lsn = verdict.next_lsn;
  at.chain = verdict.chain;
  tables_.set_log(at);
  // A crash may leave nothing of a segment but its header: what comes next is of its day all the same.
  tables_.begin_day(opened_.last.key.day);
  if (verdict.batches == 0) last_kind_ = BatchKind::data;
  co_return Result<>{};
}

Task<> Opening::cut(NamedSegment& segment, std::uint64_t begin, std::uint64_t end, Lsn lsn) {
  auto copying = quarantine_range(segment.file, options_.directory, "cut", lsn, begin, end, options_.buffered);
  auto copied = co_await copying;
  if (!copied) co_return fail(copied.error());
  report_.notes.push_back(path_of(segment.key) + ": bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                          " were in flight at a crash and went to " + *copied);
  auto zeroing = zero_range(segment.file, begin, end);
  auto zeroed = co_await zeroing;
  co_return std::move(zeroed);
}

// The leader closes the group, at whatever length it has by then: until it does, the slots keep it.
void Opening::hold_pending(Verdict& verdict) {
  if (!was_led(verdict.header.epoch))
    opened_.leader_durable = std::max(opened_.leader_durable, verdict.header.first_lsn);
  if (verdict.tail_groups.empty()) return;
  const TailGroup group = std::move(verdict.tail_groups.front());
  verdict.tail_groups.clear();
  PendingGroup& pending = opened_.pending;
  pending.offset = group.file_offset;
  pending.first = group.first_lsn;
  pending.before = group.chain_before;
  for (const Bytes piece : group.pieces) pending.batches.insert(pending.batches.end(), piece.begin(), piece.end());
  auto ring_at = [&](const std::byte* at) {
    return static_cast<std::uint64_t>(at - tail_bytes_.bytes().data()) - block_bytes;
  };
  const Bytes last = group.pieces.back();
  const std::uint64_t begin = ring_at(group.pieces.front().data() - tail_slot_header_bytes);
  pending.ring_next = align_up(ring_at(last.data() + last.size()), block_bytes);
  pending.ring_live =
      pending.ring_next > begin ? pending.ring_next - begin : opened_.ring_bytes - begin + pending.ring_next;
}

// The batches that so far stand only in the tail get a group around them in the segment, at the positions they have.
Task<> Opening::close_tail_groups(const Verdict& verdict, File& file) {
  for (const TailGroup& group : verdict.tail_groups) {
    const AlignedMemory memory(group.length);
    close_tail_group(group, verdict.segment_id, opened_.epoch, group.first_lsn, memory.bytes());
    auto writing = file.write_exact(group.file_offset, memory.bytes(), true);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
  }
  co_return Result<>{};
}

}  // namespace millrace
