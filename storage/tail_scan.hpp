// What a tail's ring holds: its valid slots by number, and which of them go on from a segment's end. Rules: storage/FORMAT.md,
// "Tail". Pure; any thread.
#pragma once

#include <vector>

#include "storage/recovery.hpp"
#include "storage/tail_slot.hpp"

namespace millrace {

struct FoundSlot {
  TailSlot header;
  Bytes held;
};

/// Where a segment's valid groups end.
struct LogEnd {
  std::uint64_t position = 0;
  Lsn next_lsn{};
  Chain chain{};
  Epoch epoch{};
};

class TailScan {
 public:
  /// Reads every slot of the ring (which begins at 4096 of `tail`) that verifies. A header block that does not verify is
  /// passed over: slots speak for themselves. Errors: foreign (another log's), unsupported_version.
  static Result<TailScan> read(Bytes tail, const Id128& log_id, ShardIndex shard, OpenFor purpose);

  /// Slots in number order.
  const std::vector<FoundSlot>& slots() const { return slots_; }
  /// Largest durable end any slot states; of one segment only when `segment_id` is given. Lsn 0 = none.
  Lsn durable_end(const Id128* segment_id = nullptr) const;
  std::uint64_t highest_number() const { return slots_.empty() ? 0 : slots_.back().header.number; }

  /// The group that slots of `segment_id` form at `end`, and `end` moved behind it. Among several that fit one place the newest
  /// counts. Nothing when none fits.
  std::optional<TailGroup> take(const Id128& segment_id, LogEnd& end);
  /// After damage: the first slot of that segment behind the last one taken that holds batches from `end.next_lsn` on, whatever
  /// lies between, and those that continue it; placed at the next 4 KiB behind `end`.
  std::optional<TailGroup> take_after_gap(const Id128& segment_id, LogEnd& end);

  std::uint64_t taken() const { return taken_; }

 private:
  const FoundSlot* newest_at(const Id128& segment_id, std::uint64_t group, std::uint64_t start,
                             const LogEnd& end) const;
  TailGroup run(const FoundSlot& first, LogEnd& end, std::uint64_t placed_at);

  std::vector<FoundSlot> slots_;
  std::uint64_t last_number_ = 0;  // of the slot taken last
  std::uint64_t taken_ = 0;
};

}  // namespace millrace
