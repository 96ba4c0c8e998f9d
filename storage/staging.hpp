// The memory groups are built in: aligned for O_DIRECT, known to the kernel as far as it accepts that, taken once.
//
// A buffer has room for a segment's header block and one group. Batches over a group's size get a large buffer, of which at
// most two exist, made when first needed. No buffer is given back before the kernel is done with it.
// Thread: the shard's.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "reactor/kernel.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/group.hpp"

namespace millrace {

struct GroupBuffer {
  std::byte* group = nullptr;  // where the group begins; a segment's header block stands right before it
  std::size_t capacity = 0;    // of the group
  bool large = false;
};

class Staging {
 public:
  static constexpr std::size_t buffers_max = 32;
  static constexpr std::size_t large_buffers_max = 2;

  /// `memory_bytes`: what the shard may hold altogether; staging takes a sixteenth of it, 4 to 32 buffers.
  Staging(Kernel& kernel, std::size_t memory_bytes);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// nullptr when all are in use. `bytes`: what the group needs.
  GroupBuffer* take(std::size_t bytes);
  void give(GroupBuffer* buffer);

  std::size_t free_buffers() const { return free_.size(); }
  std::size_t buffer_count() const { return buffers_.size(); }
  std::size_t memory_bytes() const;

 private:
  AlignedMemory memory_;
  std::vector<GroupBuffer> buffers_;
  std::vector<GroupBuffer*> free_;  // the last one is taken first: a quiet shard stays within registered, cached memory
  std::array<AlignedMemory, large_buffers_max> large_memory_;
  std::array<GroupBuffer, large_buffers_max> large_buffers_;
  std::array<bool, large_buffers_max> large_used_{};
};

}  // namespace millrace
