// Segments follow each other: one is closed and the next one begun in the same turn, in memory; files come from the pool in the
// background, the next one named before it is needed.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "storage/log_core.hpp"
#include "storage/log_limits.hpp"
#include "storage/names.hpp"

namespace millrace {

bool LogCore::can_begin() const { return spare_.has_value() || pool_.can_supply(); }

SegmentKey LogCore::next_key(Day day) const {
  if (last_key_ && last_key_->day == day) return {day, last_key_->number + 1};
  return {day, 0};
}

void LogCore::close_segment() {
  const Lsn end_lsn = writer_->marks().appended;
  const Chain chain = writer_->chain();
  const SegmentHeader header = writer_->segment().header;
  const SegmentKey key = writer_->segment().key;
  // Ending it closes the open group, which fixes the segment's length.
  const std::uint64_t end = writer_->end_segment();
  previous_ = SegmentEnd{header.segment_id, end, chain, end_lsn};
  view_->segment_closed(tables_->capture_segment());
  tables_->begin_segment();
  closing_.push_back(key);
  settle_closed();
}

// A segment whose bytes are in its file goes to the index. A copy waits until nothing can make its leader go on in that segment:
// index and state would not know of it.
void LogCore::settle_closed() {
  while (!closing_.empty() && !copy_damaged_ && writer_->settled(closing_.front())) {
    if (options_.follow && closing_.size() == 1) {
      const Lsn readable = readable_end(writer_->marks().durable);
      const bool day_over = sealed_ || closing_.front().day < last_key_->day;
      if (day_over ? readable < previous_->next_lsn : readable <= previous_->next_lsn) return;
    }
    view_->segment_settled(closing_.front());
    closing_.erase(closing_.begin());
    notify_progress();
  }
}

void LogCore::begin_segment(SegmentKey key) {
  SegmentHeader header;
  header.first_lsn = writer_->marks().appended;
  header.log_id = meta_->node().log_id;
  header.segment_id = {reactor_.random().next(), reactor_.random().next()};
  header.shard = options_.shard;
  header.day = key.day;
  header.day_offset_seconds = meta_->node().day_offset_seconds;
  header.number = key.number;
  header.in_flight_bytes_max = in_flight_bytes_max;
  header.segment_bytes = options_.segment_bytes;
  if (previous_) {
    header.previous_segment_id = previous_->segment_id;
    header.previous_length = previous_->length;
    header.previous_chain = previous_->chain;
  }
  begin_segment(key, header);
}

void LogCore::begin_segment(SegmentKey key, const SegmentHeader& header) {
  writer_->begin_segment(key, header);
  last_header_ = writer_->segment().header;
  groups_.clear();
  begin_day(key.day);
  if (!last_key_) first_kept_ = key;
  const bool new_day = !last_key_ || last_key_->day != key.day;
  last_key_ = key;
  view_->segment_begun({key, header.segment_id, writer_->marks().appended});
  if (spare_ && spare_->key == key) {
    writer_->attach(std::move(spare_->file), std::move(spare_->borders));
    spare_.reset();
  }
  if (new_day) {
    ++days_;
    arm_day_timer();
    if (tables_->log().next_lsn > Lsn{1} && !state_running_ && !options_.follow) background(emit_state());
  }
  supply();
}

// A segment's batches are all of its day, also the first, which may come when the clock shows another one.
void LogCore::begin_day(Day day) {
  if (day <= tables_->log().day) return;
  tables_->begin_day(day);
  day_rule_->began(day);
  sealed_ = false;
}

void LogCore::supply() {
  supply_again_ = true;
  if (supplying_ || !working()) return;
  supplying_ = true;
  background(run_supply());
}

bool LogCore::stalled(Lsn lsn) const {
  if (!supply_failure_ || !writer_ || !writer_->has_segment() || writer_->segment().attached) return false;
  return lsn >= writer_->segment().header.first_lsn && lsn >= writer_->marks().durable;
}

// Files for the segment that takes appends, then for the one after it. A full disk is looked at again every second.
Task<> LogCore::run_supply() {
  while (supply_again_ && working()) {
    supply_again_ = false;
    tables_->prepare_capture();
    writer_->prepare_segment();
    auto current = supply_current();
    auto done = co_await current;
    if (done) {
      auto spare = supply_spare();
      done = co_await spare;
    }
    supply_failure_ = done || !working() ? std::nullopt : std::optional(done.error());
    if (!done && working()) {
      supply_again_ = true;
      if (writer_->has_segment() && stalled(writer_->marks().appended)) {
        const Lsn first = writer_->segment().header.first_lsn;
        tell([first](LogListener& listener) { listener.log_stalled(first); });
        notify_progress();
      }
      const Nanos again = reactor_.now() + SegmentPool::look_again_after;
      co_await Sleep(reactor_, again);
    }
  }
  supplying_ = false;
  co_return Result<>{};
}

Task<> LogCore::make_day_directory(Day day) {
  if (made_day_ == day) co_return Result<>{};
  auto making = Directory::make(reactor_, day_path(options_.directory, day));
  auto made = co_await making;
  if (!made && made.error() != Error::already_exists) co_return fail(made.error());
  auto naming = make_name_durable(reactor_, options_.directory);
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  made_day_ = day;
  co_return Result<>{};
}

Task<> LogCore::supply_current() {
  if (!writer_->has_segment() || writer_->segment().attached) co_return Result<>{};
  const SegmentKey key = writer_->segment().key;
  auto making = make_day_directory(key.day);
  auto made = co_await making;
  if (!made) co_return fail(made.error());
  NamedSegment current{key, {}, options_.segment_bytes, {}};
  if (spare_) {
    // Named for the day before: it never held anything, so it may have another name.
    NamedSegment spare = std::move(*spare_);
    spare_.reset();
    auto renaming = Directory::rename_file(reactor_, segment_path(options_.directory, spare.key),
                                           segment_path(options_.directory, key));
    auto renamed = co_await renaming;
    if (!renamed) co_return fail(renamed.error());
    for (const Day day : {key.day, spare.key.day}) {
      auto naming = make_name_durable(reactor_, day_path(options_.directory, day));
      auto named = co_await naming;
      if (!named) co_return fail(named.error());
    }
    current.file = std::move(spare.file);
    current.borders = std::move(spare.borders);
  } else {
    auto taking = pool_.take(key);
    auto taken = co_await taking;
    if (!taken) co_return fail(taken.error());
    current.file = std::move(*taken);
    auto noting = note_borders(current);
    auto noted = co_await noting;
    static_cast<void>(noted);
  }
  // The log may have failed, or gone on, while this waited: then the file is found again at the next opening.
  if (!working() || !writer_->has_segment() || writer_->segment().attached || writer_->segment().key != key)
    co_return Result<>{};
  writer_->attach(std::move(current.file), std::move(current.borders));
  no_space_ = false;
  co_return Result<>{};
}

// A segment that was named ahead and never begun: into the pool, and out of its day, durably.
Task<> LogCore::give_back(SegmentKey key) {
  auto giving = pool_.give_back(segment_path(options_.directory, key));
  auto given = co_await giving;
  if (!given) co_return fail(given.error());
  auto naming = make_name_durable(reactor_, day_path(options_.directory, key.day));
  auto named = co_await naming;
  co_return std::move(named);
}

Task<> LogCore::note_borders(NamedSegment& segment) {
  auto asking = segment.file.borders(options_.segment_bytes);
  auto borders = co_await asking;
  segment.borders.clear();
  if (borders && borders->size() <= borders_max) segment.borders = std::move(*borders);
  co_return Result<>{};
}

Task<> LogCore::supply_spare() {
  if (!working() || spare_ || !writer_->has_segment()) co_return Result<>{};
  const SegmentKey key{writer_->segment().key.day, writer_->segment().key.number + 1};
  auto taking = pool_.take(key);
  auto taken = co_await taking;
  if (!taken) co_return fail(taken.error());
  NamedSegment spare{key, std::move(*taken), options_.segment_bytes, {}};
  auto noting = note_borders(spare);
  auto noted = co_await noting;
  static_cast<void>(noted);
  spare_.emplace(std::move(spare));
  no_space_ = false;
  // A segment begun in the meantime may be the one this is for.
  if (writer_->has_segment() && !writer_->segment().attached) {
    if (writer_->segment().key == key) {
      writer_->attach(std::move(spare_->file), std::move(spare_->borders));
      spare_.reset();
    }
    supply_again_ = true;
  }
  co_return Result<>{};
}

void LogCore::writer_reuses(Bytes memory) { view_->memory_reused(memory); }

void LogCore::writer_moved(const WriterSegment& segment, std::uint64_t end) {
  if (writer_->has_segment() && writer_->segment().key == segment.key) view_->moved_to_segment(end);
  settle_closed();
  if (state_ == State::stopping) notify_progress();
}

}  // namespace millrace
