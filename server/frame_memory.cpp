#include "server/frame_memory.hpp"

#include <algorithm>
#include <new>

namespace millrace {

namespace {

constexpr std::size_t step_bytes = 16 * KiB;  // classes from here on are its multiples
constexpr std::size_t small_classes[] = {1 * KiB, 4 * KiB};
constexpr std::size_t small_count = std::size(small_classes);
constexpr std::size_t class_count = small_count + frame_bytes_max / step_bytes;

}  // namespace

BudgetedFrameMemory::BudgetedFrameMemory(std::size_t bytes_max) : bytes_max_(bytes_max), free_(class_count) {
  MR_ASSERT(bytes_max >= frame_memory_bytes_min);
}

BudgetedFrameMemory::~BudgetedFrameMemory() {
  MR_ASSERT(out_ == 0);
  drop_free();
}

std::size_t BudgetedFrameMemory::class_of(std::size_t bytes) {
  for (std::size_t i = 0; i < small_count; i++)
    if (bytes <= small_classes[i]) return i;
  return small_count + align_up(bytes, step_bytes) / step_bytes - 1;
}

std::size_t BudgetedFrameMemory::class_bytes(std::size_t index) {
  return index < small_count ? small_classes[index] : (index - small_count + 1) * step_bytes;
}

void BudgetedFrameMemory::drop_free() {
  for (std::size_t index = 0; index < free_.size(); index++) {
    for (std::byte* memory : free_[index]) {
      ::operator delete(memory, std::align_val_t{64});
      held_ -= class_bytes(index);
    }
    free_[index].clear();
  }
}

MutableBytes BudgetedFrameMemory::take(std::size_t bytes) {
  std::size_t index = class_of(bytes);
  MR_ASSERT(index < class_count);
  std::size_t size = class_bytes(index);
  if (!free_[index].empty()) {
    std::byte* memory = free_[index].back();
    free_[index].pop_back();
    out_ += size;
    return {memory, size};
  }
  if (out_ + size > bytes_max_) return {};
  if (held_ + size > bytes_max_) drop_free();
  held_ += size;
  out_ += size;
  return {static_cast<std::byte*>(::operator new(size, std::align_val_t{64})), size};
}

MutableBytes BudgetedFrameMemory::take_spare(std::size_t bytes) {
  if (out_ + class_bytes(class_of(bytes)) > bytes_max_ / 2) return {};
  return take(bytes);
}

void BudgetedFrameMemory::give_back(MutableBytes memory) {
  std::size_t index = class_of(memory.size());
  MR_ASSERT(class_bytes(index) == memory.size() && out_ >= memory.size());
  out_ -= memory.size();
  free_[index].push_back(memory.data());
  freed_ = true;
}

}  // namespace millrace
