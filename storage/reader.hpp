// Reading a shard's log: a cursor of one stream in offset order, or of all streams in the order of the log.
//
// A reader gets whole batches as they stand on disk (header, body, padding), verified, in order, none twice, and none that is
// not durable. It follows the tail from memory without touching the disk; what is older is found by the index and read with
// O_DIRECT, reads closer than 64 KiB merged. What is gone is said, never skipped silently: a range lost to damage, or
// everything before the first offset that retention or a trim left. Control batches are skipped.
//
// Thread: the shard's. One next() at a time; the view outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/index.hpp"
#include "storage/place.hpp"
#include "storage/read_view.hpp"

namespace millrace {

inline constexpr std::size_t read_merge_bytes = 64 * KiB;   // reads closer than this become one
inline constexpr std::size_t read_operation_max = 1 * MiB;  // one disk read, unless a single batch is larger

struct ReadRequest {
  std::optional<StreamId> stream;  // none = all streams, in the order of the log
  Seek from;                       // for all streams: earliest, latest, time, or from_lsn
  std::optional<Lsn> from_lsn;     // all streams only; wins over `from`
  bool follow = false;             // wait at the end for more
  bool check_bodies = false;       // hash the bodies read from disk; without it the receiver verifies them
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
  /// is reopening; a follower waits instead), closed, cancelled, io_failed (the cursor stays).
  Task<ReadChunk> next(MutableBytes target);
  /// A next() that waits returns `cancelled` soon; as does every later one.
  void cancel();

  std::size_t needed() const { return needed_; }
  const ReaderStats& stats() const { return stats_; }

 private:
  struct Cursor;
  ReadView& view_;
  ReadRequest request_;
  std::unique_ptr<Cursor> cursor_;
  bool cancelled_ = false;
  std::size_t needed_ = 0;
  ReaderStats stats_;
};

}  // namespace millrace
