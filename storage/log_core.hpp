// The inside of Log: what is appended gets its place (log_append.cpp), segments and days follow each other (log_segments.cpp,
// log_days.cpp), a failed commit is survived (log_life.cpp), old segments leave (retention).
//
// It owns all rooms of a shard's storage and is the only one that knows more than two of them.
// Thread: the shard's.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/catalogue.hpp"
#include "storage/day_rule.hpp"
#include "storage/log.hpp"
#include "storage/log_copy.hpp"
#include "storage/log_writer.hpp"
#include "storage/node_meta_file.hpp"
#include "storage/opening.hpp"
#include "storage/read_view.hpp"
#include "storage/segment_pool.hpp"
#include "storage/staging.hpp"
#include "storage/tables.hpp"
#include "storage/tail_slot.hpp"

namespace millrace {

/// A day whose seal was appended and whose finish file is still to be written.
struct FinishJob {
  SegmentKey last{};
  SegmentEnd end;
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t body_bytes = 0;
  Epoch epoch{};  // of the seal
};

/// What a copy gives back: file bytes [from, end) of its last segment, and what is pending.
struct CopyCut {
  SegmentKey key{};
  std::uint64_t from = 0;
  std::uint64_t end = 0;
  Lsn first{};    // the first batch that goes
  TailSlot kept;  // what stays as pending, as a slot will hold it; length 0 = nothing
  AlignedMemory kept_slot;
};

/// How far the tables reached when a series of state batches began.
struct StateExtent {
  std::size_t streams = 0;
  std::size_t windows = 0;
  std::size_t producers = 0;
};

class LogCore final : public WriterOwner, public PoolPressure, public StreamSource, public LogSource, public LogCopy {
 public:
  LogCore(Reactor& reactor, LogOptions options);
  ~LogCore();
  Reactor& reactor() const { return reactor_; }

  // Log's face; contracts stand there.
  Task<> open(OpeningReport& report);
  Log::Appended append(const BatchHeader& producer, Bytes body);
  Result<StreamId> declare_stream(std::string_view name);
  Task<ProducerRegistration> register_producer(ProducerId id);
  Result<Lsn> trim_stream(StreamId stream, Offset first_kept);
  Watermarks watermarks() const;
  LogCondition condition() const;
  void add_listener(LogListener& listener);
  void remove_listener(LogListener& listener);
  Result<StreamInfo> find_stream(StreamId id) const;
  Offset offset_floor() const { return tables_->log().offset_floor; }
  std::size_t stream_count() const { return tables_->streams().created(); }
  std::size_t visit_streams(std::size_t from, std::size_t most,
                            const std::function<void(const StreamInfo&)>& visit) const;
  const std::vector<DamagedRange>& damaged() const { return damaged_; }
  const LogOptions& options() const { return options_; }
  ReadView& view() { return *view_; }
  LogStats stats() const;
  Task<> stop();

  // LogSource and LogCopy: log_follow.cpp.
  std::optional<SubmittedGroup> submitted(SegmentKey key, std::uint64_t offset) const override;
  std::optional<SegmentKey> newest_segment() const override { return last_key_; }
  const SegmentHeader& newest_header() const override { return last_header_; }
  SegmentKey first_kept_segment() const override { return first_kept_; }
  Epoch epoch() const override { return epoch_; }
  const Id128& log_id() const override { return meta_->node().log_id; }
  const Id128& cluster_id() const override { return meta_->node().cluster_id; }
  Signal& submitted_signal() override { return submitted_; }
  Task<> accept_epoch(Epoch epoch) override;
  Epoch known_epoch() const override;
  CopyEnd end() const override;
  const std::vector<GroupMark>& groups() const override { return groups_; }
  Result<> take_segment(Bytes block) override;
  Result<> take_placed(std::uint64_t group, std::uint64_t from, Bytes header, Bytes batches) override;
  void take_durable(Lsn leader) override;
  Task<std::vector<BatchEnd>> batch_ends(std::size_t group) override;
  Task<> cut(CopyPlace place) override;

  // What the node is: log_part.cpp.
  bool deposed() const override { return deposed_; }
  Task<> depose(Epoch epoch) override;
  Task<> lead(Epoch epoch) override;

 private:
  using Placed = std::expected<void, AppendRefusal>;

  // WriterOwner, PoolPressure, StreamSource.
  void writer_durable(Lsn durable) override;
  void writer_moved(const WriterSegment& segment, std::uint64_t end) override;
  void writer_failed(Error error) override;
  void writer_reuses(Bytes memory) override;
  void writer_submitted() override { submitted_.notify(); }
  std::uint64_t appended_bytes() const override { return written_bytes_; }
  bool given_up() const override { return state_ == State::opening && options_.given_up(); }
  StreamBounds stream_bounds(StreamId stream) const override;

  // Appending: log_append.cpp.
  std::optional<AppendRefusal> check_append(const BatchHeader& producer, Bytes body) const;
  Placed prepare_day(const DayStamp& stamp);
  Placed place(std::uint64_t span, Day day, bool reserve);
  Placed place_batches(const BatchHeader& producer, const Stream& stream, const DayStamp& stamp);
  std::uint64_t prologue_span(const Stream* created) const;
  void append_prologue(const DayStamp& stamp);
  void append_created(const Stream& stream, const DayStamp& stamp);
  void append_control(BatchKind kind, Bytes body, const DayStamp& stamp);
  AppendPosition append_data(const BatchHeader& producer, Bytes body, std::uint32_t stream, const DayStamp& stamp);
  /// A control batch of its own, with day and place. For registrations, trims, states.
  std::expected<Lsn, AppendRefusal> append_alone(BatchKind kind, Bytes body);
  AppendRefusal no_space() const;
  DayStamp stamp_now() const { return day_rule_->stamp(reactor_.wall_now(), reactor_.now(), sealed_); }

  // Segments: log_segments.cpp.
  bool can_begin() const;
  void close_segment();
  void settle_closed();
  void begin_segment(SegmentKey key);
  void begin_segment(SegmentKey key, const SegmentHeader& header);
  void begin_day(Day day);
  SegmentKey next_key(Day day) const;
  static StreamInfo info_of(const Stream& stream);
  void supply();
  /// The batch at `lsn` waits for a file that cannot be opened now.
  bool stalled(Lsn lsn) const;
  Task<> run_supply();
  Task<> supply_current();
  Task<> supply_spare();
  Task<> give_back(SegmentKey key);
  /// Asks the filesystem where the file's extents end. One that does not say, or scattered the file, gets writes that cross them.
  Task<> note_borders(NamedSegment& segment);
  Task<> make_day_directory(Day day);

  // Days: log_days.cpp.
  /// The tables' day can still get batches: it has some, or a segment was begun for it.
  bool day_is_open() const { return (tables_->log().next_lsn > Lsn{1} || last_key_) && !sealed_; }
  Placed seal_day(const DayStamp& next);
  Task<> run_finishing();
  Task<> finish_day(FinishJob job);
  Task<> write_finish_file(FinishJob job);
  Task<> cut_last_segment(FinishJob job);
  void arm_day_timer();
  void day_timer_fired();
  Task<> emit_state();
  std::uint32_t state_pieces(std::size_t streams, std::size_t windows, std::size_t producers) const;
  void write_state_rows(std::vector<std::byte>& body, std::uint32_t piece, const StateExtent& extent);

  // Life: log_life.cpp.
  Task<> try_open(OpeningReport& report);
  Task<> open_files(OpeningReport& report);
  void take_over(OpenedLog opened);
  void begin_work();
  Task<> reopen();
  Task<> open_anew();
  Task<> give_back_surplus();
  template <class Call>
  void tell(Call call);
  void notify_progress() {
    progress_.notify();
    submitted_.notify();
  }
  static Task<> run_in_background(LogCore& core, Task<> work);
  void background(Task<> work);
  /// Why nothing may be appended by this node's own will.
  std::optional<Error> no_leader() const {
    return options_.follow || deposed_ ? std::optional(Error::not_leader) : std::nullopt;
  }
  Result<> choose_part(OpeningReport& report);
  bool working() const { return state_ == State::serving || state_ == State::stopping; }

  // A copy: log_follow.cpp.
  Result<> begin_copy(SegmentKey key, const SegmentHeader& header);
  Result<> apply_copied(Bytes batches);
  void note_copied_state(const PlacedBatch& batch);
  void end_copied_day();
  Lsn readable_end(Lsn durable) const;
  Result<> resume_pending(const PendingGroup& pending);
  Task<Bytes> group_batches(std::size_t group, AlignedMemory& memory);
  Task<> keep_pending(CopyCut& wanted, CopyPlace place);
  Task<> cut_files(CopyCut wanted);
  Task<> forget_derived(Day day);
  Task<> cut_tail(CopyCut& wanted);

  // Retention: retention.cpp.
  void look_at_retention();
  Task<> run_retention();
  Task<> finish_drop();
  Task<bool> retain_once();
  Task<std::vector<DropName>> choose_drops();
  Task<> drop_segment(SegmentKey key);
  Task<> remove_in_steps(std::string path, std::uint64_t size);
  Task<> drop_day_if_empty(Day day);
  Lsn first_lsn_behind(SegmentKey key) const;
  Task<> note_first_lsn();

  enum class State : std::uint8_t { opening, serving, reopening, closed, stopping, stopped };

  Reactor& reactor_;
  LogOptions options_;  // only `follow` changes
  Staging staging_;
  SegmentPool pool_;
  std::unique_ptr<ShardMeta> meta_;
  std::unique_ptr<Tables> tables_;
  std::unique_ptr<ReadView> view_;
  std::unique_ptr<DayRule> day_rule_;
  std::unique_ptr<LogWriter> writer_;
  std::vector<LogListener*> listeners_;
  std::vector<DamagedRange> damaged_;

  State state_ = State::opening;
  bool reopening_ = false;  // the task of reopen() runs
  bool telling_ = false;    // listeners are being told
  bool loss_is_new_ = false;
  Epoch epoch_{};
  bool epoch_pending_ = false;  // the epoch batch goes before the next batch
  EpochBody epoch_body_;
  bool sealed_ = false;                 // the last batch is a seal
  std::optional<SegmentKey> last_key_;  // of the newest segment that was begun
  std::optional<SegmentEnd> previous_;  // where it ended, once closed
  std::optional<NamedSegment> spare_;   // the next one, named ahead
  std::vector<NamedSegment> surplus_;  // named behind it before a crash: back to the pool before anything is named anew
  std::vector<SegmentKey> closing_;    // closed, and not in the index's hands yet: bytes are in flight
  std::deque<FinishJob> finishing_;
  Day made_day_{};         // newest day whose directory is durable
  bool no_space_ = false;  // the last refusal was for space
  bool supplying_ = false;
  bool supply_again_ = false;
  std::optional<Error> supply_failure_;  // of the last try
  bool finishing_running_ = false;
  bool state_running_ = false;
  Lsn state_series_first_{};  // where the newest complete series of state batches begins; 0 = unknown
  std::size_t background_tasks_ = 0;
  Nanos last_failure_ = 0;
  bool failed_before_ = false;
  Signal progress_;  // durable moved, a segment settled, a task ended, the state changed
  Timer day_timer_;
  SegmentKey first_kept_{};
  Lsn first_lsn_{1};  // of the oldest segment there is
  std::uint64_t days_ = 0;
  std::uint64_t dropped_segments_ = 0;
  bool retention_running_ = false;

  // A copy's; submitted_ is every log's.
  Signal submitted_;
  bool copy_damaged_ = false;  // its newest segment is: nothing is taken, nothing is written
  bool deposed_ = false;       // a leader's: another one took over
  Lsn leader_durable_{1};
  SegmentHeader last_header_;      // of last_key_
  std::vector<GroupMark> groups_;  // of last_key_, closed
  Lsn state_series_begun_{};
  std::optional<CopyCut> cut_;

  std::uint64_t written_bytes_ = 0;
  std::uint64_t appended_batches_ = 0;
  std::uint64_t appended_records_ = 0;
  std::uint64_t appended_body_bytes_ = 0;
  std::uint64_t repeats_ = 0;
  std::uint64_t refusals_ = 0;
  std::uint64_t failures_ = 0;
  std::uint64_t held_ = 0;
  std::vector<std::byte> scratch_;  // bodies of control batches
};

template <class Call>
void LogCore::tell(Call call) {
  telling_ = true;
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    if (listeners_[i] != nullptr) call(*listeners_[i]);
  telling_ = false;
  std::erase(listeners_, nullptr);
}

/// How long a refused append should wait when memory or a background task is behind.
inline constexpr std::uint64_t retry_after_ms = 2;
/// A second failure within this stays closed.
inline constexpr Nanos second_failure_within = 60 * nanos_per_second;

}  // namespace millrace
