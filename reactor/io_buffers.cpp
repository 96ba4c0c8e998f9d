#include "reactor/io_buffers.hpp"

#include <new>

#include "base/assert.hpp"

namespace millrace {

namespace {
constexpr std::align_val_t memory_alignment{block_bytes};
}

void IoBuffers::Free::operator()(std::byte* memory) const { ::operator delete(memory, memory_alignment); }

IoBuffers::IoBuffers(Kernel& kernel, std::span<const IoBufferClass> classes)
    : classes_(classes.begin(), classes.end()), free_(classes.size()) {
  for (const IoBufferClass& each : classes_) {
    MR_ASSERT(each.bytes_each > 0 && is_aligned(each.bytes_each, block_bytes));
    total_bytes_ += each.bytes_each * each.count;
  }
  memory_.reset(static_cast<std::byte*>(::operator new(total_bytes_, memory_alignment)));
  std::byte* at = memory_.get();
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    free_[i].reserve(classes_[i].count);
    for (std::size_t n = 0; n < classes_[i].count; ++n, at += classes_[i].bytes_each) free_[i].push_back(at);
  }
  registered_bytes_ = kernel.register_memory({memory_.get(), total_bytes_});
}

IoBuffers::~IoBuffers() {
  for (std::size_t i = 0; i < classes_.size(); ++i) MR_ASSERT(free_[i].size() == classes_[i].count);
}

IoBuffer IoBuffers::take(std::size_t size_class) {
  auto& free = free_[size_class];
  if (free.empty()) {
    ++refusals_;
    return {};
  }
  std::byte* memory = free.back();
  free.pop_back();
  return IoBuffer(*this, size_class, {memory, classes_[size_class].bytes_each});
}

void IoBuffer::give_back() {
  if (owner_ == nullptr) return;
  owner_->free_[size_class_].push_back(bytes_.data());
  owner_ = nullptr;
  bytes_ = {};
}

}  // namespace millrace
