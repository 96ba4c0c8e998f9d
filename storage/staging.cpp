#include "storage/staging.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

namespace {
constexpr std::size_t staging_part = 16;  // of the shard's memory
constexpr std::size_t buffers_min = 4;
constexpr std::size_t buffer_bytes = block_bytes + group_bytes_max;
}  // namespace

Staging::Staging(Kernel& kernel, std::size_t memory_bytes) {
  const std::size_t count = std::clamp(memory_bytes / staging_part / buffer_bytes, buffers_min, buffers_max);
  memory_ = AlignedMemory(count * buffer_bytes);
  kernel.register_memory(memory_.bytes());
  buffers_.reserve(count);
  free_.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    buffers_.push_back({memory_.bytes().data() + i * buffer_bytes + block_bytes, group_bytes_max, false});
  for (std::size_t i = count; i > 0; --i) free_.push_back(&buffers_[i - 1]);
}

GroupBuffer* Staging::take(std::size_t bytes) {
  if (bytes <= group_bytes_max) {
    if (free_.empty()) return nullptr;
    GroupBuffer* buffer = free_.back();
    free_.pop_back();
    return buffer;
  }
  MR_ASSERT(bytes <= group_span_max);
  for (std::size_t i = 0; i < large_buffers_max; ++i) {
    if (large_used_[i]) continue;
    if (large_memory_[i].size() == 0) large_memory_[i] = AlignedMemory(block_bytes + group_span_max);
    large_buffers_[i] = {large_memory_[i].bytes().data() + block_bytes, group_span_max, true};
    large_used_[i] = true;
    return &large_buffers_[i];
  }
  return nullptr;
}

void Staging::give(GroupBuffer* buffer) {
  if (!buffer->large) {
    MR_ASSERT(free_.size() < buffers_.size());
    free_.push_back(buffer);
    return;
  }
  const auto number = static_cast<std::size_t>(buffer - large_buffers_.data());
  MR_ASSERT(number < large_buffers_max && large_used_[number]);
  large_used_[number] = false;
}

std::size_t Staging::memory_bytes() const {
  std::size_t bytes = memory_.size();
  for (const AlignedMemory& large : large_memory_) bytes += large.size();
  return bytes;
}

}  // namespace millrace
