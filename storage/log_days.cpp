// Days: the seal that ends one, what makes it complete afterwards, and the state batches the next one begins with.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "storage/finish.hpp"
#include "storage/log_core.hpp"
#include "storage/names.hpp"

namespace millrace {

namespace {

constexpr std::uint64_t truncate_step = 32 * MiB;  // larger steps stall commits on some mounts
constexpr Nanos day_timer_longest = 60 * nanos_per_second;
constexpr Nanos day_timer_shortest = nanos_per_milli;
constexpr std::size_t streams_per_piece = 256;
constexpr std::size_t windows_per_piece = 64;
constexpr std::size_t producers_per_piece = 1024;
constexpr Nanos state_retry_after = 5 * nanos_per_milli;

}  // namespace

// The seal goes where the day stands, into the space kept for it; the next batch begins a segment of the next day.
LogCore::Placed LogCore::seal_day(const DayStamp& next) {
  const Day day = tables_->log().day;
  MR_ASSERT(day_is_open() && next.day > day);
  DayStamp stamp;
  stamp.day = day;
  stamp.leader_time = std::max(tables_->log().last_leader_time,
                               std::min(next.leader_time, day_begin(day.next(), options_.day_offset_seconds) - 1));
  const std::uint64_t span = batch_span(sizeof(SealBody)) + (epoch_pending_ ? batch_span(sizeof(EpochBody)) : 0);
  // The seal closes its segment, and the next day's takes the place that waits for a file: this one must have its own by then.
  if (!writer_->has_segment() && can_begin()) begin_segment(next_key(day));
  if (!writer_->has_segment() || !writer_->segment().attached) {
    if (writer_->has_segment() && pool_.can_supply())
      return std::unexpected(AppendRefusal{Error::retry_later, retry_after_ms});
    no_space_ = true;
    return std::unexpected(no_space());
  }
  if (Placed placed = place(span, day, true); !placed) return placed;
  append_prologue(stamp);
  FinishJob job;
  job.last = writer_->segment().key;
  job.batches = tables_->log().day_batches;
  job.records = tables_->log().day_records;
  job.body_bytes = tables_->log().day_body_bytes;
  job.epoch = epoch_;
  std::vector<std::byte> body;
  write_seal_body(
      body,
      {.day = day, .batches = job.batches, .records = job.records, .body_bytes = job.body_bytes, .epoch = epoch_});
  append_control(BatchKind::seal, body, stamp);
  close_segment();
  job.end = *previous_;
  finishing_.push_back(job);
  if (!finishing_running_) {
    finishing_running_ = true;
    background(run_finishing());
  }
  return {};
}

Task<> LogCore::run_finishing() {
  while (!finishing_.empty() && working()) {
    const FinishJob job = finishing_.front();
    // Only what is durable, and in its place, is final.
    auto settled = [&] {
      const bool moving =
          std::any_of(closing_.begin(), closing_.end(), [&](SegmentKey key) { return !(job.last < key); });
      return !moving && !(writer_->marks().durable < job.end.next_lsn);
    };
    while (working() && !settled()) co_await progress_.wait();
    if (!working()) break;
    auto finishing = finish_day(job);
    auto finished = co_await finishing;
    if (!working()) break;
    if (!finished) {
      // A full disk, most likely: the day stays sealed and unfinished, and is finished when it can be.
      const Nanos again = reactor_.now() + SegmentPool::look_again_after;
      co_await Sleep(reactor_, again);
      continue;
    }
    finishing_.pop_front();
    view_->day_finished(job.last.day);
    if (options_.retain_days > 0 || options_.retain_bytes > 0) look_at_retention();
  }
  finishing_running_ = false;
  co_return Result<>{};
}

Task<> LogCore::finish_day(FinishJob job) {
  if (spare_ && spare_->key.day == job.last.day) {
    // Named for a successor that this day will not have.
    NamedSegment spare = std::move(*spare_);
    spare_.reset();
    auto giving = give_back(spare.key);
    auto given = co_await giving;
    if (!given) co_return fail(given.error());
  }
  auto cutting = cut_last_segment(job);
  auto cut = co_await cutting;
  if (!cut) co_return fail(cut.error());
  auto writing = write_finish_file(job);
  auto written = co_await writing;
  co_return std::move(written);
}

Task<> LogCore::cut_last_segment(FinishJob job) {
  auto opening = File::open(reactor_, segment_path(options_.directory, job.last),
                            open_read | open_write | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  for (std::uint64_t size = status->size; size > job.end.length;) {
    size = std::max(job.end.length, size - std::min(size, truncate_step));
    auto truncating = file->truncate(size);
    auto truncated = co_await truncating;
    if (!truncated) co_return fail(truncated.error());
  }
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  co_return std::move(synced);
}

Task<> LogCore::write_finish_file(FinishJob job) {
  Finish finish;
  finish.log_id = meta_->node().log_id;
  finish.shard = options_.shard;
  finish.day = job.last.day;
  finish.last_segment_number = job.last.number;
  finish.last_segment_length = job.end.length;
  finish.end_lsn = job.end.next_lsn;
  finish.final_chain = job.end.chain;
  finish.batches = job.batches;
  finish.records = job.records;
  finish.body_bytes = job.body_bytes;
  finish.epoch = job.epoch;
  const AlignedMemory block(block_bytes);
  write_finish(finish, block.bytes());
  const std::string path = finish_path(options_.directory, job.last.day);
  const std::string temporary = path + ".tmp";
  auto opening =
      File::open(reactor_, temporary, open_write | open_create | open_truncate | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto writing = file->write_exact(0, block.bytes(), false);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto renaming = Directory::rename_file(reactor_, temporary, path);
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor_, day_path(options_.directory, job.last.day));
  auto named = co_await naming;
  co_return std::move(named);
}

// The leader seals by the clock also when nothing is appended. The wall clock may jump, so it is asked once a minute.
// A log without a day has nothing to seal: the day of its first batch is looked at by the minute like any other.
void LogCore::arm_day_timer() {
  if (no_leader()) return;
  if (!day_is_open()) return reactor_.arm(day_timer_, reactor_.now() + day_timer_longest);
  const Nanos left = day_begin(tables_->log().day.next(), options_.day_offset_seconds) - reactor_.wall_now();
  reactor_.arm(day_timer_, reactor_.now() + std::clamp(left, day_timer_shortest, day_timer_longest));
}

void LogCore::day_timer_fired() {
  if (!working() || no_leader()) return;
  const DayStamp stamp = stamp_now();
  if (day_is_open() && stamp.day > tables_->log().day) {
    // A refusal (no memory just now) is tried again when the timer fires next.
    Placed sealed = seal_day(stamp);
    static_cast<void>(sealed);
  }
  arm_day_timer();
}

std::uint32_t LogCore::state_pieces(std::size_t streams, std::size_t windows, std::size_t producers) const {
  auto pieces = [](std::size_t rows, std::size_t per_piece) { return (rows + per_piece - 1) / per_piece; };
  return static_cast<std::uint32_t>(1 + pieces(streams, streams_per_piece) + pieces(windows, windows_per_piece) +
                                    pieces(producers, producers_per_piece));
}

// The tables, in pieces between appends. What changes while this goes on is in the log of this day anyway.
Task<> LogCore::emit_state() {
  if (state_running_) co_return Result<>{};
  state_running_ = true;
  const StateExtent extent{tables_->streams().size(), tables_->producers().windows().size(),
                           tables_->producers().producers().size()};
  const std::uint32_t pieces = state_pieces(extent.streams, extent.windows, extent.producers);
  const std::uint64_t failures = failures_;
  Lsn first{};
  Lsn last{};
  for (std::uint32_t piece = 0; piece < pieces && working() && failures == failures_;) {
    scratch_.clear();
    write_state_piece_head(scratch_, piece, pieces, writer_->marks().appended);
    write_state_rows(scratch_, piece, extent);
    auto appended = append_alone(BatchKind::state, scratch_);
    if (appended) {
      if (piece++ == 0) first = *appended;
      last = *appended;
      co_await Yield{};
    } else {
      const Nanos again = reactor_.now() + state_retry_after;
      co_await Sleep(reactor_, again);
    }
  }
  while (working() && failures == failures_ && !(writer_->marks().durable > last)) co_await progress_.wait();
  if (working() && failures == failures_) state_series_first_ = first;
  state_running_ = false;
  notify_progress();
  co_return Result<>{};
}

// Piece 0 says where the log stands; then streams, windows and producers by their numbers.
void LogCore::write_state_rows(std::vector<std::byte>& body, std::uint32_t piece, const StateExtent& extent) {
  if (piece == 0) {
    write_row(body, tables_->log());
    return;
  }
  std::size_t at = piece - 1;
  const std::size_t stream_pieces = (extent.streams + streams_per_piece - 1) / streams_per_piece;
  const std::size_t window_pieces = (extent.windows + windows_per_piece - 1) / windows_per_piece;
  if (at < stream_pieces) {
    tables_->write_stream_rows(body, at * streams_per_piece, std::min(extent.streams, (at + 1) * streams_per_piece));
    return;
  }
  at -= stream_pieces;
  if (at < window_pieces) {
    tables_->write_window_rows(body, at * windows_per_piece, std::min(extent.windows, (at + 1) * windows_per_piece));
    return;
  }
  at -= window_pieces;
  tables_->write_producer_rows(body, at * producers_per_piece,
                               std::min(extent.producers, (at + 1) * producers_per_piece));
}

}  // namespace millrace
