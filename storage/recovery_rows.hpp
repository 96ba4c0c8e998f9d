// The decision table of recovery: each row is one thing a segment can be found to be, and what is done about it. The
// argument for each row stands in storage/RECOVERY.md; every row has a golden case in tests/golden/. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace {

enum class RecoveryRow : std::uint8_t {
  clean_empty,          // not begun: zeros
  clean_end,            // valid to its end, zeros behind
  tail_extends,         // the tail's slots go on where the segment ends
  torn_cut,             // a crash tore what was in flight
  tail_then_cut,        // the same, and slots hold the front of it
  torn_header,          // the segment's very first write was torn: not begun
  damaged_durable,      // bytes known to be durable do not verify
  damaged_tail,         // slots known to be durable do not verify
  unexplainable_far,    // bytes further behind the end than can be in flight
  unexplainable_group,  // the first bad group misses no sector, or does not belong there
  damaged_header,       // the segment's header block does not verify, its groups do
  foreign,              // of another log, or not the successor of what precedes it
  unsupported,          // written by a newer program
  closed_ok,            // exactly what its successor says
  closed_damaged,       // less than its successor says
  closed_mismatch,      // something else than its successor says
};
inline constexpr std::size_t recovery_rows = 16;

enum class RecoveryAction : std::uint8_t {
  go_on,        // append behind what was found
  cut_go_on,    // what does not verify goes to quarantine and is zeroed; then append
  new_segment,  // nothing is cut: what verifies serves, the rest answers data_loss, appends go on in a new segment
  refuse,       // touch nothing
  none,         // a closed segment: nobody appends to it
};

struct RecoveryRowText {
  RecoveryRow row;
  RecoveryAction action;
  std::string_view name;
  std::string_view reason;  // one sentence for a person
};

const RecoveryRowText& recovery_row_text(RecoveryRow row);
inline std::string_view recovery_row_name(RecoveryRow row) { return recovery_row_text(row).name; }

/// How often each row was met; whoever recovers keeps one and adds to it.
struct RecoveryCounts {
  std::array<std::uint64_t, recovery_rows> hits{};
  void add(RecoveryRow row) { ++hits[static_cast<std::size_t>(row)]; }
  std::uint64_t of(RecoveryRow row) const { return hits[static_cast<std::size_t>(row)]; }
};

}  // namespace millrace
