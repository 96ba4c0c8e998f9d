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

#include "base/units.hpp"

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

struct IndexProgress {
  Day day{};
  std::uint64_t segments_done = 0;
  std::uint64_t segments_total = 0;
  std::uint64_t bytes_done = 0;
};

struct IndexStats {
  std::uint64_t block_reads = 0;  // read operations finding took
  std::uint64_t block_hits = 0;   // answered from blocks kept
  std::uint64_t runs_written = 0;
  std::uint64_t runs_derived = 0;  // made from a segment because the index lacked them
  std::uint64_t directories_written = 0;
  std::uint64_t bytes_written = 0;
};

class Index;

}  // namespace millrace
