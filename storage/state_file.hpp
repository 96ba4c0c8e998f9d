// The `state` file: the tables (streams, producer windows) as of some segment, so that opening reads them instead of the log.
// Derivable and node-local: a missing, damaged or foreign file only costs time (FORMAT.md, "State file").
//
// Thread: the shard's. Written in the background; one write at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "storage/index_run.hpp"
#include "storage/place.hpp"

namespace millrace {

/// Log that may lie behind the state file, at most: beyond it the file is written whatever the tables' size.
inline constexpr std::uint64_t state_behind_max_bytes = 512 * MiB;

struct LoadedState {
  bool found = false;
  Lsn next_lsn{1};              // the rows are the tables before this batch
  SegmentKey next_segment{};    // the first segment not in them
  std::vector<std::byte> rows;  // encoded (storage/state_rows.hpp), sorted
};

/// The newest valid slot whose log id fits; `found` is false when there is none. Errors: io_failed and its like only.
Task<LoadedState> load_state(Reactor& reactor, std::string path, Id128 log_id);

/// Writes `rows` (complete and sorted) to the other slot, or to a larger file renamed over this one; synced when it ends.
Task<> save_state(Reactor& reactor, std::string path, Id128 log_id, const LoadedState& state);

}  // namespace millrace
