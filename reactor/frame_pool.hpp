// Coroutine frames from free lists by size class, so that steady state allocates nothing. One pool a reactor, one thread.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace millrace {

class FramePool {
 public:
  FramePool() = default;
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;
  ~FramePool();

  void* allocate(std::size_t bytes);
  void release(void* frame, std::size_t bytes);
  /// Frames taken from the heap so far; flat in steady state.
  std::uint64_t heap_allocations() const { return heap_allocations_; }

  static constexpr std::size_t class_bytes = 64;
  static constexpr std::size_t classes = 64;  // frames over 4 KiB go to the heap each time

 private:
  struct Free {
    Free* next;
  };
  std::array<Free*, classes + 1> free_{};
  std::uint64_t heap_allocations_ = 0;
};

namespace detail {

/// Frame with the pool's address in front of it; nullptr = heap.
void* allocate_frame(FramePool* pool, std::size_t bytes);
void release_frame(void* frame, std::size_t bytes);

template <class T>
FramePool* pool_of(T& first) {
  if constexpr (requires {
                  { first.frame_pool() } -> std::same_as<FramePool&>;
                })
    return &first.frame_pool();
  else if constexpr (requires {
                       { first.reactor().frame_pool() } -> std::same_as<FramePool&>;
                     })
    return &first.reactor().frame_pool();
  else return nullptr;
}

struct PooledFrame {
  static void* operator new(std::size_t bytes) { return allocate_frame(nullptr, bytes); }
  template <class First, class... Rest>
  static void* operator new(std::size_t bytes, First& first, Rest&...) {
    return allocate_frame(pool_of(first), bytes);
  }
  static void operator delete(void* frame, std::size_t bytes) { release_frame(frame, bytes); }
};

}  // namespace detail

}  // namespace millrace
