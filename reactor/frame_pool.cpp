#include "reactor/frame_pool.hpp"

#include <new>

namespace millrace {

FramePool::~FramePool() {
  for (Free* head : free_)
    while (head != nullptr) {
      Free* next = head->next;
      ::operator delete(head);
      head = next;
    }
}

void* FramePool::allocate(std::size_t bytes) {
  std::size_t size_class = (bytes + class_bytes - 1) / class_bytes;
  if (size_class <= classes && free_[size_class] != nullptr) {
    Free* frame = free_[size_class];
    free_[size_class] = frame->next;
    return frame;
  }
  ++heap_allocations_;
  return ::operator new(size_class * class_bytes);
}

void FramePool::release(void* frame, std::size_t bytes) {
  std::size_t size_class = (bytes + class_bytes - 1) / class_bytes;
  if (size_class > classes) {
    ::operator delete(frame);
    return;
  }
  auto* entry = static_cast<Free*>(frame);
  entry->next = free_[size_class];
  free_[size_class] = entry;
}

namespace detail {

// The pool's address stands in 16 bytes before the frame, which keeps the frame's alignment.
inline constexpr std::size_t prefix_bytes = 16;

void* allocate_frame(FramePool* pool, std::size_t bytes) {
  std::size_t total = bytes + prefix_bytes;
  void* memory = pool != nullptr ? pool->allocate(total) : ::operator new(total);
  *static_cast<FramePool**>(memory) = pool;
  return static_cast<std::byte*>(memory) + prefix_bytes;
}

void release_frame(void* frame, std::size_t bytes) {
  void* memory = static_cast<std::byte*>(frame) - prefix_bytes;
  FramePool* pool = *static_cast<FramePool**>(memory);
  if (pool != nullptr) pool->release(memory, bytes + prefix_bytes);
  else ::operator delete(memory);
}

}  // namespace detail

}  // namespace millrace
