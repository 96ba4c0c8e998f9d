// The index of one segment. OpenRun is the open segment's, in memory, fed with every batch; when the segment closes it
// becomes a run, the unit of the day's index file (FORMAT.md, "Index file"), together with what the segment changed in the
// state. The bytes are a pure function of the log: a rebuild gives the same ones.
//
// Memory: chunks of a fixed size, kept for the next segment, so that steady state allocates nothing; at most one entry a
// batch a segment can hold.
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "storage/chunked.hpp"
#include "storage/index_unit.hpp"
#include "storage/place.hpp"

namespace millrace {

/// Gives the state rows (storage/state_rows.hpp) that a closed segment changed, each with its value at the segment's end even
/// though the tables have moved on: rows are captured when they are touched again, or here, whichever comes first.
class StateCapture {
 public:
  /// Appends encoded rows to `rows`, in any order, about `budget` bytes of them. False when that was all; never called again
  /// then. Called in turns of its own.
  virtual bool take_rows(std::vector<std::byte>& rows, std::size_t budget) = 0;
  virtual ~StateCapture() = default;
};

/// One stream within a segment.
struct RunStream {
  StreamId stream{};
  std::uint32_t entries = 0;
  std::uint32_t records = 0;
  Offset first_offset{};
  Offset end_offset{};
  RecordId first_id{};
  Nanos first_time = 0;
  Nanos last_time = 0;
};

class OpenRun {
 public:
  static constexpr std::uint32_t none = UINT32_MAX;

  OpenRun();
  OpenRun(const OpenRun&) = delete;
  OpenRun& operator=(const OpenRun&) = delete;

  /// Begins a segment; what was held is forgotten, its memory kept.
  void begin(const SegmentFacts& segment);
  /// The segment's next batch at `position`. Control batches move lsn and time only.
  void append(const BatchHeader& header, std::uint64_t position);
  /// Batches before `next` are lost.
  void skip_to(Lsn next) { end_lsn_ = next; }

  const SegmentFacts& segment() const { return segment_; }
  Lsn end_lsn() const { return end_lsn_; }
  /// Where the last batch ends in the file.
  std::uint64_t end_position() const { return end_position_; }
  Nanos first_time() const { return first_time_; }
  Nanos last_time() const { return last_time_; }
  std::uint32_t entry_count() const { return static_cast<std::uint32_t>(entries_.size()); }
  std::uint32_t stream_count() const { return static_cast<std::uint32_t>(streams_.size()); }

  /// The stream's number in this run, or none.
  std::uint32_t find(StreamId stream) const;
  const RunStream& stream(std::uint32_t number) const { return streams_[number].facts; }
  /// First entry of a stream, and the next one after `entry`; none at the end.
  std::uint32_t first_entry(std::uint32_t stream_number) const { return streams_[stream_number].first; }
  std::uint32_t next_entry(std::uint32_t entry) const { return entries_[entry].next; }
  const RunEntry& entry(std::uint32_t entry) const { return entries_[entry].facts; }

  std::size_t memory_bytes() const;

 private:
  struct Entry {
    RunEntry facts;
    std::uint32_t next = none;
  };
  struct Stream {
    RunStream facts;
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  // Stream numbers by id: open addressing in parts that grow one by one, so that no append pays for a whole table.
  struct Part {
    std::vector<std::uint32_t> slots;
    std::uint32_t used = 0;
  };
  static constexpr std::size_t parts = 256;
  static std::size_t part_of(StreamId stream) { return stream.value >> 56; }
  std::size_t slot_of(const Part& part, StreamId stream) const;
  void grow(Part& part);

  SegmentFacts segment_;
  Lsn end_lsn_{};
  std::uint64_t end_position_ = 0;
  Nanos first_time_ = 0;
  Nanos last_time_ = 0;
  Chunked<Entry, 4096> entries_;
  Chunked<Stream, 1024> streams_;
  std::vector<Part> parts_;
};

}  // namespace millrace
