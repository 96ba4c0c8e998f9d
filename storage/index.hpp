// Finding things on disk: a stream's batch by offset, by time or by (day, id), in a handful of 4 KiB reads however long the
// log is. Days are told apart by their day tables, a day's segments by its directories of sixteen, a segment's batches by its
// run; stream ids are hashes, so each of these sorted tables is searched by interpolation.
//
// The index is derivable and never trusted over the data: a day whose index is missing or torn is derived anew from its
// segments before it answers (a progress callback sees it); whoever reads a batch verifies the batch.
//
// Thread: the shard's. Reads are O_DIRECT (unless buffered) and verified: header checksums and sizes at each step.
#pragma once

#include <cstdint>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/index_unit.hpp"
#include "storage/place.hpp"

namespace millrace {

/// Where to begin in a stream.
struct Seek {
  enum class By : std::uint8_t { earliest, latest, offset, time, day_id };
  By by = By::earliest;
  Offset offset{};  // by offset
  Nanos time = 0;   // by time: the first batch whose leader time is not before it
  Day day{};        // by day_id
  RecordId id{};

  static Seek earliest() { return {}; }
  static Seek latest() { return {.by = By::latest}; }
  static Seek at_offset(Offset offset) { return {.by = By::offset, .offset = offset}; }
  static Seek at_time(Nanos time) { return {.by = By::time, .time = time}; }
  static Seek at_id(Day day, RecordId id) { return {.by = By::day_id, .day = day, .id = id}; }
};

/// How far the index of a day is that is derived from its segments anew.
struct IndexProgress {
  Day day{};
  std::uint64_t segments_done = 0;
  std::uint64_t segments_total = 0;  // 0 = nothing is derived now
};

struct IndexStats {
  std::uint64_t block_reads = 0;  // read operations finding took
  std::uint64_t block_hits = 0;   // answered from blocks kept
  std::uint64_t runs_written = 0;
  std::uint64_t runs_derived = 0;  // made from a segment because the index lacked them
  std::uint64_t directories_written = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t failures = 0;  // units that could not be written; derived anew when they are needed
  IndexProgress deriving;
};

class IndexFile;

/// One stream's part of one segment, as found on disk.
struct FoundRun {
  SegmentKey segment{};
  Id128 segment_id{};
  std::uint64_t entries_at = 0;  // file offset of the stream's first entry in the index
  StreamRun stream;
};

/// The days of one shard and their index files, opened when they are asked for, the least used closed again.
class Index {
 public:
  static constexpr std::size_t files_open_max = 16;

  Index(Reactor& reactor, std::string shard_directory, std::int32_t day_offset_seconds, bool writable, bool buffered);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;
  Reactor& reactor() { return reactor_; }

  /// Called before a day is looked into: makes sure that its index has all of it.
  std::function<Task<>(Day)> ensure;

  /// Reads which days there are. Before any find().
  Task<> open();
  void day_added(Day day);
  /// The day's directory is going away.
  void day_dropped(Day day);
  /// Nothing before this segment is looked at any more.
  void drop_before(SegmentKey first);
  const std::vector<Day>& days() const { return days_; }

  /// Finding says `corrupt` when it meets a block that is damaged or that the device refuses; this is the day it was in.
  Day damaged() const { return damaged_; }

  /// The stream's first part whose end is not before the place sought; nothing when no closed and indexed segment has one. `seek`
  /// is not `latest`.
  Task<std::optional<FoundRun>> find(StreamId stream, Seek seek);
  Task<std::uint32_t> find_entry(FoundRun run, Seek seek);
  /// Fills `target` with entries [from, from + target.size()) of the part.
  Task<> read_entries(FoundRun run, std::uint32_t from, std::vector<RunEntry>& target);

  /// The day's index file, opened.
  Task<std::shared_ptr<IndexFile>> file_of(Day day);
  /// Forgets what is open of a day: its file was replaced.
  void forget(Day day);
  IndexStats& stats() { return stats_; }

 private:
  struct OpenDay {
    Day day{};
    std::uint64_t used = 0;
    std::shared_ptr<IndexFile> file;
  };
  Task<std::size_t> first_day(StreamId stream, Seek seek);
  /// Notes where `error` was met.
  Error met(Error error, Day day);
  std::uint32_t first_segment_of(Day day) const { return day == first_.day ? first_.number : 0; }

  Reactor& reactor_;
  const std::string shard_directory_;
  const std::int32_t day_offset_seconds_;
  const bool writable_;
  const bool buffered_;
  IndexStats stats_;
  SegmentKey first_{};
  std::vector<Day> days_;  // ascending
  std::vector<OpenDay> open_;
  std::uint64_t use_count_ = 0;
  Day damaged_{};
};

}  // namespace millrace
