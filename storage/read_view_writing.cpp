// The background of a ReadView: runs, day tables and the state file are written, and what an index lacks is derived.
#include <algorithm>

#include "storage/index_file.hpp"
#include "storage/names.hpp"
#include "storage/read_view.hpp"
#include "storage/state_load.hpp"

namespace millrace {

namespace {
constexpr std::uint64_t state_cost_factor = 16;  // log bytes that a byte of the state file is worth writing for
}

// Runs are written one by one in the order of the log. One that cannot be written stays in memory, where readers find it, until a
// later close has it derived. When too many wait, the oldest leaves: whoever needs the day then fills the gap.
Task<> ReadView::write_closed() {
  while (!closing_.empty() && closing_.front().settled) {
    const std::shared_ptr<OpenRun> run = closing_.front().run;
    const Day day = run ? run->segment().key.day : closing_.front().finished;
    const bool dropped = run && run->segment().key < first_kept_;
    Result<> written;
    if (run && !dropped) {
      auto writing = write_run(run);
      written = co_await writing;
      if (!written) closing_.front().capture.reset();  // used up by the attempt
    } else if (!run && day != gap_) {
      auto finishing = finish_index(day);
      written = co_await finishing;
    }
    if (!written) ++index_->stats().failures;
    stuck_ = run && !written && runs_behind() < runs_behind_max;
    if (stuck_) break;
    closing_.erase(closing_.begin());
    if (!run) continue;
    if (!dropped) gap_ = written ? Day{} : day;
    retire(run);
    state_behind_ += run->end_position();
    if (!written || dropped) continue;
    auto saving = save_state(run->segment().key);
    auto saved = co_await saving;
    if (!saved) ++index_->stats().failures;
  }
  writing_ = false;
  written_.notify();
  co_return {};
}

Task<> ReadView::write_run(std::shared_ptr<OpenRun> run) {
  const SegmentKey key = run->segment().key;
  auto opening = index_->file_of(key.day);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  const std::shared_ptr<IndexFile> file = *opened;
  StateCapture* const capture = closing_.front().capture.get();
  if (capture == nullptr || (file->next_segment() < key.number && first_kept_ < key)) {
    // Earlier runs could not be written: they come first, or this one would hide that they are missing.
    auto repairing = repair_->repair(key.day, capture == nullptr ? key.number + 1 : key.number, first_kept_);
    auto repaired = co_await repairing;
    if (!repaired) co_return fail(repaired.error());
  }
  if (capture != nullptr && file->next_segment() <= key.number) {
    auto appending = builder_->append_run(*file, *run, *capture);
    auto appended = co_await appending;
    if (!appended) ++index_->stats().failures;
  }
  if (file->next_segment() <= key.number) co_return fail(Error::io_failed);
  co_return {};
}

// The state file takes up what the runs since it say: at every close while the tables are small, more rarely when writing them
// anew would cost more than it saves.
Task<> ReadView::save_state(SegmentKey closed) {
  if (!state_) {
    auto opening = StateFile::open(reactor_, state_path(options_.shard_directory), options_.log_id, options_.buffered);
    auto opened = co_await opening;
    if (!opened) co_return fail(opened.error());
    state_ = std::move(*opened);
  }
  const SegmentKey until{closed.day, closed.number + 1};
  SegmentKey from = load_base(index_->days(), first_kept_, until);
  std::uint64_t rows_bytes = 0;
  if (state_->newest()) {
    rows_bytes = state_->newest()->header.rows_bytes;
    if (state_->newest()->header.next() >= first_kept_) from = state_saved_ = state_->newest()->header.next();
  }
  if (from >= until) co_return {};
  const bool due = state_behind_ >= std::min(state_behind_max_bytes / 2, state_cost_factor * rows_bytes);
  if (state_->newest() && !due) co_return {};
  auto filling = fill_gaps(from.day, until.day);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  auto listing = list_runs(*index_, from, until);
  auto runs = co_await listing;
  if (!runs) co_return fail(runs.error());
  for (std::size_t begin = 0; begin < runs->size(); begin += state_merge_max) {
    const std::size_t end = std::min(begin + state_merge_max, runs->size());
    std::vector<RowSource> sources;
    std::vector<std::shared_ptr<IndexFile>> files;
    std::uint64_t bytes = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const RunRows& run = (*runs)[i];
      auto getting = index_->file_of(run.segment.day);
      auto file = co_await getting;
      if (!file) co_return fail(file.error());
      files.push_back(*file);
      bytes += run.unit.header.state_bytes;
      sources.push_back(RowSource((*file)->file(), run.at(), run.unit.header.state_bytes));
    }
    const RunRows& last = (*runs)[end - 1];
    const SegmentKey next{last.segment.day, last.segment.number + 1};
    auto saving = state_->save(std::move(sources), bytes, last.unit.header.end_lsn, next);
    auto saved = co_await saving;
    if (!saved) co_return fail(saved.error());
    state_saved_ = next;
  }
  state_behind_ = 0;
  co_return {};
}

// A stop or a crash may have come between the end of a day and its table. Without it nobody knows that the day's runs are all,
// and the state file would stay behind it, at the cost of every start.
Task<> ReadView::fill_gaps(Day from, Day until) {
  const std::vector<Day> days = index_->days();
  for (const Day day : days) {
    if (day < from || !(day < until)) continue;
    auto opening = index_->file_of(day);
    auto file = co_await opening;
    if (!file) co_return fail(file.error());
    if ((*file)->complete()) continue;
    auto repairing = repair_->repair(day, IndexRepair::all_segments, first_kept_);
    auto repaired = co_await repairing;
    if (!repaired) co_return fail(repaired.error());
  }
  co_return {};
}

Task<> ReadView::finish_index(Day day) {
  auto getting = index_->file_of(day);
  auto got = co_await getting;
  if (!got) co_return fail(got.error());
  const std::shared_ptr<IndexFile> file = *got;
  if (file->table()) co_return {};
  std::shared_ptr<IndexFile> before;
  const auto& days = index_->days();
  auto place = std::lower_bound(days.begin(), days.end(), day);
  if (place != days.begin()) {
    auto opening = index_->file_of(*std::prev(place));
    auto opened = co_await opening;
    if (!opened) co_return fail(opened.error());
    before = *opened;
  }
  if (before && !before->table()) {
    // Not a table to go on from: the day's own is derived.
    auto repairing = repair_->repair(day, IndexRepair::all_segments, first_kept_);
    co_return co_await repairing;
  }
  auto appending = builder_->append_day_table(*file, before.get(), {});
  co_return co_await appending;
}

// ---- Deriving.

// Appending to indexes is done by one at a time.
Task<> ReadView::take_turn() {
  while (writing_ || repairing_) co_await written_.wait();
  repairing_ = true;
  co_return {};
}

void ReadView::give_turn() {
  repairing_ = false;
  written_.notify();
  start_writing();
}

bool ReadView::day_is_over(Day day) const {
  const auto& days = index_->days();
  return day <= finished_ || (!days.empty() && day < days.back());
}

// A day that is over, and whose runs are not in memory, has everything in its index, or it is derived now; so are runs that left
// memory unwritten. The others are the background task's.
Task<> ReadView::ensure_indexed(Day day) {
  if (day != gap_) {
    if (std::find(whole_.begin(), whole_.end(), day) != whole_.end() || !day_is_over(day)) co_return {};
    for (const RunPtr& run : runs_)
      if (run->segment().key.day <= day) co_return {};
  }
  auto waiting = take_turn();
  auto waited = co_await waiting;
  if (!waited) co_return fail(waited.error());
  const std::uint32_t until = first_in_memory(day);
  auto repairing = repair_->repair(day, until, first_kept_);
  const Result<> outcome = co_await repairing;
  if (outcome && day == gap_) gap_ = Day{};
  if (outcome && until == IndexRepair::all_segments) whole_.push_back(day);
  give_turn();
  co_return outcome;
}

// The first segment of the day that its index need not have: its run is in memory, or the day goes on.
std::uint32_t ReadView::first_in_memory(Day day) const {
  std::uint32_t first = IndexRepair::all_segments;
  for (const RunPtr& run : runs_)
    if (run->segment().key.day == day) first = std::min(first, run->segment().key.number);
  return first == IndexRepair::all_segments && !day_is_over(day) ? first - 1 : first;
}

Task<bool> ReadView::verify_index(Day day) {
  if (!options_.write_index) co_return true;
  auto waiting = take_turn();
  auto waited = co_await waiting;
  if (!waited) co_return fail(waited.error());
  auto verifying = repair_->verify(day);
  auto verified = co_await verifying;
  if (verified && !*verified) {
    // The runs in memory are still to come; everything before them is derived.
    auto repairing = repair_->repair(day, first_in_memory(day), first_kept_);
    auto repaired = co_await repairing;
    if (!repaired) verified = fail(repaired.error());
    ++runs_moved_;
  }
  give_turn();
  co_return verified;
}

Task<bool> ReadView::front_indexed() {
  const Day day = first_kept_.day;
  if (index_->stats().deriving.segments_total != 0) co_return false;
  if (std::find(whole_.begin(), whole_.end(), day) != whole_.end() || !day_is_over(day)) co_return true;
  auto opening = index_->file_of(day);
  auto file = co_await opening;
  co_return file && (*file)->complete();
}

Task<Offset> ReadView::first_readable(StreamId stream) {
  const StreamBounds bounds = streams_.stream_bounds(stream);
  Offset first = bounds.first();
  if (!front_dropped_) co_return first;
  const std::uint64_t moved = runs_moved_;
  const Seek seek = Seek::earliest();
  auto finding = index_->find(stream, seek);
  auto found = co_await finding;
  if (!found) co_return fail(found.error());
  Offset kept = bounds.next;
  if (*found) kept = (**found).stream.first_offset;
  for (const RunPtr& run : runs_) {
    if (run->segment().key < first_kept_) continue;
    const std::uint32_t number = run->find(stream);
    if (number != OpenRun::none) kept = std::min(kept, run->stream(number).first_offset);
  }
  // A run that went to the index meanwhile may stand in neither.
  if (!*found && moved != runs_moved_) co_return fail(Error::would_block);
  co_return std::max(first, kept);
}

}  // namespace millrace
