// One day's `index` file as a searcher sees it: the units that no directory covers (the spine), found from the file's end, and
// 4 KiB blocks read on demand, a few of them kept. Which segment's run holds a stream's place is answered here; days are
// index.hpp's.
//
// Thread: the shard's. Any number of searches at a time, also while units are appended.
#pragma once

#include <cstdint>
#include <functional>
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
#include "storage/index.hpp"
#include "storage/index_unit.hpp"
#include "storage/place.hpp"

namespace millrace {

/// A unit by its place in the file.
struct UnitRef {
  std::uint64_t offset = 0;
  UnitHeader header;
  std::uint64_t end() const { return offset + unit_span(header.payload_bytes); }
  std::uint64_t end_of_payload() const { return offset + unit_header_bytes + header.payload_bytes; }
  std::uint32_t end_segment() const { return header.first_segment + header.segments; }
};

/// "The first place whose key is not passed yet": offset, leader time or id of the day, or anything at all.
struct SeekKey {
  enum class By : std::uint8_t { any, offset, time, id } by = By::any;
  std::uint64_t key = 0;
  /// Whether a stream's part with these bounds ends before the place sought.
  bool passed(Offset first, Offset end, RecordId first_id, Nanos last_time) const;
};

class IndexFile {
 public:
  static constexpr std::size_t blocks_kept_max = 64;

  /// Opens the day's index (creates it when `writable`) and finds the spine. A torn end is ignored: end() is where the valid units
  /// end. Errors: not_found (not writable and not there), io_failed and its like. `stats` outlives the file.
  static Task<std::unique_ptr<IndexFile>> open(Reactor& reactor, std::string path, Day day, bool writable,
                                               bool buffered, IndexStats& stats);
  IndexFile(const IndexFile&) = delete;
  IndexFile& operator=(const IndexFile&) = delete;
  Reactor& reactor() { return file_.reactor(); }

  Day day() const { return day_; }
  /// Reads the spine of a day that is over: opening such a day reads only its table, which answers most searches. Before spine().
  Task<> need_spine();
  /// Oldest first; the day table is not in it.
  const std::vector<UnitRef>& spine() const { return spine_; }
  const std::optional<UnitRef>& table() const { return table_; }
  /// First segment number that no unit covers.
  std::uint32_t next_segment() const {
    if (spine_.empty()) return table_ ? table_->end_segment() : 0;
    return spine_.back().end_segment();
  }
  std::uint64_t end() const { return end_; }
  /// The day is over and everything of it is here.
  bool complete() const { return table_.has_value(); }
  /// Reads the whole unit against its hash.
  Task<bool> verify(UnitRef unit);
  File& file() { return file_; }

  /// The stream's first part whose end is not passed, in segments from `first_segment` on; nothing when there is none.
  Task<std::optional<FoundRun>> find(StreamId stream, SeekKey key, std::uint32_t first_segment);
  /// Entry number (within the stream's part) where reading begins: the last one that is not behind the place sought.
  Task<std::uint32_t> find_entry(const FoundRun& run, SeekKey key);
  /// Entries [from, from + target.size()) of the stream's part.
  Task<> read_entries(const FoundRun& run, std::uint32_t from, std::vector<RunEntry>& target);
  /// The stream's offsets at the begin and end of the day; nothing when the table does not know it.
  Task<std::optional<DayRow>> find_day_row(StreamId stream);

  /// Copies `target.size()` bytes from `offset` on. Errors: corrupt (past the end), io_failed.
  Task<> read_bytes(std::uint64_t offset, MutableBytes target);
  Task<UnitRef> read_unit_ref(std::uint64_t offset);

  /// A unit was appended (index_builder).
  void unit_appended(const UnitRef& unit);
  /// Something is being written behind end().
  void touched() { file_bytes_ = UINT64_MAX; }
  /// Cuts what stands behind the valid units, so that nothing old can be taken for new.
  Task<> drop_torn_end();
  /// Forgets every unit: the day is derived anew.
  void clear();
  IndexStats& stats() { return stats_; }

 private:
  struct Block {
    std::uint64_t number = UINT64_MAX;
    std::uint64_t used = 0;
    bool busy = false;
    AlignedMemory memory;
  };
  IndexFile(File file, Day day, IndexStats& stats) : day_(day), stats_(stats), file_(std::move(file)) {}
  Task<> load_end();
  Task<> load_spine(UnitRef last);
  Task<std::optional<UnitRef>> last_unit(std::uint64_t size);
  Task<const std::byte*> block(std::uint64_t number);
  Task<std::uint64_t> lower_bound(std::uint64_t at, std::uint64_t rows, std::uint32_t row_bytes, std::uint32_t key_at,
                                  std::uint64_t key, bool hashed);
  Task<std::optional<FoundRun>> find_in(UnitRef unit, StreamId stream, SeekKey key, std::uint32_t first_segment);
  Task<std::optional<FoundRun>> find_in_run(UnitRef unit, StreamId stream, SeekKey key);

  const Day day_;
  IndexStats& stats_;
  File file_;
  std::vector<UnitRef> spine_;
  std::optional<UnitRef> table_;
  std::uint64_t end_ = 0;
  std::uint64_t file_bytes_ = 0;
  std::vector<Block> blocks_;
  std::uint64_t use_count_ = 0;
};

}  // namespace millrace
