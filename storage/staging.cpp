#include "storage/staging.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/mutant.hpp"

namespace millrace {

namespace {
constexpr std::size_t staging_part = 8;  // of the shard's memory
// One of the largest in flight, one being filled, and what is lost at the ring's end.
constexpr std::size_t ring_bytes_min = 3 * (block_bytes + group_span_max);
}  // namespace

Staging::Staging(Kernel& kernel, std::size_t memory_bytes)
    : memory_(align_down(std::max(memory_bytes / staging_part, ring_bytes_min), block_bytes)) {
  kernel.register_memory(memory_.bytes());
}

GroupBuffer Staging::take(std::size_t bytes) {
  MR_ASSERT(!open_ && bytes <= group_span_max);
  const std::size_t capacity = align_up(std::max<std::size_t>(bytes, group_bytes_max), block_bytes);
  const std::size_t span = block_bytes + capacity;
  std::uint64_t at = head_;
  // A buffer is one piece of memory: what is left at the ring's end stays unused this time round.
  Bytes skipped;
  if (at % memory_.size() + span > memory_.size()) {
    skipped = memory_.bytes().subspan(at % memory_.size());
    at += skipped.size();
  }
  if (at + span - tail_ > memory_.size()) return {};
  open_ = true;
  head_ = at + span;
  return {memory_at(at) + block_bytes, capacity, at, skipped};
}

void Staging::trim(GroupBuffer& newest, std::size_t bytes) {
  MR_ASSERT(open_ && bytes <= newest.capacity && newest.at + block_bytes + newest.capacity == head_);
  newest.capacity = align_up(bytes, block_bytes);
  head_ = newest.at + block_bytes + newest.capacity;
  if (mutant("reused_inflight_buffer")) head_ = newest.at;
  open_ = false;
}

void Staging::give(const GroupBuffer& oldest) {
  MR_ASSERT(oldest && oldest.at >= tail_);
  tail_ = oldest.at + block_bytes + oldest.capacity;
  if (tail_ > head_) head_ = tail_;  // it was never trimmed: the log goes away with it open
  if (tail_ == head_) open_ = false;
}

}  // namespace millrace
