#include "storage/tail_scan.hpp"

#include <algorithm>

#include "storage/group.hpp"

namespace millrace {

Result<TailScan> TailScan::read(Bytes tail, const Id128& log_id, ShardIndex shard, OpenFor purpose) {
  TailScan scan;
  if (tail.size() <= block_bytes) return scan;
  Result<TailHeader> header = read_tail_header(tail, purpose);
  if (!header && header.error() == Error::unsupported_version) return fail(Error::unsupported_version);
  if (header && (header->log_id != log_id || header->shard != shard)) return fail(Error::foreign);

  Bytes ring = tail.subspan(block_bytes);
  ring = ring.first(std::min<std::size_t>(align_down(ring.size(), block_bytes), tail_ring_bytes_max));
  for (std::size_t at = 0; at < ring.size();) {
    Result<TailSlot> slot = read_tail_slot(ring.subspan(at));
    if (!slot) {
      at += block_bytes;
      continue;
    }
    scan.slots_.push_back({*slot, ring.subspan(at + tail_slot_header_bytes, slot->length)});
    at += tail_slot_span(slot->length);
  }
  std::ranges::sort(scan.slots_, {}, [](const FoundSlot& slot) { return slot.header.number; });
  return scan;
}

Lsn TailScan::durable_end(const Id128* segment_id) const {
  Lsn end{};
  for (const FoundSlot& slot : slots_)
    if (segment_id == nullptr || slot.header.segment_id == *segment_id) end = std::max(end, slot.header.durable_end);
  return end;
}

namespace {

/// All batches a slot holds, verified; nothing when they do not fill it exactly.
std::optional<LogEnd> walk_slot(const FoundSlot& slot, Lsn first_lsn, Chain before, std::uint32_t& batches) {
  BatchWalk walk(slot.held, first_lsn, before);
  batches = 0;
  while (!walk.at_end()) {
    Result<PlacedBatch> batch = walk.check_next();
    if (!batch) return std::nullopt;
    ++batches;
  }
  return LogEnd{slot.header.start + slot.held.size(), walk.next_lsn(), walk.chain(), slot.header.epoch};
}

}  // namespace

const FoundSlot* TailScan::newest_at(const Id128& segment_id, std::uint64_t group, std::uint64_t start,
                                     const LogEnd& end) const {
  for (auto slot = slots_.rbegin(); slot != slots_.rend(); ++slot) {
    const TailSlot& header = slot->header;
    if (header.number <= last_number_) break;
    std::uint32_t batches = 0;
    if (header.length > 0 && header.segment_id == segment_id && header.group == group && header.start == start &&
        header.first_lsn == end.next_lsn && header.chain_before == end.chain && header.epoch >= end.epoch &&
        walk_slot(*slot, end.next_lsn, end.chain, batches))
      return &*slot;
  }
  return nullptr;
}

TailGroup TailScan::run(const FoundSlot& first, LogEnd& end, std::uint64_t placed_at) {
  TailGroup group{.file_offset = placed_at,
                  .length = group_header_bytes,
                  .first_lsn = first.header.first_lsn,
                  .chain_before = first.header.chain_before};
  std::uint64_t slots_group = first.header.group;
  for (const FoundSlot* slot = &first; slot != nullptr;
       slot = newest_at(first.header.segment_id, slots_group, end.position, end)) {
    if (!group.pieces.empty() && group.length + slot->held.size() > group_bytes_max) break;
    std::uint32_t batches = 0;
    std::optional<LogEnd> after = walk_slot(*slot, slot->header.first_lsn, slot->header.chain_before, batches);
    MR_ASSERT(after.has_value());
    group.pieces.push_back(slot->held);
    group.batches += batches;
    group.length += slot->held.size();
    last_number_ = slot->header.number;
    ++taken_;
    end = *after;
  }
  group.chain_after = end.chain;
  end.position = placed_at + align_up(group.length, block_bytes);
  return group;
}

std::optional<TailGroup> TailScan::take(const Id128& segment_id, LogEnd& end) {
  const FoundSlot* first = newest_at(segment_id, end.position, end.position + group_header_bytes, end);
  if (first == nullptr) return std::nullopt;
  return run(*first, end, end.position);
}

std::optional<TailGroup> TailScan::take_after_gap(const Id128& segment_id, LogEnd& end) {
  const FoundSlot* best = nullptr;
  for (const FoundSlot& slot : slots_) {
    const TailSlot& header = slot.header;
    if (header.number <= last_number_ || header.length == 0 || header.segment_id != segment_id) continue;
    if (header.first_lsn < end.next_lsn || header.epoch < end.epoch) continue;
    std::uint32_t batches = 0;
    if (!walk_slot(slot, header.first_lsn, header.chain_before, batches)) continue;
    if (best == nullptr || header.first_lsn <= best->header.first_lsn) best = &slot;
  }
  if (best == nullptr) return std::nullopt;
  return run(*best, end, align_up(end.position, block_bytes));
}

}  // namespace millrace
