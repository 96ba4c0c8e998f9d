// Reading a shard's log: a cursor of one stream in offset order, or of all streams in the order of the log.
//
// A reader gets whole batches as they stand on disk (header, body, padding), verified, in order, none twice, and none that is
// not durable. It follows the tail from memory without touching the disk; what is older is found by the index and read with
// O_DIRECT, reads closer than 64 KiB merged. What is gone is said, never skipped silently: a range lost to damage, or
// everything before the first offset that retention or a trim left. Control batches are skipped. A block that the device refuses
// costs the batches that stand in it, of this read: the next reader asks the device again.
//
// Thread: the shard's. One next() at a time; the view outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/group.hpp"
#include "storage/index.hpp"
#include "storage/place.hpp"
#include "storage/read_view.hpp"

namespace millrace {

struct ReadRequest {
  std::optional<StreamId> stream{};  // none = all streams, in the order of the log
  Seek from{};                       // for all streams: earliest, latest, time, or from_lsn
  std::optional<Lsn> from_lsn{};     // all streams only; wins over `from`
  bool follow = false;               // wait at the end for more
};

enum class ReadNotice : std::uint8_t {
  none,
  caught_up,     // nothing more is durable now; never given to a follower, which waits instead
  day_finished,  // `day` is complete and everything of it was given
  data_loss,  // records [lost_first, next_offset) (all streams: batches [lost_lsn, next_lsn)) were durable and are gone;
              // the reader goes on behind them
  out_of_range,  // the place asked for, or reached, was cut away: next_offset is the first one left; the reader goes on there
};

/// Batches first, then at most one notice that stands behind them.
struct ReadChunk {
  std::size_t bytes = 0;  // of whole batches at the front of the target
  std::uint32_t batches = 0;
  std::uint64_t records = 0;
  ReadNotice notice = ReadNotice::none;
  Day day{};             // day_finished
  Offset lost_first{};   // data_loss of one stream
  Lsn lost_lsn{};        // data_loss of all streams
  Offset next_offset{};  // where the cursor stands now (one stream)
  Lsn next_lsn{};        // where the cursor stands now (all streams)
};

struct ReaderStats {
  std::uint64_t disk_reads = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t batches_from_memory = 0;
  std::uint64_t batches_from_disk = 0;
};

class Reader {
 public:
  Reader(ReadView& view, const ReadRequest& request);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  Reactor& reactor() { return view_.reactor(); }

  /// The next batches, as many as fit into `target`, at least one. The first call seeks: a time or (day, id) inside a batch gives
  /// that whole batch, as does an offset. Gives bytes, a notice or both. Errors: too_large (the next batch does not fit; needed()
  /// says how many bytes it takes; the cursor stays), unknown_stream, out_of_range (an offset after the end), not_ready (the log
  /// is reopening; a follower waits instead; or it is being stopped, for everybody), cancelled, io_failed (the device gives
  /// nothing; the cursor stays).
  Task<ReadChunk> next(MutableBytes target);
  /// A next() that waits returns `cancelled` soon; as does every later one.
  void cancel();

  std::size_t needed() const { return needed_; }
  const ReaderStats& stats() const { return stats_; }

 private:
  struct Cursor;
  enum class Step : std::uint8_t {
    more,   // look again
    full,   // the chunk is complete
    waits,  // nothing more is durable
  };
  Task<Step> step_stream(MutableBytes target, ReadChunk& chunk);
  Task<Step> step_log(MutableBytes target, ReadChunk& chunk);
  void finish(ReadChunk& chunk) const;
  bool tell_before(Day day, ReadChunk& chunk);
  bool tell_finished(ReadChunk& chunk);
  bool tell(Day day, ReadChunk& chunk);

  // One stream: reader_stream.cpp.
  Result<> place();
  std::optional<Result<Step>> give_from_tail(MutableBytes target, ReadChunk& chunk);
  Result<Step> give_chain(Lsn from, MutableBytes target, ReadChunk& chunk);
  Task<bool> locate();
  Task<bool> locate_on_disk();
  Task<bool> locate_in_runs();
  Task<> more_entries();
  Task<Step> fetch(MutableBytes target, ReadChunk& chunk);
  Task<Step> tell_gap(Offset found, ReadChunk& chunk);
  Step give_entries(std::size_t count, std::uint64_t begin, Bytes bytes, MutableBytes target, ReadChunk& chunk);
  Task<bool> index_was_wrong(Day day);
  Task<Step> mend_index(Error error);
  Task<Step> tell_damage(SegmentKey segment, ReadChunk& chunk);
  Task<bool> is_there(SegmentKey segment);
  Task<Step> fetch_large(MutableBytes target, ReadChunk& chunk);
  std::size_t mergeable(std::size_t space) const;
  Result<BatchHeader> verify(const RunEntry& entry, std::uint64_t begin, Bytes bytes) const;
  Task<Step> lose_entries(ReadChunk& chunk);
  Task<> open_segment(SegmentKey segment);
  Task<std::uint32_t> read_segment(SegmentKey segment, std::uint64_t position, MutableBytes target);

  // All streams: reader_log.cpp.
  struct SegmentFront {
    SegmentFacts facts;
    Nanos first_time = 0;
    std::uint64_t previous_length = 0;
  };
  Task<> place_log();
  Result<Step> give_log_from_tail(MutableBytes target, ReadChunk& chunk);
  Result<Step> give_log_batch(Bytes batch, MutableBytes target, ReadChunk& chunk);
  Task<std::optional<SegmentFront>> read_front(SegmentKey segment);
  Task<std::vector<SegmentKey>> list_segments(Day day);
  Task<std::optional<SegmentFacts>> find_segment(Lsn lsn, Nanos time);
  Task<std::optional<SegmentFront>> next_segment(SegmentKey segment);
  Task<Step> enter_segment(ReadChunk& chunk);
  Task<Step> scan_groups(MutableBytes target, ReadChunk& chunk);
  Result<Step> give_group(const GroupHeader& group, Bytes bytes, MutableBytes target, ReadChunk& chunk);
  Task<Step> give_large_group(GroupHeader group, MutableBytes target, ReadChunk& chunk);
  Step pass_damage(Bytes bytes, const GroupHeader* next, bool open, ReadChunk& chunk);
  Step leave_segment(ReadChunk& chunk, bool open);

  ReadView& view_;
  const ReadRequest request_;
  std::unique_ptr<Cursor> cursor_;
  bool cancelled_ = false;
  std::size_t needed_ = 0;
  ReaderStats stats_;
};

}  // namespace millrace
