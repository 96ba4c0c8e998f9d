// The log of one shard: one append-only sequence of batches of all its streams.
//
// Contract, one sentence a verb:
//   append  gives a batch its position (lsn, offset, id, day), in memory, at once;
//   durable moves when everything before it is on the device: then a batch is acknowledged, never earlier;
//   a crash keeps every batch below durable() and any prefix of those after it.
// After a failed commit write the outcome of what was not durable is unknown: listeners are told so, append answers
// not_ready while the log reopens itself once; after a second failure within 60 s it stays closed.
//
// Thread: the shard's. Nothing here blocks; I/O runs in the reactor's coroutines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "reactor/reactor.hpp"

namespace millrace {

struct LogOptions {
  std::string directory;              // data/shard-NN
  std::string node_meta_path;         // data/node.meta
  ShardIndex shard{};
  std::uint64_t segment_bytes = 128 * MiB;
  std::uint64_t memory_bytes = 256 * MiB;  // everything this shard may hold: staging, tail cache, read buffers, tables
  std::int32_t day_offset_seconds = 0;
  std::uint32_t retain_days = 0;      // 0 = all
  std::uint64_t retain_bytes = 0;     // 0 = all
  bool buffered = false;              // no O_DIRECT: for filesystems without it; never the default
  bool accept_clock = false;          // believe a wall clock more than 366 days ahead of the last day
};

/// Where a batch stands. For a repeat (same producer, epoch, sequence) it is the position of the first copy.
struct AppendPosition {
  Lsn lsn{};
  Offset first_offset{};
  RecordId first_id{};
  Day day{};
  bool repeat = false;
};

/// What append says when it refuses; `error` decides what `detail` is.
struct AppendRefusal {
  Error error{};
  std::uint64_t detail = 0;  // no_space: free bytes; retry_later: milliseconds; out_of_order: the sequence expected
};

/// The watermarks of a log; asserted in one place: replicated <= durable <= written <= appended. Each is "every batch with a
/// smaller lsn".
struct Watermarks {
  Lsn appended{1};
  Lsn written{1};
  Lsn durable{1};
};

class LogListener {
 public:
  /// durable() moved. Called once a turn at most; acknowledge what is below it.
  virtual void log_durable(Lsn durable) = 0;
  /// A commit failed: whatever was appended and is not below durable() has an unknown outcome (Error::unknown_outcome).
  virtual void log_failed() = 0;

 protected:
  ~LogListener() = default;
};

}  // namespace millrace
