// What a log tells its readers: which segments there are, what is durable, what is lost. The log owns one ReadView, calls the
// functions of its first half as things happen, and every Reader of the shard looks at it. Behind it stand the tail cache, the
// runs in memory and the index; closing a segment starts the writing of its run in the background.
//
// Thread: the shard's. Nothing the log calls here blocks or fails: index and state file are derivable, so an I/O error on
// them is counted, said in stats, and made good later.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index.hpp"
#include "storage/index_builder.hpp"
#include "storage/index_repair.hpp"
#include "storage/index_run.hpp"
#include "storage/place.hpp"
#include "storage/state_file.hpp"
#include "storage/tail_cache.hpp"

namespace millrace {

struct ReadViewOptions {
  std::string shard_directory;
  Id128 log_id{};
  ShardIndex shard{};
  std::int32_t day_offset_seconds = 0;
  bool buffered = false;
  bool write_index = true;  // false: a directory that is not ours to write; what the index lacks is derived in memory
  TailCacheOptions tail;
};

/// What a stream's owner knows of it, appended batches included.
struct StreamBounds {
  bool known = false;
  Offset first_kept{};  // by trim; retention may have moved the first readable one further
  Offset next{};
  Offset begin{};  // where it was created: not 0 after a loss that may have held its creation

  /// Nothing of it stands before this.
  Offset first() const { return std::max(begin, first_kept); }
};

/// The tables behind the log, as far as readers ask.
class StreamSource {
 public:
  virtual StreamBounds stream_bounds(StreamId stream) const = 0;

 protected:
  ~StreamSource() = default;
};

/// What stands in the log when readers are let in: the outcome of an opening.
struct ViewStart {
  SegmentKey first_kept{};  // the oldest segment there is
  Lsn first_lsn{1};         // its first batch; above 1: retention took what was before
  bool has_open = false;    // false: the log's next batch begins a segment
  SegmentFacts open;        // the segment that takes appends
  Lsn next_lsn{1};
  Day finished{};  // the last day that is complete; 0 = none
};

/// Batches [first, end) that were durable and are gone.
struct LostLsns {
  Lsn first{};
  Lsn end{};
};

class ReadView {
 public:
  /// `streams` outlives the view. Takes its memory here.
  ReadView(Reactor& reactor, ReadViewOptions options, const StreamSource& streams);
  ~ReadView();
  ReadView(const ReadView&) = delete;
  ReadView& operator=(const ReadView&) = delete;
  Reactor& reactor() { return reactor_; }

  // ---- What the log tells. ----

  /// Before any other call, and again after a reopening: what was known is dropped, readers go on where they stood. Then
  /// recovered() for each batch of the open segment, in order, then ready().
  void begin(const ViewStart& start);
  /// A batch that recovery found in the open segment. `bytes` empty: it is in the segment file; else it was taken from the tail
  /// and is kept in the cache's own memory. Without such (the log's own view) it is in the segment's file before ready().
  void recovered(const BatchHeader& header, std::uint64_t position, Bytes bytes);
  /// Everything before `durable` may be read.
  void ready(Lsn durable);

  /// A new segment takes the batches from now on. The one before was closed.
  void segment_begun(const SegmentFacts& segment);
  /// A batch got its position. `batch` = header, body and padding, complete.
  void appended(const BatchHeader& header, Bytes batch, std::uint64_t position);
  /// Batches inside this memory are not readable there any more: the segment's file has them.
  void memory_reused(Bytes memory);
  /// The open segment's file holds, durably, everything before this file position.
  void moved_to_segment(std::uint64_t end);
  void durable_moved(Lsn durable);
  /// No more batches come to the open segment: its run is sorted and written in the background, `capture` (owned from here
  /// on) gives its state rows. Until it is written the run is served from memory. The segment's last bytes may still be in flight:
  /// nothing is written before segment_settled().
  void segment_closed(std::unique_ptr<StateCapture> capture);
  /// All bytes of that closed segment are in its file, durably.
  void segment_settled(SegmentKey segment);
  /// The day's seal is durable and its last segment closed; the day table is appended to its index.
  void day_finished(Day day);
  /// For a view that writes no index: somebody else's index of the day is complete, so its runs leave memory.
  void day_indexed(Day day);
  /// Every segment before `first` is going away: no reader begins to read there any more.
  void drop_before(SegmentKey first);
  /// The day has no segment left, and its directory goes away with the index in it.
  void day_dropped(Day day);
  /// The index of this day and the state file go away, to be derived anew; begin() follows.
  void forget_derived(Day day);
  void lost(LostLsns range);
  /// The log failed: readers get not_ready until ready() is called again; nothing that is not durable is readable.
  void failed();
  /// Nothing new is accepted; waiting readers get `not_ready`. Ends when the background writing has: closed segments are in the index
  /// then, those too that could not be written before, unless it fails once more.
  Task<> stop();

  /// True while a reader reads in a segment before `key`, for segment_pin_max at most: not to be reused yet. drop_before(key) comes
  /// first, so that no new read begins there.
  bool pinned_before(SegmentKey key) const;
  /// Runs that are closed and not in the index file yet; the log holds the next segment's close back beyond runs_behind_max.
  bool writing() const { return writing_; }
  /// Wakes when a run went to the index, or could not.
  Signal& run_written() { return written_; }
  std::size_t runs_behind() const { return runs_.size() - (open_ ? 1 : 0); }

  /// The state file holds what segments before this one did to the tables. Retention keeps the others: their state batches may be
  /// among what was dropped.
  SegmentKey state_saved() const { return state_saved_; }

  // ---- What readers ask. ----

  const ViewStart& start() const { return start_; }
  bool serving() const { return serving_; }
  bool stopping() const { return stopping_; }
  Lsn durable() const { return durable_; }
  Lsn appended_end() const { return appended_; }
  Day finished() const { return finished_; }
  SegmentKey first_kept() const { return first_kept_; }
  /// What a stream skipped is known durably: where its next offset lies behind its last batch, the records between are gone.
  /// Who looks at somebody else's directory knows of nothing else.
  bool skips_are_durable() const {
    return options_.write_index ? durable_ > ready_ || appended_ == ready_ : durable_ >= appended_;
  }
  /// How far a segment's file can be read: all of it once it has settled, else what was written of it durably.
  std::uint64_t readable_of(SegmentKey key) const;
  TailCache& tail() { return tail_; }
  Index& index() { return *index_; }
  const std::vector<LostLsns>& losses() const { return losses_; }
  const StreamSource& streams() const { return streams_; }
  const ReadViewOptions& options() const { return options_; }
  /// Wakes at every move of durable(), at ready(), failed(), stop() and at the end of a day.
  Signal& moved() { return moved_; }
  /// How often it woke.
  std::uint64_t moves() const { return moves_; }
  /// How often something was dropped: a file that is not there any more may have been.
  std::uint64_t drops() const { return drops_; }
  /// Retention has taken something from the front.
  bool front_dropped() const { return front_dropped_; }
  IndexStats index_stats() const;
  /// The first offset of `stream` that trims and retention left; the next one when they left none. Where nothing was taken from
  /// the front that is where the stream begins and costs nothing; else runs and index are searched. Any error of the index.
  Task<Offset> first_readable(StreamId stream);
  /// The index of the oldest day is there: first_readable() need not derive it from the day's segments.
  Task<bool> front_indexed();

  // ---- The runs in memory, for Reader. ----

  using RunPtr = std::shared_ptr<const OpenRun>;
  /// Closed ones that are not in the index yet, oldest first, then the open one (may be null).
  const std::vector<RunPtr>& runs() const { return runs_; }
  /// Changes when a run left runs() for the index: a search on disk that began before has to look again.
  std::uint64_t runs_moved() const { return runs_moved_; }

  /// Reads a day's index against its hashes before somebody says that records are lost. False: it was damaged and has been derived
  /// anew, look again.
  Task<bool> verify_index(Day day);

  /// A buffer for one disk read of read_operation_max and two blocks; waits while all are in use.
  class BufferLease;
  Task<BufferLease> lease_buffer();

 private:
  friend class BufferLease;
  struct Pin {
    SegmentKey segment{};
    Nanos deadline = 0;
  };
  struct ReadBuffer {
    AlignedMemory memory;
    bool leased = false;
    Pin pin;
  };
  struct Closing {
    std::shared_ptr<OpenRun> run;           // none: only the day table of `finished` is due
    std::unique_ptr<StateCapture> capture;  // none: a first attempt used it up, the run is derived
    Day finished{};
    bool settled = true;
  };
  void start_writing();
  Task<> write_closed();
  Task<> write_run(std::shared_ptr<OpenRun> run);
  Task<> finish_index(Day day);
  Task<> save_state(SegmentKey closed);
  Task<> fill_gaps(Day from, Day until);
  Task<> ensure_indexed(Day day);
  bool day_is_over(Day day) const;
  std::uint32_t first_in_memory(Day day) const;
  Task<> take_turn();
  void give_turn();
  void retire(const std::shared_ptr<OpenRun>& run);
  void wake();
  void begin_run(const SegmentFacts& segment);
  void note(const BatchHeader& header, std::uint64_t position);
  std::shared_ptr<OpenRun> free_run();

  Reactor& reactor_;
  const ReadViewOptions options_;
  const StreamSource& streams_;

  TailCache tail_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<IndexBuilder> builder_;
  std::unique_ptr<IndexRepair> repair_;
  std::vector<Day> whole_;  // days whose index is known to have everything
  bool repairing_ = false;  // somebody else than the background task appends to an index
  std::vector<RunPtr> runs_;
  std::shared_ptr<OpenRun> open_;
  std::vector<std::shared_ptr<OpenRun>> all_runs_;  // reused when nobody holds them any more
  std::uint64_t runs_moved_ = 0;
  std::vector<Closing> closing_;  // what the background task has still to write
  bool writing_ = false;
  bool stuck_ = false;  // the oldest could not be written: the next close, or end of a day, tries again
  Signal written_;
  std::unique_ptr<StateFile> state_;  // opened when it is first saved to
  SegmentKey state_saved_{};
  std::uint64_t state_behind_ =
      UINT64_MAX / 2;  // log bytes since; not known of earlier lives, so the first close saves
  ViewStart start_;
  bool serving_ = false;
  bool stopping_ = false;
  Lsn durable_{1};
  Lsn ready_{};  // the durable end when readers were let in
  Lsn appended_{1};
  Day finished_{};
  Day gap_{};  // of this day a run is not in the index: no table says it is complete, whoever needs it has it derived
  SegmentKey first_kept_{};
  std::uint64_t open_readable_ = 0;
  struct Unsettled {
    SegmentKey key{};
    std::uint64_t readable = 0;
  };
  std::vector<Unsettled> unsettled_;  // closed ones whose last bytes are in flight
  std::vector<LostLsns> losses_;
  std::vector<std::unique_ptr<ReadBuffer>> buffers_;
  Signal buffer_free_;
  Signal moved_;
  std::uint64_t moves_ = 0;
  std::uint64_t drops_ = 0;
  bool front_dropped_ = false;
};

/// A read buffer in use; given back when destroyed.
class ReadView::BufferLease {
 public:
  BufferLease() = default;
  BufferLease(ReadView& view, ReadBuffer& buffer) : view_(&view), buffer_(&buffer) {}
  BufferLease(BufferLease&& other) noexcept : view_(other.view_), buffer_(std::exchange(other.buffer_, nullptr)) {}
  BufferLease& operator=(BufferLease&& other) noexcept;
  ~BufferLease() { release(); }

  MutableBytes bytes() const { return buffer_->memory.bytes(); }
  /// The segment read from is not reused until the lease ends, or segment_pin_max has passed.
  void pin(SegmentKey segment);

 private:
  void release();
  ReadView* view_ = nullptr;
  ReadBuffer* buffer_ = nullptr;
};

/// Reads of a shard that go on at a time.
inline constexpr std::size_t read_buffers_max = 8;
/// Closed runs that may wait for the index file before closing another segment has to wait. Where the index cannot be written, one
/// less stay in memory; what is older is derived when a reader needs it.
inline constexpr std::size_t runs_behind_max = 4;
/// How long one read of a reader may keep a segment from being reused.
inline constexpr Nanos segment_pin_max = 10 * nanos_per_second;
inline constexpr std::size_t read_merge_bytes = 64 * KiB;   // reads closer than this become one
inline constexpr std::size_t read_operation_max = 1 * MiB;  // one disk read, unless a single batch is larger

}  // namespace millrace
