// Recovery of one segment: a pure state machine from bytes to verdict. It reads no file and writes none; opening.cpp does the
// I/O around it, verify and the rebuild of an index use it too.
//
//   SegmentRecovery recovery(input, visitor);
//   while (!recovery.done()) recovery.feed(recovery.wanted(), bytes read there);
//   recovery.verdict()
//
// wanted() goes forward through the file; it steps back once, to where damage begins, when damage was found. The visitor sees
// every batch that stays, in lsn order: the valid prefix, then what the tail's slots add, then (damage) what verifies behind
// it. It is told what is lost. Memory: two buffers of group_span_max + recovery_feed_max, the tail as given, a row a slot.
//
// The promise: a pure crash (any subset of the 512-byte sectors that were not durable) is never refused and costs no durable
// batch; bytes known to be durable are never cut; the same bytes give the same verdict, also half-way through what it asks
// for. The argument: storage/RECOVERY.md. Thread: any, one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "storage/group.hpp"
#include "storage/node_meta.hpp"
#include "storage/recovery_rows.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

inline constexpr std::size_t recovery_feed_max = 8 * MiB;

/// Where a segment ends: what its successor's header or `finish` says of it, or what is known of a predecessor.
struct SegmentEnd {
  Id128 segment_id{};
  std::uint64_t length = 0;  // end of the last group, padding included
  Chain chain{};
  Lsn next_lsn{};
};

struct RecoveryInput {
  Id128 log_id{};
  ShardIndex shard{};
  std::uint64_t file_bytes = 0;           // length of the segment's file
  std::uint64_t in_flight_bytes_max = 0;  // W, should the segment's header not be readable
  std::span<const EpochRange> epochs_led;
  std::optional<SegmentEnd> previous;      // the segment before this one; none = the log's first, or dropped
  Lsn first_lsn{1};                        // without a previous one: where this segment begins; 0 = its groups tell
  std::optional<SegmentEnd> expected_end;  // set = this segment is closed
  Lsn known_durable{};                     // every smaller lsn was durable, says somebody else; 0 = nobody does
  Bytes tail;                              // the tail's whole file, or empty (always for a closed segment)
  OpenFor purpose = OpenFor::writing;
};
/// The spans of `input` outlive the recovery.

enum class BatchSource : std::uint8_t { segment, tail, salvaged };

struct FoundBatch {
  BatchHeader header;
  std::uint64_t position = 0;  // file offset in the segment, also of a batch that stands only in the tail so far
  BatchSource source = BatchSource::segment;
  Bytes whole;  // header, body, padding; valid during the call (of the tail: as long as the input)
  Bytes body;
};

/// A range of the segment that does not verify, between what does.
struct LostRange {
  std::uint64_t begin = 0;  // file offsets; equal when nothing is there at all
  std::uint64_t end = 0;
  Lsn first_lsn{};
  Lsn end_lsn{};
};

class RecoveryVisitor {
 public:
  /// A group that verifies, before its batches.
  virtual void group(const GroupHeader&, Bytes) {}
  virtual void batch(const FoundBatch& batch) = 0;
  /// A batch of a lost range whose header still verifies: stream and offsets that are lost are known.
  virtual void lost_batch(const BatchHeader&, std::uint64_t /*position*/) {}
  virtual void lost(const LostRange&) {}

 protected:
  ~RecoveryVisitor() = default;
};

/// A group that so far stands only in the tail: opening closes it anew, at its place, with the new epoch.
struct TailGroup {
  std::uint64_t file_offset = 0;
  std::uint32_t batches = 0;
  std::uint64_t length = 0;  // as in the group header
  Lsn first_lsn{};
  Chain chain_before{};
  Chain chain_after{};
  std::vector<Bytes> pieces{};    // the slots' bytes, one behind the other; they point into the input's tail
  std::vector<std::byte> more{};  // damage only: what stood right behind them in the segment and continues them
};

struct Verdict {
  RecoveryRow row = RecoveryRow::clean_empty;
  std::optional<Error> refused;  // row foreign or unsupported: touch nothing

  bool begun = false;            // the segment holds, or held, batches
  bool header_readable = false;  // `header` is filled
  SegmentHeader header;
  Id128 segment_id{};  // also known when only the groups tell it

  std::uint64_t prefix_end = 0;   // P: end of the valid groups from the front; 0 when not begun
  std::uint64_t content_end = 0;  // end of the last group kept, tail groups (closed anew) included
  std::uint64_t nonzero_end =
      0;  // no bytes but zeros from here on (closed segments: not looked at behind their length)
  std::vector<TailGroup> tail_groups;

  // To quarantine, then zeroed and synced, before anything is written; empty when equal. Then tail_groups are written.
  std::uint64_t cut_begin = 0;
  std::uint64_t cut_end = 0;
  bool go_on_here = false;  // the next group goes to content_end of this segment; else a new segment is begun

  Lsn next_lsn{};      // never used before, nor lost
  Chain chain{};       // after the last batch kept
  Epoch last_epoch{};  // of the last group or slot kept
  Nanos last_leader_time = 0;
  Lsn durable_known{};  // D: everything below was durable

  bool damaged = false;  // something durable, or perhaps durable, is lost
  Lsn lost_first{};      // all that is lost lies in [lost_first, lost_end)
  Lsn lost_end{};
  std::uint64_t lost_batches = 0;  // at most so many
  // How many offsets every stream must skip for what is lost without a trace; what lost_batch() showed comes on top.
  std::uint64_t offset_bump = 0;

  std::uint64_t groups = 0;  // found in the segment and kept
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t slots_taken = 0;
  std::uint64_t slots_dead = 0;   // valid, but of no use any more
  std::uint64_t slot_number = 0;  // highest number of a valid slot: the next one is above
};

class SegmentRecovery {
 public:
  SegmentRecovery(const RecoveryInput& input, RecoveryVisitor& visitor);
  ~SegmentRecovery();
  SegmentRecovery(const SegmentRecovery&) = delete;
  SegmentRecovery& operator=(const SegmentRecovery&) = delete;

  bool done() const;
  /// File offset where feed() goes on; below the file's length while not done.
  std::uint64_t wanted() const;
  /// Bytes of the file at `offset` == wanted(): at most recovery_feed_max, a multiple of 4 KiB unless they reach the end.
  void feed(std::uint64_t offset, Bytes bytes);
  /// Once done.
  const Verdict& verdict() const;

 private:
  class Machine;
  std::unique_ptr<Machine> machine_;
};

/// Writes the closing of a tail group into `target` (align_up(group.length, 4096) bytes): header with this epoch and
/// durable_upto, batches, zeros. What opening writes to group.file_offset.
void close_tail_group(const TailGroup& group, const Id128& segment_id, Epoch epoch, Lsn durable_upto,
                      MutableBytes target);

}  // namespace millrace
