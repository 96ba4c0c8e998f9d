// The memory of all batches of one client: equal buffers, cut from one allocation made at the start, handed out and taken
// back without a lock. When it is empty, append refuses: that is the SDK's memory bound.
//
// A buffer holds one append request as it goes out, in place:
//
//   | room for frame, message, batch header and the body's front | arena: payloads, then what is packed behind them | notes |
//
// Records are copied once, into the arena; what stands before them in the body is written right-aligned against it.
// Thread: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.hpp"
#include "base/units.hpp"

namespace millrace {

/// What the packer needs to know of one record until its batch is packed.
struct RecordNote {
  std::int64_t event_time;
  std::uint32_t end;  // of payload, key and headers, which stand behind each other in the arena
  std::uint32_t key_bytes;
  std::uint32_t header_bytes;
  std::uint16_t type;
  std::uint16_t unused;
};
static_assert(sizeof(RecordNote) == 24);

inline constexpr std::size_t buffer_align = 64;  // a cache line

/// How one buffer is divided; the same for all buffers of a pool.
struct BufferShape {
  std::size_t arena_bytes = 0;    // payloads, keys and headers of a batch
  std::uint32_t records_max = 0;  // notes
  std::size_t front_bytes = 0;    // before the arena
  std::size_t back_bytes = 0;     // behind the arena: vectors of keys and headers, and padding
  std::size_t total_bytes = 0;

  /// For batches of at most `arena_bytes` of payload and `records_max` records.
  static BufferShape of(std::size_t arena_bytes, std::uint32_t records_max);
};

/// One buffer: pointers into the pool's memory.
struct BatchBuffer {
  std::byte* arena = nullptr;  // 64-byte aligned; `front_bytes` before it belong to the buffer
  RecordNote* notes = nullptr;
};

class BufferPool {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  /// As many buffers as fit `memory_bytes`, at least two. Pages nobody touched cost nothing.
  BufferPool(std::size_t memory_bytes, const BufferShape& shape);

  /// A free buffer's number, or `none`.
  std::uint32_t take();
  void give_back(std::uint32_t number);
  BatchBuffer at(std::uint32_t number) const;

  const BufferShape& shape() const { return shape_; }
  std::uint32_t count() const { return count_; }
  /// For tests and counters: walks nothing, exact only when nobody else calls.
  std::uint32_t free_count() const { return free_count_.load(std::memory_order_relaxed); }

 private:
  struct FreeMemory {
    void operator()(std::byte* memory) const;
  };

  const BufferShape shape_;
  std::uint32_t count_ = 0;
  std::unique_ptr<std::byte[], FreeMemory> memory_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> next_;
  std::atomic<std::uint64_t> top_{
      0};  // high half: a tag that defeats reuse between load and exchange; low half: number
  std::atomic<std::uint32_t> free_count_{0};
};

}  // namespace millrace
