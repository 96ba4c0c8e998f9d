// The bytes of index units: runs, directories and day tables. Layout: storage/FORMAT.md, "Index file". What goes in them and
// how they are searched is index_run's and index's. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

inline constexpr std::uint32_t unit_magic = 0x3149524d;  // "MRI1"
inline constexpr std::size_t unit_header_bytes = 128;
inline constexpr std::uint32_t directory_fan = 16;  // units a directory covers

enum class UnitKind : std::uint8_t { run = 1, directory = 2, day_table = 3 };

struct UnitHeader {
  std::uint32_t magic = unit_magic;
  UnitKind kind = UnitKind::run;
  std::uint8_t level = 0;
  std::uint16_t version = 1;
  std::uint64_t checksum = 0;      // XXH3-64 of the 128 bytes with this field zero
  std::uint64_t payload_hash = 0;  // XXH3-64
  std::uint64_t payload_bytes = 0;
  std::uint32_t first_segment = 0;
  std::uint32_t segments = 0;
  Lsn first_lsn{};
  Lsn end_lsn{};
  Nanos first_leader_time = 0;
  Nanos last_leader_time = 0;
  std::uint64_t entries = 0;      // run: RunEntry; directory: DirectoryRow; day table: DayRow
  std::uint64_t streams = 0;      // run: StreamRun rows behind the entries
  std::uint64_t state_bytes = 0;  // run: state rows behind those
  Id128 segment_id{};             // of the last segment covered
  std::uint64_t back = 0;         // bytes back to the header of the unit before the ones this one covers; 0 = none
  std::uint64_t covers = 0;       // directory: bytes back to the header of the last unit it covers
};
static_assert(sizeof(UnitHeader) == unit_header_bytes && std::is_trivially_copyable_v<UnitHeader>);

/// One data batch. Sorted by (stream id, first offset).
struct RunEntry {
  Offset first_offset{};
  Nanos leader_time = 0;
  Nanos event_time_min = 0;
  Nanos event_time_max = 0;
  std::uint32_t position = 0;  // file offset / 16
  std::uint32_t span = 0;      // header, body and padding / 16
};
static_assert(sizeof(RunEntry) == 40);

/// One stream's part of a run.
struct StreamRun {
  StreamId stream_id{};
  std::uint64_t first_entry = 0;
  std::uint32_t entries = 0;
  std::uint32_t records = 0;
  Offset first_offset{};
  Offset end_offset{};
  RecordId first_id{};
  Nanos first_leader_time = 0;
  Nanos last_leader_time = 0;
};
static_assert(sizeof(StreamRun) == 64);

/// One stream's part of a unit one level below.
struct DirectoryRow {
  StreamId stream_id{};
  std::uint64_t unit_offset = 0;  // in this index file
  std::uint64_t records = 0;
  Offset first_offset{};
  Offset end_offset{};
  RecordId first_id{};
  Nanos first_leader_time = 0;
  Nanos last_leader_time = 0;
};
static_assert(sizeof(DirectoryRow) == 64);

struct DayRow {
  StreamId stream_id{};
  Offset begin{};
  Offset end{};
  std::uint64_t reserved = 0;
};
static_assert(sizeof(DayRow) == 32);

/// What the unit takes in the file.
constexpr std::uint64_t unit_span(std::uint64_t payload_bytes) {
  return align_up(unit_header_bytes + payload_bytes, block_bytes);
}

/// Header only: magic, checksum, version, reserved bytes, and lengths that fit each other. Errors: corrupt, unsupported_version.
Result<UnitHeader> read_unit_header(Bytes bytes);

/// Sets the checksum: the last step for who writes a unit's payload in pieces.
void seal_unit_header(UnitHeader& header);

/// A whole unit in place. The bytes are 8-byte aligned and outlive the view.
class UnitView {
 public:
  /// Header, payload hash, order of rows, and zero padding when `unit` holds it. Errors: corrupt, unsupported_version.
  static Result<UnitView> parse(Bytes unit);

  const UnitHeader& header() const { return header_; }
  std::span<const RunEntry> run_entries() const;         // run
  std::span<const StreamRun> stream_runs() const;        // run
  Bytes state_rows() const;                              // run
  std::span<const DirectoryRow> directory_rows() const;  // directory
  std::span<const DayRow> day_rows() const;              // day table

 private:
  UnitHeader header_;
  Bytes payload_;
};

/// Append the unit (header, payload, padding to 4 KiB) to `target`. Of `header` everything but magic, kind, version, hashes
/// and counts is taken as given.
void write_run(std::vector<std::byte>& target, UnitHeader header, std::span<const RunEntry> entries,
               std::span<const StreamRun> streams, Bytes state_rows);
void write_directory(std::vector<std::byte>& target, UnitHeader header, std::span<const DirectoryRow> rows);
void write_day_table(std::vector<std::byte>& target, UnitHeader header, std::span<const DayRow> rows);

}  // namespace millrace
