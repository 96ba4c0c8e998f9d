// State rows: the tables of a log (streams, producer windows, consumer positions later) as sorted rows. State batches,
// index runs and the state file hold them. Layout: storage/FORMAT.md, "State rows". Pure; any thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

inline constexpr std::uint32_t producer_window_max = 64;  // batches a producer's window on a stream remembers

enum class StateTag : std::uint8_t { stream = 1, window = 2, producer = 3, log = 4 };

struct StreamRow {
  StreamId id{};
  Offset next_offset{};
  RecordId next_id{};  // of day `day`
  Day day{};
  Offset first_kept{};
  Offset begin{};         // where it was created: 0, or the log's offset floor then
  std::string_view name;  // points into the bytes read; empty: its catalogue batch was lost
};

struct WindowBatch {
  Offset first_offset{};
  Lsn lsn{};
};

/// The last `count` batches of one producer on one stream: sequences next_sequence - count … next_sequence - 1.
struct WindowRow {
  ProducerId producer_id{};
  StreamId stream_id{};
  Lsn last_lsn{};
  std::uint32_t producer_epoch = 0;
  std::uint32_t count = 0;
  std::uint64_t next_sequence = 0;
  std::array<WindowBatch, producer_window_max> batches{};  // oldest first
};

struct ProducerRow {
  ProducerId id{};
  std::uint32_t epoch = 0;
  Lsn last_lsn{};
};

struct LogRow {
  Lsn next_lsn{};
  Chain chain{};
  Nanos last_leader_time = 0;
  Day day{};
  Epoch epoch{};
  std::uint64_t day_batches = 0;  // of `day` so far, with their records and body bytes: what its seal will say
  std::uint64_t day_records = 0;
  std::uint64_t day_body_bytes = 0;
  Offset
      offset_floor{};  // where streams begin that are created now: behind every offset that may be lost with its stream
};

/// What rows are sorted by, and by which a later row replaces an earlier one.
struct RowKey {
  StateTag tag{};
  std::uint64_t first = 0;   // stream id, producer id; 0 for the log
  std::uint64_t second = 0;  // a window's stream id
  constexpr auto operator<=>(const RowKey&) const = default;
};

/// One row as read; the member that `key.tag` names is filled.
struct StateRow {
  RowKey key;
  StreamRow stream;
  WindowRow window;
  ProducerRow producer;
  LogRow log;
  Bytes raw;  // the row's own bytes, head included: what a merge copies
};

void write_row(std::vector<std::byte>& target, const StreamRow& row);
void write_row(std::vector<std::byte>& target, const WindowRow& row);
void write_row(std::vector<std::byte>& target, const ProducerRow& row);
void write_row(std::vector<std::byte>& target, const LogRow& row);

/// The key of the row that `row` begins with, and the row's length. Not checked: for rows whose hash was.
RowKey row_key(Bytes row);
inline std::size_t row_length(Bytes row) { return 8 + std::size_t{load<std::uint32_t>(row, 4)}; }

/// Rows one after the other; false at the end. Errors: corrupt (structure, limits, keys that do not rise).
class StateRowReader {
 public:
  explicit StateRowReader(Bytes rows) : rest_(rows) {}
  Result<bool> next(StateRow& row);

 private:
  Result<> read_fields(StateRow& row, Bytes rest) const;

  Bytes rest_;
  RowKey last_{};
};

}  // namespace millrace
