// The checker's own reading of a data directory, written from storage/FORMAT.md and protocol/FORMAT.md and sharing no code
// with the server: what the server writes wrongly and reads wrongly in the same way is still found here.
//
// It takes the bytes as a crash or a clean stop left them, after recovery or before it. Before recovery a torn end is
// legal (`Options::torn_end_allowed`); after it, the directory must be perfect.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace millrace::checker {

using Bytes = std::span<const std::byte>;

/// Path below the data directory ("shard-00/2026-11-21/data000000") -> content.
using Image = std::map<std::string, Bytes>;

/// One broken promise: which one, and exactly where.
struct Violation {
  std::string promise;  // "P04"
  std::string where;    // file and offset, or stream and offset
  std::string what;
};

struct Batch {
  std::uint32_t shard = 0;
  std::uint8_t kind = 0;
  std::uint64_t lsn = 0;
  std::uint64_t stream = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t first_id = 0;
  std::uint32_t count = 0;
  std::uint32_t day = 0;
  std::int64_t leader_time = 0;
  std::int64_t event_min = 0;
  std::int64_t event_max = 0;
  std::uint64_t producer = 0;
  std::uint32_t producer_epoch = 0;
  std::uint64_t sequence = 0;
  std::array<std::uint64_t, 2> body_hash{};
  Bytes body;
  std::uint32_t segment = 0;   // number in its day
  std::uint64_t position = 0;  // file offset of the batch header
  std::uint64_t epoch = 0;     // of the group or slot that holds it
  bool in_tail = false;
};

/// A range of the log that is not readable, with what its neighbours tell.
struct Hole {
  std::uint32_t shard = 0;
  std::string file;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t first_lsn = 0;  // first lost
  std::uint64_t next_lsn = 0;   // first found again; 0 = unknown
};

struct Stream {
  std::string name;
  std::uint32_t shard = 0;
  std::vector<std::size_t> batches;  // indexes into ParsedLog::batches, ascending offsets
};

struct ParsedLog {
  std::vector<Batch> batches;  // shard by shard, ascending lsn
  std::map<std::uint64_t, Stream> streams;
  std::vector<Hole> holes;
  std::map<std::uint32_t, std::vector<std::uint32_t>> finished_days;  // shard -> days with a valid finish
  std::vector<Violation> violations;
  std::uint64_t groups = 0;
  std::uint64_t slots_used = 0;
};

struct Options {
  bool torn_end_allowed = false;    // the directory was not opened since the crash
  bool damage_expected = false;     // bytes were damaged on purpose: holes are reported, not violations
  bool first_days_dropped = false;  // retention ran: the log need not begin at lsn 1
};

ParsedLog parse(const Image& image, const Options& options);

/// Record `index` of a data batch's body: payload bytes and type. False when the body is not what the format says.
struct Record {
  Bytes payload;
  std::uint16_t type = 0;
  std::int64_t event_time = 0;
};
bool records_of(const Batch& batch, std::vector<Record>& target);

}  // namespace millrace::checker
