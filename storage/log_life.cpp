// A log's life: opened, serving, failed and opened anew by itself, stopped.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/log_core.hpp"

namespace millrace {

namespace {

constexpr Nanos stop_within = 4 * nanos_per_second;
constexpr std::size_t closing_usual = 8;
constexpr Nanos look_again = nanos_per_milli;

ReadViewOptions view_options(const LogOptions& options, const ShardMeta& meta) {
  ReadViewOptions view;
  view.shard_directory = options.directory;
  view.log_id = meta.node().log_id;
  view.shard = options.shard;
  view.day_offset_seconds = meta.node().day_offset_seconds;
  view.buffered = options.buffered;
  view.tail.ring_bytes = 0;  // the newest batches are read where they were put together
  return view;
}

}  // namespace

LogCore::LogCore(Reactor& reactor, LogOptions options)
    : reactor_(reactor),
      options_(std::move(options)),
      staging_(reactor.kernel(), options_.memory_bytes),
      pool_(reactor, {options_.directory, options_.segment_bytes, options_.pool_segments, options_.buffered}, *this),
      tables_(std::make_unique<Tables>()) {
  closing_.reserve(closing_usual);
  day_timer_.context = this;
  day_timer_.fire = [](Timer& timer) { static_cast<LogCore*>(timer.context)->day_timer_fired(); };
}

LogCore::~LogCore() { reactor_.disarm(day_timer_); }

Task<> LogCore::open(OpeningReport& report) {
  auto trying = try_open(report);
  auto opened = co_await trying;
  if (opened || !view_) co_return std::move(opened);
  // Runs derived on the way may still be on their way to the index: they work in this log's memory.
  auto stopping = view_->stop();
  auto stopped = co_await stopping;
  static_cast<void>(stopped);
  co_return std::move(opened);
}

Task<> LogCore::try_open(OpeningReport& report) {
  // Recovery takes a header that states another size for a damaged one.
  if (options_.segment_bytes < segment_bytes_min || options_.segment_bytes > segment_bytes_max ||
      !is_aligned(options_.segment_bytes, block_bytes)) {
    report.diagnosis = options_.directory + ": segments of " + std::to_string(options_.segment_bytes) +
                       " bytes are not possible: a multiple of 4 KiB from 16 MiB on is.";
    co_return fail(Error::invalid_argument);
  }
  auto opening_meta =
      ShardMeta::open(reactor_, options_.node_meta_path, options_.shard, options_.buffered, report.diagnosis);
  auto meta = co_await opening_meta;
  if (!meta && meta.error() == Error::not_found) {
    report.diagnosis.clear();
    NodeMetaWanted wanted;
    wanted.day_offset_seconds = options_.day_offset_seconds;
    wanted.segment_bytes = options_.segment_bytes;
    wanted.buffered = options_.buffered;
    auto creating = open_node_meta(reactor_, options_.node_meta_path, wanted, report.diagnosis);
    auto created = co_await creating;
    if (!created) co_return fail(created.error());
    auto again =
        ShardMeta::open(reactor_, options_.node_meta_path, options_.shard, options_.buffered, report.diagnosis);
    meta = co_await again;
  }
  if (!meta) co_return fail(meta.error());
  meta_ = std::make_unique<ShardMeta>(std::move(*meta));
  if (auto chosen = choose_part(report); !chosen) co_return fail(chosen.error());
  view_ = std::make_unique<ReadView>(reactor_, view_options(options_, *meta_), *this);
  auto opening = open_files(report);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  auto opening_pool = pool_.open();
  auto pooled = co_await opening_pool;
  if (!pooled) {
    report.diagnosis = options_.directory + "/pool: " + std::string(error_text(pooled.error()));
    co_return fail(pooled.error());
  }
  auto giving = give_back_surplus();
  auto given = co_await giving;
  if (!given) {
    report.diagnosis = options_.directory + ": a segment named ahead cannot go back to the pool (" +
                       std::string(error_name(given.error())) + ")";
    co_return fail(given.error());
  }
  if (report.created) {
    report.step = "preparing the first segment";
    auto preparing = pool_.prepare_first();
    auto prepared = co_await preparing;
    if (!prepared) {
      report.diagnosis = options_.directory + "/pool: " + std::string(error_text(prepared.error()));
      co_return fail(prepared.error());
    }
  }
  pool_.start();
  state_ = State::serving;
  view_->ready(readable_end(writer_->marks().durable));
  begin_work();
  co_return Result<>{};
}

Task<> LogCore::open_files(OpeningReport& report) {
  Opening opening(reactor_, options_, *meta_, *tables_, *view_, report);
  auto running = opening.run();
  auto opened = co_await running;
  if (!opened) co_return fail(opened.error());
  if (!day_rule_) {
    day_rule_ = std::make_unique<DayRule>(meta_->node().day_offset_seconds, tables_->log().last_leader_time,
                                          tables_->log().day);
    // A copy's days are its leader's: its own clock decides nothing.
    auto started = day_rule_->start(reactor_.wall_now(), reactor_.now(), options_.accept_clock || options_.follow);
    if (!started) {
      report.diagnosis = "The wall clock says " + format_time(reactor_.wall_now()) + ", the newest batch in " +
                         options_.directory + " is of " + format_day(tables_->log().day) +
                         ": more than a year ahead. Set the clock, or start with --accept-clock if it is right.";
      co_return fail(started.error());
    }
  } else {
    day_rule_->reopened(tables_->log().last_leader_time, tables_->log().day);
  }
  auto indexing = view_->index().open();
  auto indexed = co_await indexing;
  if (!indexed) {
    report.diagnosis = options_.directory + ": cannot be listed";
    co_return fail(indexed.error());
  }
  if (opened->index_is_ahead && !opened->sealed) {
    auto forgetting = forget_derived(opened->last.key.day);
    auto forgotten = co_await forgetting;
    if (!forgotten) co_return fail(forgotten.error());
  }
  if (opened->resume) {
    auto noting = note_borders(opened->last);
    auto noted = co_await noting;
    static_cast<void>(noted);
  }
  if (opened->spare) {
    auto noting = note_borders(*opened->spare);
    auto noted = co_await noting;
    static_cast<void>(noted);
  }
  const PendingGroup pending = std::move(opened->pending);
  take_over(std::move(*opened));
  co_return resume_pending(pending);
}

void LogCore::take_over(OpenedLog opened) {
  epoch_ = opened.epoch;
  epoch_pending_ = !options_.follow;
  epoch_body_ = {.epoch = epoch_};
  if (opened.loss_is_new) {
    epoch_body_.lost_first = opened.lost_first;
    epoch_body_.lost_end = opened.lost_end;
    epoch_body_.offset_bump = opened.offset_bump;
  }
  loss_is_new_ = opened.loss_is_new;
  damaged_ = std::move(opened.lost);
  sealed_ = opened.sealed;
  first_kept_ = opened.first_kept;
  first_lsn_ = opened.first_lsn;
  days_ = opened.days;
  spare_ = std::move(opened.spare);
  surplus_ = std::move(opened.surplus);
  WriterStart start;
  start.epoch = epoch_;
  start.next_lsn = opened.next_lsn;
  start.chain = opened.chain;
  start.next_slot = opened.next_slot;
  start.ring_bytes = opened.ring_bytes;
  start.commit_sizes = options_.commit_sizes;
  start.separate_sync = options_.separate_sync;
  start.follows = options_.follow;
  writer_ = std::make_unique<LogWriter>(reactor_, staging_, *this, std::move(opened.tail), start);
  copy_damaged_ = opened.copy_damaged;
  if (copy_damaged_) writer_->silence();
  if (!opened.begun) return;
  last_key_ = opened.last.key;
  last_header_ = opened.header;
  groups_ = std::move(opened.groups);
  leader_durable_ = std::max(leader_durable_, opened.leader_durable);
  if (opened.finished) leader_durable_ = std::max(leader_durable_, opened.end.next_lsn);
  made_day_ = opened.last.key.day;
  if (opened.resume && !opened.sealed) {
    // What the segment's header says of the one before it; the next segment will say the same of this one.
    writer_->resume_segment(opened.last.key, opened.header, std::move(opened.last.file), std::move(opened.last.borders),
                            opened.end.length);
    view_->moved_to_segment(opened.end.length);
    return;
  }
  previous_ = opened.end;
  if (opened.in_view) {
    view_->segment_closed(tables_->capture_segment());
    closing_.push_back(opened.last.key);
    settle_closed();
  }
  tables_->begin_segment();
  if (!opened.sealed) return;
  if (opened.finished) {
    view_->day_finished(opened.last.key.day);
    return;
  }
  FinishJob job;
  job.last = opened.last.key;
  job.end = opened.end;
  job.batches = tables_->log().day_batches;
  job.records = tables_->log().day_records;
  job.body_bytes = tables_->log().day_body_bytes;
  job.epoch = tables_->log().epoch;
  finishing_.push_back(job);
}

// The newest first, each durably: the names that stay have no gap at any instant. One spare is enough, and a day that ends gives
// back only that one.
Task<> LogCore::give_back_surplus() {
  while (!surplus_.empty()) {
    const SegmentKey key = surplus_.back().key;
    surplus_.pop_back();
    auto giving = give_back(key);
    auto given = co_await giving;
    if (!given) co_return fail(given.error());
  }
  co_return Result<>{};
}

void LogCore::begin_work() {
  if (loss_is_new_ && !options_.follow) {
    // Said durably at once, behind what is lost, in a segment of its own.
    const DayStamp stamp = stamp_now();
    if (prepare_day(stamp) && place(batch_span(sizeof(EpochBody)), stamp.day, false)) append_prologue(stamp);
    loss_is_new_ = false;
  }
  if (!finishing_.empty() && !finishing_running_) {
    finishing_running_ = true;
    background(run_finishing());
  }
  supply();
  arm_day_timer();
  look_at_retention();
}

Task<> LogCore::run_in_background(LogCore& core, Task<> work) {
  auto done = co_await work;
  static_cast<void>(done);
  --core.background_tasks_;
  core.notify_progress();
  co_return Result<>{};
}

void LogCore::background(Task<> work) {
  ++background_tasks_;
  reactor_.spawn(run_in_background(*this, std::move(work)));
}

void LogCore::writer_durable(Lsn durable) {
  const Lsn readable = readable_end(durable);
  if (!mutant("reader_past_durable") && readable > view_->durable()) view_->durable_moved(readable);
  if (options_.follow) settle_closed();
  notify_progress();
  tell([&](LogListener& listener) { listener.log_durable(durable); });
}

// A commit write failed: what became of it is unknown, and only the device can say. Nothing more goes through what is open
// now; the log reads itself back from the device, once.
void LogCore::writer_failed(Error) {
  if (state_ != State::serving && state_ != State::stopping) return;
  ++failures_;
  const bool again = failed_before_ && reactor_.now() - last_failure_ < second_failure_within;
  const bool stopping = state_ == State::stopping;
  failed_before_ = true;
  last_failure_ = reactor_.now();
  state_ = again || stopping ? State::closed : State::reopening;
  view_->failed();
  notify_progress();
  tell([](LogListener& listener) { listener.log_failed(); });
  if (state_ == State::reopening) reactor_.spawn(reopen());
}

// On purpose, by somebody who waits for it. closed = it does not serve again.
Task<> LogCore::open_anew() {
  state_ = State::reopening;
  view_->failed();
  notify_progress();
  auto reopening = reopen();
  auto reopened = co_await reopening;
  if (!reopened || state_ != State::serving) co_return fail(Error::closed);
  co_return Result<>{};
}

Task<> LogCore::reopen() {
  reopening_ = true;
  writer_->silence();
  while (!writer_->idle() || background_tasks_ > 0) {
    const Nanos again = reactor_.now() + look_again;
    co_await Sleep(reactor_, again);
  }
  writer_.reset();
  if (deposed_) {
    // Opening would take an epoch, which is another node's to take.
    reopening_ = false;
    state_ = State::closed;
    notify_progress();
    co_return fail(Error::closed);
  }
  if (cut_) {
    auto cutting = cut_files(*std::exchange(cut_, std::nullopt));
    auto was_cut = co_await cutting;
    if (!was_cut) {
      reopening_ = false;
      state_ = State::closed;
      notify_progress();
      co_return fail(was_cut.error());
    }
  }
  tables_ = std::make_unique<Tables>();
  spare_.reset();
  previous_.reset();
  last_key_.reset();
  groups_.clear();
  state_series_begun_ = Lsn{};
  closing_.clear();
  finishing_.clear();
  made_day_ = Day{};
  state_series_first_ = Lsn{};
  OpeningReport report;
  auto opening = open_files(report);
  auto opened = co_await opening;
  if (opened) {
    auto giving = give_back_surplus();
    opened = co_await giving;
  }
  reopening_ = false;
  if (!opened || state_ != State::reopening) {
    if (state_ == State::reopening) state_ = State::closed;
    notify_progress();
    co_return Result<>{};
  }
  state_ = State::serving;
  view_->ready(readable_end(writer_->marks().durable));
  begin_work();
  notify_progress();
  tell([](LogListener& listener) { listener.log_reopened(); });
  co_return Result<>{};
}

Task<> LogCore::stop() {
  if (state_ == State::reopening) state_ = State::closed;
  while (reopening_) co_await progress_.wait();
  if (state_ == State::serving) {
    state_ = State::stopping;
    if (!options_.follow) writer_->move_tail();
    Timer limit;
    limit.context = this;
    limit.fire = [](Timer& timer) { static_cast<LogCore*>(timer.context)->notify_progress(); };
    const Nanos deadline = reactor_.now() + stop_within;
    reactor_.arm(limit, deadline);
    // What a copy has pending stays in its slots: its leader has not closed the group.
    auto settled = [&] {
      const Watermarks& marks = writer_->marks();
      return options_.follow ? writer_->idle() && marks.durable == marks.appended : writer_->settled();
    };
    while (state_ == State::stopping && !settled() && reactor_.now() < deadline) co_await progress_.wait();
    reactor_.disarm(limit);
  }
  state_ = state_ == State::closed ? State::closed : State::stopped;
  notify_progress();
  reactor_.disarm(day_timer_);
  auto stopping_pool = pool_.stop();
  auto pool_stopped = co_await stopping_pool;
  static_cast<void>(pool_stopped);
  while (background_tasks_ > 0) co_await progress_.wait();
  auto stopping_view = view_->stop();
  auto view_stopped = co_await stopping_view;
  static_cast<void>(view_stopped);
  if (writer_) writer_->silence();
  while (writer_ && !writer_->idle()) {
    const Nanos again = reactor_.now() + look_again;
    co_await Sleep(reactor_, again);
  }
  co_return Result<>{};
}

void LogCore::add_listener(LogListener& listener) { listeners_.push_back(&listener); }

void LogCore::remove_listener(LogListener& listener) {
  auto found = std::find(listeners_.begin(), listeners_.end(), &listener);
  MR_ASSERT(found != listeners_.end());
  // Its place stays while somebody may be walking over the list.
  if (telling_) *found = nullptr;
  else listeners_.erase(found);
}

Watermarks LogCore::watermarks() const {
  return writer_ ? writer_->marks()
                 : Watermarks{tables_->log().next_lsn, tables_->log().next_lsn, tables_->log().next_lsn};
}

LogCondition LogCore::condition() const {
  switch (state_) {
    case State::serving: return no_space_ ? LogCondition::no_space : LogCondition::serving;
    case State::opening:
    case State::reopening: return LogCondition::reopening;
    case State::closed: return LogCondition::closed;
    case State::stopping:
    case State::stopped: break;
  }
  return LogCondition::stopped;
}

std::size_t LogCore::visit_streams(std::size_t from, std::size_t most,
                                   const std::function<void(const StreamInfo&)>& visit) const {
  const Catalogue& streams = tables_->streams();
  from = std::min(from, streams.size());
  const std::size_t end = from + std::min(most, streams.size() - from);
  for (std::size_t number = from; number < end; ++number) {
    const Stream& stream = streams.at(static_cast<std::uint32_t>(number));
    if (!stream.exists()) continue;
    visit(info_of(stream));
  }
  return end < streams.size() ? end : 0;
}

LogStats LogCore::stats() const {
  LogStats stats;
  stats.condition = condition();
  stats.watermarks = watermarks();
  stats.epoch = epoch_;
  stats.day = tables_->log().day;
  stats.first_day = first_kept_.day;
  stats.first_kept_segment = first_kept_.number;
  stats.first_lsn = first_lsn_;
  stats.days = days_;
  if (writer_ && writer_->has_segment()) {
    stats.segment_open = true;
    stats.segment_number = writer_->segment().key.number;
    stats.segment_used = writer_->segment().end;
  }
  stats.pool_ready = pool_.ready();
  stats.free_bytes = pool_.free_bytes();
  stats.supply_failure = supply_failure_;
  stats.streams = tables_->streams().created();
  stats.producers = tables_->producers().producer_count();
  stats.appended_batches = appended_batches_;
  stats.appended_records = appended_records_;
  stats.appended_bytes = appended_body_bytes_;
  stats.repeats = repeats_;
  stats.refusals = refusals_;
  stats.prepared_bytes = pool_.prepared_bytes();
  stats.failures = failures_;
  stats.held_days = held_;
  if (!writer_) return stats;
  const WriterStats& writes = writer_->stats();
  stats.slot_writes = writes.slot_writes;
  stats.group_writes = writes.group_writes;
  stats.durable_end_writes = writes.end_writes;
  stats.write_bytes = writes.write_bytes;
  stats.commit_max = writes.commit_max;
  stats.commit_total = writes.commit_total;
  stats.staging_bytes = writer_->staged_bytes();
  return stats;
}

}  // namespace millrace
