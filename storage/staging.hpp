// The memory groups are built in: one ring, aligned for O_DIRECT, known to the kernel as far as it accepts that, taken once.
// Groups stand in it one behind the other in the order they were opened, each after room for a segment's header block; what a
// closed group leaves unused goes back at once. The newest groups stay readable behind the log's end until the ring comes
// round again: the tail cache refers to them where they lie.
//
// No place is given out again before the kernel is done with it; a full ring refuses.
// Thread: the shard's.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "reactor/kernel.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/group.hpp"

namespace millrace {

struct GroupBuffer {
  std::byte* group = nullptr;  // where the group begins; a segment's header block stands right before it
  std::size_t capacity = 0;    // of the group
  std::uint64_t at = 0;        // position in the ring, counted through all rounds
  Bytes skipped;  // the ring's end, when it begins a new round: unused this time, and older than what it covers
  explicit operator bool() const { return group != nullptr; }
};

class Staging {
 public:
  /// `memory_bytes`: what the shard may hold altogether; the ring takes an eighth of it, and room for two of the largest batches at
  /// least.
  Staging(Kernel& kernel, std::size_t memory_bytes);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Room for the largest group, or for one of `bytes` if that is more; empty when what is in use leaves none. The buffer taken
  /// before must have been trimmed.
  GroupBuffer take(std::size_t bytes);
  /// The newest buffer holds this many bytes and gets no more.
  void trim(GroupBuffer& newest, std::size_t bytes);
  /// Nobody writes from or reads this buffer's file bytes any more. In the order they were taken.
  void give(const GroupBuffer& oldest);

  /// What `buffer` covers with its header block: what stood there, and in what it skipped, is gone once it is taken.
  static Bytes covered(const GroupBuffer& buffer) {
    return {buffer.group - block_bytes, buffer.capacity + block_bytes};
  }
  std::size_t memory_bytes() const { return memory_.size(); }

 private:
  std::byte* memory_at(std::uint64_t position) const { return memory_.bytes().data() + position % memory_.size(); }

  AlignedMemory memory_;
  std::uint64_t head_ = 0;  // where the next buffer begins; this and the next two count through all rounds
  std::uint64_t tail_ = 0;  // the oldest buffer in use
  bool open_ = false;       // the newest buffer was not trimmed
};

}  // namespace millrace
