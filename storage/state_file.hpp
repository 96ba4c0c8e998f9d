// The `state` file: the tables (streams, producer windows) as of some segment, so that opening reads them instead of the log.
// Derivable and node-local: a missing, damaged or foreign file only costs time (FORMAT.md, "State file").
//
// It is the merge of the one before with the state rows of the runs since, made row by row in the background: whatever the
// tables' size, a buffer a source is all it takes.
//
// Thread: the shard's. One save at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/file_head.hpp"
#include "storage/index.hpp"
#include "storage/index_file.hpp"
#include "storage/place.hpp"

namespace millrace {

inline constexpr std::uint32_t state_magic = 0x3141524d;  // "MRA1"
/// Log that may lie behind the state file: beyond it the file is written whatever the tables' size.
inline constexpr std::uint64_t state_behind_max_bytes = 512 * MiB;
/// Runs merged at a time.
inline constexpr std::size_t state_merge_max = 16;

struct StateHeader {
  FileHead head{.magic = state_magic};
  std::uint64_t sequence = 0;
  std::uint64_t capacity = 0;  // of a slot
  std::uint64_t rows_bytes = 0;
  std::uint64_t rows_hash = 0;
  Id128 log_id;
  Lsn next_lsn;  // the rows are the tables before this batch
  Day day;
  std::uint32_t next_segment = 0;  // the first one not in the rows
  SegmentKey next() const { return {day, next_segment}; }
};
static_assert(sizeof(StateHeader) == 104 && std::is_trivially_copyable_v<StateHeader>);

/// Sorted rows somewhere in a file, one after the other.
class RowSource {
 public:
  RowSource(File& file, std::uint64_t at, std::uint64_t bytes);
  RowSource(RowSource&&) = default;
  RowSource& operator=(RowSource&&) = default;
  Reactor& reactor() { return file_->reactor(); }

  /// The next row, good until the call after; empty at the end. Errors: corrupt, io_failed.
  Task<Bytes> next();

 private:
  Task<> fill();

  File* file_;
  std::uint64_t at_;   // file offset of the next row
  std::uint64_t end_;  // behind the last
  AlignedMemory memory_;
  std::uint64_t window_ = 0;
  std::uint64_t window_bytes_ = 0;
};

/// The newest valid slot. The rows' hash was verified.
struct StateSlot {
  std::uint64_t offset = 0;
  StateHeader header;
};

class StateFile {
 public:
  /// Nothing valid there: an empty file, ready to be saved to.
  static Task<std::unique_ptr<StateFile>> open(Reactor& reactor, std::string path, Id128 log_id, bool buffered);
  Reactor& reactor() { return reactor_; }

  const std::optional<StateSlot>& newest() const { return newest_; }
  /// The rows of the newest slot.
  RowSource rows();
  /// Merges the newest slot's rows with those of these runs (in the order of the log; consecutive) and makes them the newest.
  /// Runs are given as places of rows.
  Task<> save(std::vector<RowSource> runs, std::uint64_t run_bytes, Lsn next_lsn, SegmentKey next);

 private:
  StateFile(Reactor& reactor, std::string path, Id128 log_id, bool buffered)
      : reactor_(reactor), path_(std::move(path)), log_id_(log_id), buffered_(buffered) {}
  Task<std::optional<StateSlot>> read_slot(std::uint64_t offset);
  Task<> write_slot(File& file, std::uint64_t offset, std::vector<RowSource> sources, StateHeader header);

  Reactor& reactor_;
  const std::string path_;
  const Id128 log_id_;
  const bool buffered_;
  File file_;
  std::optional<StateSlot> newest_;
};

}  // namespace millrace
