// Verifies a data directory: every group, batch, hash, chain and seal, the structure of every body, and every index entry
// against a rebuild. It reads only. `millrace verify` shows what it finds.
//
// Works on a stopped, crashed, copied or live directory. Of the segment that is written to it verifies what is durable: what a
// crash tore behind that is not damage, and a live segment that changes under the reader is read again. Days and segments that
// retention takes away meanwhile are passed over. The state file, pool and quarantine prove nothing: what is in them is
// counted, and noted where a person should know, and never is damage.
//
// Thread: the reactor's; the largest step is one segment's index.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

enum class DamageKind : std::uint8_t {
  node_meta,       // neither of two slots verifies
  missing,         // a file that others prove was there
  unreadable,      // the system cannot read it
  segment_header,  // a header block does not verify, or is not at home in this file
  link,            // a segment is not the successor of the one before
  lost_batches,    // a range of the log does not verify
  lost_records,    // a stream misses offsets
  stray_bytes,     // a group's batches verify, the bytes around them do not
  body,            // a batch's hashes fit, its structure does not
  order,           // lsn, time, day, offset or id do not continue
  index_unit,      // a unit of a complete index does not verify
  index_entry,     // a unit verifies and says something else than the log
  finish,          // the file does not verify or does not fit the seal
  seal,            // the seal's totals are not those of its day
};
std::string_view damage_name(DamageKind kind);

/// One damage and its exact place. Fields that say nothing are zero.
struct Damage {
  DamageKind kind = DamageKind::missing;
  ShardIndex shard{};
  std::string file{};       // path within the data directory
  std::uint64_t begin = 0;  // bytes [begin, end) of the file
  std::uint64_t end = 0;
  Lsn first_lsn{};  // batches [first_lsn, end_lsn)
  Lsn end_lsn{};
  StreamId stream{};  // records [first_offset, end_offset) of the stream
  std::string stream_name{};
  Offset first_offset{};
  Offset end_offset{};
  std::string what{};  // one sentence
};

struct VerifyProgress {
  std::string file;
  std::uint64_t bytes_done = 0;  // of all files
  std::uint64_t bytes_total = 0;
};

class VerifyVisitor {
 public:
  virtual void damage(const Damage& damage) = 0;
  /// What is worth a line and is no damage: a torn end that a crash left, an index that will be derived anew.
  virtual void note(const std::string&) {}
  /// After each piece read.
  virtual void progress(const VerifyProgress&) {}

 protected:
  ~VerifyVisitor() = default;
};

struct VerifyReport {
  std::uint64_t shards = 0;
  std::uint64_t days = 0;
  std::uint64_t days_finished = 0;
  std::uint64_t segments = 0;
  std::uint64_t groups = 0;
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;  // read
  std::uint64_t index_entries = 0;
  std::uint64_t index_runs = 0;          // closed segments that their day's index describes
  std::uint64_t index_runs_lacking = 0;  // and those that it does not
  std::uint64_t tail_batches = 0;        // that stand only in a tail so far
  std::uint64_t state_files = 0;         // with a slot that verifies
  std::uint64_t pool_segments = 0;       // prepared, and read as zeros
  std::uint64_t quarantine_files = 0;
  std::uint64_t quarantine_bytes = 0;
  std::uint64_t damages = 0;
};

struct VerifyOptions {
  bool buffered = false;  // no O_DIRECT; never on a live directory, whose writes it slows down
};

/// `directory` is the data directory. Errors: not_found (no node.meta), unsupported_version, and what opening it fails with;
/// damage is no error but is told to the visitor and counted.
Task<VerifyReport> verify_directory(Reactor& reactor, std::string directory, VerifyOptions options,
                                    VerifyVisitor& visitor);

}  // namespace millrace
