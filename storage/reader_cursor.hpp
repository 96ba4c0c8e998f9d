// Where a Reader stands. Only the reader's own files include this.
#pragma once

#include <optional>
#include <vector>

#include "reactor/file.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index.hpp"
#include "storage/index_run.hpp"
#include "storage/reader.hpp"

namespace millrace {

struct Reader::Cursor {
  // Both kinds.
  bool placed = false;
  bool anywhere =
      true;  // nothing was given yet: the first batch found is where the reader begins, no gap before it counts
  bool waited = false;         // it came to the end once
  Day day{};                   // of the last batch given; 0 = none yet
  Day told{};                  // the last day told finished
  std::size_t damaged = 0;     // entries from `entry` on whose batches did not verify when they were last read
  bool index_checked = false;  // what seems lost was looked for in an index that verifies

  // One stream.
  StreamId stream{};
  Offset next{};         // the next offset to give
  bool at_tail = false;  // every batch of the stream with an lsn below `scanned` was given
  Lsn scanned{};
  Lsn last{};                 // the last batch given from the tail; 0 = none
  std::optional<Offset> gap;  // the tail goes on behind `next`, here, which is still to be told

  // Where entries come from: a run on disk, or one in memory.
  std::optional<FoundRun> found;
  std::uint32_t found_next = 0;
  std::shared_ptr<const OpenRun> run;
  std::uint32_t run_next = OpenRun::none;
  Offset run_end{};               // the stream's end in that run
  std::vector<RunEntry> entries;  // read ahead of `segment`
  std::size_t entry = 0;          // the first not given yet
  SegmentKey segment{};

  // All streams.
  Lsn next_lsn{};
  std::uint64_t position = 0;     // in `segment`, of the next group
  std::uint64_t segment_end = 0;  // what is readable of it
  bool in_segment = false;
  std::optional<SegmentFront> after;  // the segment behind `segment`

  File file;
  SegmentKey file_segment{};

  /// Copies a batch behind what the chunk has.
  static void give(ReadChunk& chunk, MutableBytes target, Bytes batch, std::uint32_t records);
  /// Whether a batch ends before the place `seek` asks for.
  static bool before_seek(const Seek& seek, Day day, RecordId end_id, Offset end, Nanos leader_time);
  void forget_source() {
    found.reset();
    run.reset();
    run_next = OpenRun::none;
    entries.clear();
    entry = 0;
  }
};

}  // namespace millrace
