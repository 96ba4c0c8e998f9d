#include "sdk/core/buffer_pool.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/assert.hpp"
#include "sdk/core/body_packer.hpp"

namespace millrace {

BufferShape BufferShape::of(std::size_t arena_bytes, std::uint32_t records_max) {
  BufferShape shape;
  shape.arena_bytes = align_up(arena_bytes, buffer_align);
  shape.records_max = records_max;
  shape.front_bytes = align_up(request_front_max + body_front_max(records_max), buffer_align);
  shape.back_bytes = align_up(body_back_max(records_max) + batch_align, buffer_align);
  shape.total_bytes = align_up(
      shape.front_bytes + shape.arena_bytes + shape.back_bytes + records_max * sizeof(RecordNote), buffer_align);
  return shape;
}

void BufferPool::FreeMemory::operator()(std::byte* memory) const { std::free(memory); }

BufferPool::BufferPool(std::size_t memory_bytes, const BufferShape& shape) : shape_(shape) {
  count_ = static_cast<std::uint32_t>(std::clamp<std::size_t>(memory_bytes / shape.total_bytes, 2, none - 1));
  memory_.reset(
      static_cast<std::byte*>(std::aligned_alloc(block_bytes, align_up(count_ * shape.total_bytes, block_bytes))));
  MR_ASSERT(memory_ != nullptr);
  next_ = std::make_unique<std::atomic<std::uint32_t>[]>(count_);
  for (std::uint32_t i = 0; i < count_; ++i) next_[i].store(i + 1 < count_ ? i + 1 : none, std::memory_order_relaxed);
  free_count_.store(count_, std::memory_order_relaxed);
}

std::uint32_t BufferPool::take() {
  std::uint64_t top = top_.load(std::memory_order_acquire);
  for (;;) {
    const auto number = static_cast<std::uint32_t>(top);
    if (number == none) return none;
    const std::uint32_t next = next_[number].load(std::memory_order_relaxed);
    const std::uint64_t tag = (top >> 32) + 1;
    if (top_.compare_exchange_weak(top, tag << 32 | next, std::memory_order_acq_rel, std::memory_order_acquire)) {
      free_count_.fetch_sub(1, std::memory_order_relaxed);
      return number;
    }
  }
}

void BufferPool::give_back(std::uint32_t number) {
  MR_ASSERT(number < count_);
  std::uint64_t top = top_.load(std::memory_order_acquire);
  for (;;) {
    next_[number].store(static_cast<std::uint32_t>(top), std::memory_order_relaxed);
    const std::uint64_t tag = (top >> 32) + 1;
    if (top_.compare_exchange_weak(top, tag << 32 | number, std::memory_order_acq_rel, std::memory_order_acquire))
      break;
  }
  free_count_.fetch_add(1, std::memory_order_relaxed);
}

BatchBuffer BufferPool::at(std::uint32_t number) const {
  MR_ASSERT(number < count_);
  std::byte* begin = memory_.get() + number * shape_.total_bytes;
  std::byte* arena = begin + shape_.front_bytes;
  return {arena, reinterpret_cast<RecordNote*>(arena + shape_.arena_bytes + shape_.back_bytes)};
}

}  // namespace millrace
