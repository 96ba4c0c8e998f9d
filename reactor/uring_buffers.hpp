// The memory that `provided` receives fill: one allocation cut into equal buffers, taken by the kernel from a shared
// ring or, where that is missing, by ourselves once a socket has something to read. Idle connections hold none of it.
//
// Thread: the ring's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "reactor/operation.hpp"
#include "reactor/uring_ring.hpp"

namespace millrace {

class ProvidedBuffers {
 public:
  static constexpr std::size_t count_max = 32768;
  static constexpr std::uint16_t group = 1;  // the kernel's number for our ring

  explicit ProvidedBuffers(UringRing& ring) : ring_(ring) {}
  ~ProvidedBuffers();
  ProvidedBuffers(const ProvidedBuffers&) = delete;
  ProvidedBuffers& operator=(const ProvidedBuffers&) = delete;

  /// `shared` = the kernel picks buffers from a ring; otherwise take() does.
  Result<> open(std::size_t count, std::size_t bytes_each, bool shared);
  bool is_open() const { return memory_ != nullptr; }
  /// errno of the refused ring, when open() failed with `shared`.
  int refusal() const { return refusal_; }
  /// Where buffer `id` lies.
  std::byte* memory_of(std::int32_t id) const { return memory_ + static_cast<std::size_t>(id) * bytes_each_; }
  std::size_t bytes_each() const { return bytes_each_; }
  /// Buffers that are not with an owner; the kernel may have filled some of them already.
  std::size_t available() const { return count_ - out_count_; }

  /// Shared: the kernel reported that buffer `id` now holds `length` bytes.
  ProvidedBuffer filled(std::int32_t id, std::uint32_t length);
  /// Not shared: an empty buffer, id -1 when all are out.
  ProvidedBuffer take();
  void recycle(const ProvidedBuffer& buffer);

 private:
  void offer(std::int32_t id);

  UringRing& ring_;
  std::byte* memory_ = nullptr;
  std::size_t count_ = 0;
  std::size_t bytes_each_ = 0;
  std::size_t ring_entries_ = 0;
  int refusal_ = 0;
  io_uring_buf_ring* shared_ = nullptr;

  std::vector<std::int32_t> free_;  // not shared only
  std::vector<std::uint8_t> out_;   // 1 = with an owner; catches a buffer given back twice
  std::size_t out_count_ = 0;
};

}  // namespace millrace
