// The log of one shard: one append-only sequence of batches of all its streams.
//
// Contract, one sentence a verb:
//   append  gives a batch its position (lsn, offset, id, day), in memory, at once;
//   durable moves when everything before it is on the device: then a batch is acknowledged, never earlier;
//   a crash keeps every batch below durable() and any prefix of those after it.
// After a failed commit write the outcome of what was not durable is unknown: listeners are told so, append answers
// not_ready while the log reopens itself once; after a second failure within 60 s it stays closed.
//
// Thread: the shard's. Nothing here blocks; I/O runs in the reactor's coroutines.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/commit_sizes.hpp"
#include "storage/watermarks.hpp"

namespace millrace {

struct LogOptions {
  std::string directory;       // data/shard-NN
  std::string node_meta_path;  // data/node.meta
  ShardIndex shard{};
  std::uint64_t segment_bytes = 128 * MiB;
  std::uint64_t memory_bytes = 256 * MiB;  // everything this shard may hold: staging, tail cache, read buffers, tables
  std::int32_t day_offset_seconds = 0;
  std::uint32_t pool_segments = 2;     // segments kept prepared; a burst of so many costs no zeroing
  std::uint32_t retain_days = 0;       // 0 = all
  std::uint64_t retain_bytes = 0;      // 0 = all
  bool buffered = false;               // no O_DIRECT: for filesystems without it; never the default
  std::uint64_t tail_bytes = 1 * MiB;  // the tail's ring, for a log that is created
  CommitSizes commit_sizes{};
  bool separate_sync = false;     // write, then fdatasync, instead of one DSYNC write
  bool accept_clock = false;      // believe a wall clock more than 366 days ahead of the last day
  bool follow = false;            // a copy of a leader's log: see LogCopy
  std::uint64_t leader_hash = 0;  // of the leader's address: a node promoted over that one leads all the same
  std::uint64_t (*allocations)() = nullptr;  // heap allocations of the process so far; nullptr = not counted
  const bool* give_up = nullptr;  // once it is true, an opening ends soon, with Error::cancelled; nullptr = never

  bool given_up() const { return give_up != nullptr && *give_up; }
};

/// Where a batch stands. For a repeat (same producer, epoch, sequence) it is the position of the first copy.
struct AppendPosition {
  Lsn lsn{};
  Offset first_offset{};
  RecordId first_id{};
  Day day{};
  bool repeat = false;
};

/// What append says when it refuses; `error` decides what `detail` is.
struct AppendRefusal {
  Error error{};
  std::uint64_t detail = 0;  // no_space: free bytes; retry_later: milliseconds; out_of_order: the sequence expected
};

class LogListener {
 public:
  /// durable() moved. Called once a turn at most; acknowledge what is below it.
  virtual void log_durable(Lsn durable) = 0;
  /// The batches from `first` on have no file to go to, and the last try to open one failed: what becomes of them is not known
  /// before one can be, which is tried every second. Said after each try.
  virtual void log_stalled(Lsn first) { static_cast<void>(first); }
  /// A commit failed: whatever was appended and is not below durable() has an unknown outcome (Error::unknown_outcome).
  /// append answers not_ready until log_reopened, or closed for good.
  virtual void log_failed() = 0;
  /// The log recovered itself and takes appends again. Batches whose outcome was unknown are either there (a repeat with
  /// the same sequence says where) or gone.
  virtual void log_reopened() {}

 protected:
  ~LogListener() = default;
};

enum class LogCondition : std::uint8_t {
  serving,
  no_space,   // no segment can be prepared: appends are refused, all else goes on; looked at again every second
  reopening,  // a commit failed; recovering
  closed,     // a second failure within 60 s: stays so until the process is started again
  stopped,
};
std::string_view condition_name(LogCondition condition);

/// How an opening goes: written while it runs (a progress line may show it) and complete when it has ended.
struct OpeningReport {
  std::string diagnosis;          // why it was refused, for a person: what, where, and the cure; empty when it was not
  std::string step;               // what it does just now
  std::uint64_t bytes_done = 0;   // of this step
  std::uint64_t bytes_total = 0;  // of this step; 0 = unknown
  bool created = false;           // there was no log before
  Epoch epoch{};                  // the epoch taken
  Lsn next_lsn{1};
  Day day{};
  std::uint64_t days = 0;
  std::uint64_t segments = 0;
  std::uint64_t reads = 0;  // read operations it took, and their bytes
  std::uint64_t bytes_read = 0;
  std::uint64_t slots_taken = 0;   // tail slots whose batches were not in the segment yet
  std::uint64_t bytes_cut = 0;     // torn bytes taken away (to quarantine) as explained by a crash
  std::uint64_t lost_batches = 0;  // durable batches found damaged: their range answers data_loss
  std::string verdict;             // recovery's word for the open segment
  std::vector<std::string> notes;  // whatever a person should know, one sentence each
};

/// What is known of one stream. Offsets and ids are the next ones.
struct StreamInfo {
  StreamId id{};
  std::string_view name;  // valid until the next call of the log; empty: lost with its creation, known by its id
  Offset next_offset{};
  Offset
      first_offset{};  // where it begins, or what a trim left; retention may have moved the first readable one further
  RecordId next_id{};  // within `day`
  Day day{};           // day of the stream's last record
};

struct ProducerRegistration {
  ProducerId id{};
  std::uint32_t epoch = 0;  // sequences start at 0 under it, per stream
};

struct DamagedRange {
  Lsn first{};
  Lsn end{};  // exclusive
};

struct LogStats {
  LogCondition condition = LogCondition::serving;
  Watermarks watermarks;
  Epoch epoch{};
  Day day{};
  Day first_day{};                       // the oldest that is still here
  std::uint64_t first_kept_segment = 0;  // and its oldest segment
  Lsn first_lsn{1};                      // the first batch that retention left
  std::uint64_t days = 0;
  bool segment_open = false;
  std::uint32_t segment_number = 0;  // the open one's, in its day
  std::uint64_t segment_used = 0;
  std::uint64_t pool_ready = 0;
  std::uint64_t free_bytes = 0;         // as of the last look
  std::optional<Error> supply_failure;  // why the last try to open a segment failed; tried again every second
  std::uint64_t streams = 0;
  std::uint64_t producers = 0;
  std::uint64_t appended_batches = 0;  // since the opening, as all below
  std::uint64_t appended_records = 0;
  std::uint64_t appended_bytes = 0;  // bodies
  std::uint64_t repeats = 0;
  std::uint64_t refusals = 0;
  std::uint64_t slot_writes = 0;
  std::uint64_t group_writes = 0;
  std::uint64_t durable_end_writes = 0;
  std::uint64_t write_bytes = 0;         // slots and groups, padding included
  std::uint64_t prepared_bytes = 0;      // zeros written ahead
  Nanos commit_max = 0;                  // longest write
  Nanos commit_total = 0;                // sum over slot_writes + group_writes
  std::uint64_t staging_bytes = 0;       // appended, not yet durable
  std::uint64_t append_allocations = 0;  // heap allocations of the process during appends; 0 in steady state
  std::uint64_t failures = 0;            // commit writes that failed
  std::uint64_t held_days = 0;           // times a day was held because the wall clock outran the monotonic one
};

class LogCopy;
class LogCore;
class LogSource;
class ReadView;

class Log {
 public:
  using Appended = std::expected<AppendPosition, AppendRefusal>;

  /// Opens, or creates, the log in options.directory; the caller holds the directory's lock. Recovers, takes a new epoch
  /// durably, and is ready for appends when the task ends. On an error `report.diagnosis` names cause and cure and nothing
  /// on disk was changed that recovery would not change again. `reactor` and `report` outlive the task, `reactor` the log,
  /// `options.give_up` both.
  static Task<std::unique_ptr<Log>> open(Reactor& reactor, LogOptions options, OpeningReport& report);
  /// Only after stop() has ended, or when the reactor has nothing in flight any more (a simulated power cut).
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Gives a data batch its position and copies it; durable later. `producer` is the producer's header, its leader's fields
  /// zero, checked by the caller as to limits; `body` is checked by the caller as to hash and structure. The stream is known or
  /// declared. Dedupe when producer_id is not 0; a repeat of what is stalled is refused by what stalls it. Synchronous; allocates
  /// nothing in steady state. Refusals: not_ready, too_many_files and other reasons why no segment can be opened,
  /// closed, unknown_stream, too_large, invalid_argument, retry_later (ms), no_space (free bytes), out_of_order (sequence
  /// expected), duplicate, fenced (epoch), unknown_producer, clock_jumped.
  Appended append(const BatchHeader& producer, Bytes body);

  /// Makes a name usable: a new stream is created by its first batch, in the same group. Errors: invalid_argument (empty,
  /// longer than stream_name_bytes_max, not UTF-8, control characters), name_collision, retry_later (too many names declared and
  /// not used), not_ready, closed.
  Result<StreamId> declare_stream(std::string_view name);

  /// A new epoch for `id`, or a new producer when it is 0; durable when the task ends. Older epochs are fenced from the
  /// moment of the call. Errors: not_ready, closed, retry_later, no_space, unknown_outcome.
  Task<ProducerRegistration> register_producer(ProducerId id);
  Reactor& reactor();

  /// Everything of `stream` before `first_kept` becomes unreadable on every node, once durable. Errors as append's.
  Result<Lsn> trim_stream(StreamId stream, Offset first_kept);

  Watermarks watermarks() const;
  LogCondition condition() const;
  /// Listeners are told in the order they were added; they may be added and removed at any time.
  void add_listener(LogListener& listener);
  void remove_listener(LogListener& listener);

  Result<StreamInfo> find_stream(StreamId id) const;
  std::size_t stream_count() const;
  /// Where a stream that is created now begins. Not 0: batches were lost of which nothing is known, and streams that nobody knows
  /// may have had records below it.
  Offset offset_floor() const;
  /// Streams in the order of their names' arrival: looks at `most` of them from place `from` on, and returns the place to go
  /// on from; 0 = that was all. Names that came meanwhile are seen, the others stay where they are.
  std::size_t visit_streams(std::size_t from, std::size_t most,
                            const std::function<void(const StreamInfo&)>& visit) const;
  /// Ranges of batches that were durable and are gone: readers answer data_loss there.
  const std::vector<DamagedRange>& damaged() const;
  const LogOptions& options() const;
  LogStats stats() const;

  /// What readers are built on (storage/reader.hpp); valid as long as the log, across reopenings.
  ReadView& view();
  /// What is written into a copy (storage/log_copy.hpp); only with LogOptions::follow.
  LogCopy& copy();
  /// What followers are sent (storage/log_copy.hpp).
  LogSource& source();

  /// Refuses new appends, makes what was appended durable, moves the tail to the segment, ends the background tasks. After
  /// it only the destructor may be called. Ends in bounded time even when the disk fails.
  Task<> stop();

 private:
  explicit Log(std::unique_ptr<LogCore> core);
  std::unique_ptr<LogCore> core_;
  std::uint64_t append_allocations_ = 0;
};

}  // namespace millrace
