// Writing a day's index: the run of a closed segment, the directories that become complete with it, the day table. Everything is
// done in steps that leave the thread after a few hundred microseconds, through one buffer, and the bytes are a pure function
// of the log, so that who derives an index anew gets the same file.
//
// A unit's first block is written last, and the file is synced before the next unit begins: a crash leaves valid units and a
// torn end.
//
// Thread: the shard's. One append at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/hash.hpp"
#include "base/result.hpp"
#include "base/running_hash.hpp"
#include "base/units.hpp"
#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index.hpp"
#include "storage/index_file.hpp"
#include "storage/index_run.hpp"

namespace millrace {

class IndexBuilder {
 public:
  explicit IndexBuilder(Reactor& reactor);
  IndexBuilder(const IndexBuilder&) = delete;
  IndexBuilder& operator=(const IndexBuilder&) = delete;
  Reactor& reactor() { return reactor_; }

  /// Appends the run of a closed segment, then each directory it completes. Both outlive the task. Errors: io_failed, no_space and
  /// their like; the file then ends where it ended.
  Task<> append_run(IndexFile& file, const OpenRun& run, StateCapture& capture);
  /// Appends the day table: `before` is the day table before it, or nothing when this is the log's first day; `known` stands in for
  /// it when that day is gone: the streams known when the day began, sorted by id.
  Task<> append_day_table(IndexFile& file, IndexFile* before, std::vector<DayRow> known);

 private:
  Task<> append_directory(IndexFile& file, std::uint8_t level);
  Task<> put_entries(const OpenRun& run);
  Task<std::uint64_t> put_state_rows(StateCapture& capture);
  Task<> begin_unit(IndexFile& file);
  /// Copies into the buffer; flush() before the next one when it says true.
  bool put(Bytes bytes);
  template <class Row>
  bool put_row(const Row& row) {
    return put(as_bytes(&row, sizeof(row)));
  }
  Task<> flush();
  Task<> end_unit(IndexFile& file, UnitHeader header);

  Reactor& reactor_;
  AlignedMemory first_;   // the unit's first block, written last
  AlignedMemory buffer_;  // the unit from `at_` on
  IndexFile* file_ = nullptr;
  std::uint64_t begin_ = 0;   // of the unit
  std::uint64_t at_ = 0;      // file offset of the buffer's first byte
  std::size_t filled_ = 0;    // of the buffer
  std::size_t hashed_ = 0;    // of the buffer
  std::uint64_t length_ = 0;  // of the payload
  RunningHash hash_;
  std::vector<std::uint32_t> order_;
  std::vector<std::byte> rows_;
};

}  // namespace millrace
