// The tables at an opening: the state file, and the state rows of the runs behind it. What the index does not have is said, and
// the caller reads it from the segments.
//
// Without a state file the rows of the runs since the day before are merged: every day begins with state batches of everything, so
// nothing older matters. Same answers either way.
//
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/index.hpp"
#include "storage/place.hpp"
#include "storage/state_file.hpp"
#include "storage/tables.hpp"

namespace millrace {

struct StateLoad {
  SegmentKey next{};  // the first segment whose batches are not in the tables; `until` when all are
  SegmentKey
      derive_from{};       // replays before it are for the tables only: the rows they would give a run are not complete
  bool from_file = false;  // a state file was there and fitted
  std::uint64_t runs = 0;  // whose rows were applied
  bool described = false;  // the index has a run of `until` itself: it was closed
  std::uint64_t reads = 0;  // of the index
};

struct StateLoadOptions {
  std::string shard_directory;
  Id128 log_id{};
  std::int32_t day_offset_seconds = 0;
  bool buffered = false;
  SegmentKey first_kept{};  // the oldest segment there is
  SegmentKey until{};       // the tables before this segment are wanted
};

/// Fills `tables`, which are fresh. Errors: io_failed and its like.
Task<StateLoad> load_tables(Reactor& reactor, StateLoadOptions options, Tables& tables);

/// Where the rows of runs are complete from, when there is no state file.
SegmentKey load_base(const std::vector<Day>& days, SegmentKey first_kept, SegmentKey until);

/// A run of a day's index by its place: where its state rows stand.
struct RunRows {
  SegmentKey segment{};
  UnitRef unit;
  std::uint64_t at() const { return unit.end_of_payload() - unit.header.state_bytes; }
};
/// Runs of segments [from, until) that the index has, ascending; ends at the first gap. Reads grow with their number, not with the
/// log's.
Task<std::vector<RunRows>> list_runs(Index& index, SegmentKey from, SegmentKey until);

}  // namespace millrace
