// Messages from one thread to one reactor: a bounded ring, one producer, one consumer, no lock. The consumer is woken
// only when it sleeps.
//
// Threads: push() belongs to the producer, pop() to the consumer's reactor; the constructor and destructor run while
// neither does.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "reactor/kernel.hpp"

namespace millrace {

template <class Message>
class Mailbox {
 public:
  /// `capacity` is a power of two; `consumer` is the kernel of the reactor that pops.
  Mailbox(std::size_t capacity, Kernel& consumer) : slots_(capacity), consumer_(consumer) {
    MR_ASSERT(std::has_single_bit(capacity));
  }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  /// False, and `message` untouched, when it is full: try again later.
  bool push(Message& message) {
    std::uint64_t at = pushed_.load(std::memory_order_relaxed);
    if (at - popped_seen_ == slots_.size()) {
      popped_seen_ = popped_.load(std::memory_order_acquire);
      if (at - popped_seen_ == slots_.size()) return false;
    }
    slots_[at & (slots_.size() - 1)].emplace(std::move(message));
    pushed_.store(at + 1, std::memory_order_release);
    consumer_.wake();
    return true;
  }

  std::optional<Message> pop() {
    std::uint64_t at = popped_.load(std::memory_order_relaxed);
    if (at == pushed_seen_) {
      pushed_seen_ = pushed_.load(std::memory_order_acquire);
      if (at == pushed_seen_) return std::nullopt;
    }
    std::optional<Message>& slot = slots_[at & (slots_.size() - 1)];
    std::optional<Message> message = std::move(slot);
    slot.reset();
    popped_.store(at + 1, std::memory_order_release);
    return message;
  }

 private:
  // Each side's words on their own cache line: the other side writes there only when it has to look.
  static constexpr std::size_t cache_line_bytes = 64;

  std::vector<std::optional<Message>> slots_;
  Kernel& consumer_;

  alignas(cache_line_bytes) std::atomic<std::uint64_t> pushed_{0};
  std::uint64_t popped_seen_ = 0;  // producer's

  alignas(cache_line_bytes) std::atomic<std::uint64_t> popped_{0};
  std::uint64_t pushed_seen_ = 0;  // consumer's
};

}  // namespace millrace
