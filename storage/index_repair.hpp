// Deriving what a day's index lacks from the day's segments: the same runs, directories and day table that the live log would
// have written, byte by byte. The tables are brought to where they stood when the first missing segment began, and from there the
// segments are replayed.
//
// Thread: the shard's. One at a time, and never while the index is appended to by others.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index.hpp"
#include "storage/index_builder.hpp"
#include "storage/index_file.hpp"
#include "storage/place.hpp"
#include "storage/segment_scan.hpp"
#include "storage/tables.hpp"

namespace millrace {

struct IndexRepairOptions {
  std::string shard_directory;
  Id128 log_id{};
  ShardIndex shard{};
  std::int32_t day_offset_seconds = 0;
  bool buffered = false;
};

class IndexRepair {
 public:
  /// All outlive this.
  IndexRepair(Reactor& reactor, const IndexRepairOptions& options, Index& index, IndexBuilder& builder);
  Reactor& reactor() { return reactor_; }

  /// Segments of `day` before number `until` are in its index when this ends, and the day table too when `until` is all_segments
  /// (the day is over then). A segment that is gone is passed over. stats().deriving says how far it is. Errors: io_failed, no_space and their like.
  static constexpr std::uint32_t all_segments = UINT32_MAX;
  Task<> repair(Day day, std::uint32_t until, SegmentKey first_kept);
  /// Reads every unit of the day against its hash; when one does not verify, the file is emptied. True: nothing was wrong.
  Task<bool> verify(Day day);

 private:
  class Replay;
  Task<std::vector<SegmentKey>> list(Day day, SegmentKey first_kept);
  Task<> replay(SegmentKey segment, std::optional<SegmentKey> next, Tables& tables, IndexFile* file);
  Task<> bring_tables(Tables& tables, SegmentKey until, SegmentKey first_kept);
  Task<> replay_all(const std::vector<SegmentKey>& segments, const std::vector<SegmentKey>& missing, Tables& tables,
                    IndexFile* file);
  Task<> append_table(IndexFile& file, const Tables& tables);

  Reactor& reactor_;
  const IndexRepairOptions options_;
  Index& index_;
  IndexBuilder& builder_;
};

}  // namespace millrace
