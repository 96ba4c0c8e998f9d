// The oracle: what clients were told against what the disk holds. Knows P01, P03-P10, P17-P24 and P28 of the promise sheet;
// offsets give the order, so every check is linear.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/checker/parsed_log.hpp"

namespace millrace::checker {

/// One batch a producer tried to commit. Identity: (producer, producer_epoch, stream, sequence).
struct Attempt {
  std::uint64_t producer = 0;
  std::uint32_t producer_epoch = 0;
  std::uint64_t stream = 0;  // XXH3-64 of the name
  std::uint64_t sequence = 0;
  std::vector<std::uint64_t> payload_hashes;  // XXH3-64 of each record's payload, in order
  std::int64_t sent_at = 0;                   // first handed to a socket; nanoseconds of the world
};

/// What a client was told about an attempt. One attempt may get several answers (re-sends).
struct Answer {
  std::size_t attempt = 0;       // index into History::attempts
  std::uint64_t connection = 0;  // a number for each connection ever made
  std::uint16_t error = 0;       // 0 = acknowledged
  std::uint64_t first_offset = 0;
  std::uint64_t lsn = 0;
  bool repeat = false;
  std::uint32_t shard = 0;
  std::uint64_t damage_before = 0;  // how many damaging faults had been injected into this node when it came
  std::int64_t at = 0;              // when it came
};

/// One record a reader was given.
struct Read {
  std::uint64_t stream = 0;
  std::uint64_t offset = 0;
  std::uint64_t payload_hash = 0;
  std::uint64_t id = 0;
  std::uint32_t day = 0;
  std::uint64_t reader = 0;  // a number for each cursor; offsets of one cursor rise
};

/// What a reader was told is gone: [first, next). Damage took it, or retention, which takes only what is oldest.
struct LossNotice {
  std::uint64_t stream = 0;
  std::uint64_t first = 0;
  std::uint64_t next = 0;
  bool by_retention = false;
};

/// A commit write of the server, to a segment or the tail, that came back failed.
struct FailedCommit {
  std::uint32_t shard = 0;
  std::int64_t at = 0;
};

struct History {
  std::vector<Attempt> attempts;
  std::vector<Answer> answers;
  std::vector<Read> reads;
  std::vector<LossNotice> losses;
  bool damage_injected =
      false;  // bit rot, lost, misdirected writes or lying flushes: acknowledged bytes may be gone, but then reported
  /// Ascending times at which the server's log may have been cut: its processes ended, or a write of it failed.
  std::vector<std::int64_t> disturbances;
  std::vector<FailedCommit> failed_commits;                           // in order of time
  std::vector<std::int64_t> ends;                                     // when the server's processes ended, ascending
  std::vector<std::pair<std::int64_t, std::int64_t>> short_of_space;  // when its disk had no room, or said so
  bool retention_ran = false;                                         // the oldest records may be gone
  std::uint64_t last_reader = 0;  // cursors from this number on read every stream after the last fault; 0 = none
  bool reads_complete = false;    // the last reader read every stream from earliest to its end after the last fault
};

struct Report {
  std::vector<Violation> violations;
  std::uint64_t groups = 0;
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t acknowledged_records = 0;
  std::uint64_t lost_acknowledged_reported = 0;  // acknowledged, gone, and said so
  std::uint64_t lost_acknowledged_silent = 0;    // acknowledged, gone, and nobody said so
  std::uint64_t refused_for_space = 0;           // answers to appends
  std::uint64_t refused_as_closed = 0;
};

/// Checks a directory after its last recovery (or clean stop) against everything clients saw.
Report check(const Image& image, const History& history, const Options& options);

/// Byte-compares what two recoveries of the same crash left (P23), or two nodes' segments (P11): the first difference.
std::optional<Violation> compare(const Image& left, const Image& right, const std::string& promise);

}  // namespace millrace::checker
