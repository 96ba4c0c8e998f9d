// The appends of one connection that have no answer yet, in the order they were sent. A bounded ring that grows to what the
// connection has in flight and is given back when it is idle.
//
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <memory>

#include "base/assert.hpp"
#include "base/units.hpp"
#include "protocol/answers.hpp"

namespace millrace {

/// More appends than this in flight on one connection wait in the socket.
inline constexpr std::uint32_t connection_appends_max = 32'768;

struct PendingAck {
  wire::AckEntry entry;    // as it will be sent; error != 0: nothing to wait for
  std::uint64_t cost = 0;  // credit it gives back
};

class AckQueue {
 public:
  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == connection_appends_max; }
  std::uint32_t size() const { return count_; }

  void push(const PendingAck& ack) {
    MR_ASSERT(!full());
    if (count_ == capacity_) grow();
    ring_[(first_ + count_) & (capacity_ - 1)] = ack;
    count_++;
  }
  PendingAck& front() { return ring_[first_ & (capacity_ - 1)]; }
  PendingAck& at(std::uint32_t index) { return ring_[(first_ + index) & (capacity_ - 1)]; }
  void pop() {
    MR_ASSERT(count_ > 0);
    first_ = (first_ + 1) & (capacity_ - 1);
    count_--;
  }
  /// Gives the memory of a burst back; only when empty.
  void release_if_large() {
    MR_ASSERT(empty());
    if (capacity_ <= capacity_kept) return;
    ring_.reset();
    capacity_ = first_ = 0;
  }

 private:
  static constexpr std::uint32_t capacity_min = 16;
  static constexpr std::uint32_t capacity_kept = 1024;  // an empty ring keeps this much
  void grow() {
    std::uint32_t larger = capacity_ == 0 ? capacity_min : capacity_ * 2;
    auto ring = std::make_unique<PendingAck[]>(larger);
    for (std::uint32_t i = 0; i < count_; i++) ring[i] = at(i);
    ring_ = std::move(ring);
    capacity_ = larger;
    first_ = 0;
  }

  std::unique_ptr<PendingAck[]> ring_;
  std::uint32_t capacity_ = 0;  // a power of two
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace millrace
