// The streams of several index units, merged: one row a stream and unit, sorted by stream, then by the units' order in the log.
// What directories and day tables are made of.
//
// Thread: the shard's. Reads 32 KiB at a time of each unit.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "reactor/file.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index_file.hpp"
#include "storage/index_unit.hpp"

namespace millrace {

class RowMerge {
 public:
  /// `units` are runs and directories of `file`, oldest first; `file` outlives this.
  RowMerge(IndexFile& file, std::vector<UnitRef> units);
  Reactor& reactor() { return file_.reactor(); }

  /// Before the first next().
  Task<> begin();
  /// The next row, whose unit_offset is the unit's; nothing at the end.
  Task<std::optional<DirectoryRow>> next();

 private:
  struct Source {
    UnitRef unit;
    std::uint64_t at = 0;   // file offset of the next row to read
    std::uint64_t end = 0;  // behind the last one
    AlignedMemory memory;
    std::uint64_t window = 0;        // what `memory` holds: from this file offset
    std::uint64_t window_bytes = 0;  // so many bytes
    bool has_row = false;
    DirectoryRow row;
  };
  Task<> advance(Source& source);
  Task<> fill(Source& source);
  DirectoryRow row_at(const Source& source) const;

  IndexFile& file_;
  std::vector<Source> sources_;
  std::uint32_t steps_ = 0;
};

}  // namespace millrace
