// Memory for frames that arrive in pieces: one pool a core, charged to a budget, given back when the frame was handled, so
// that idle connections hold none. Steady state allocates nothing.
//
// Thread: the core's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "protocol/frame_parser.hpp"

namespace millrace {

/// The least a core may have: one largest frame and a few small ones.
inline constexpr std::size_t frame_memory_bytes_min = 16 * MiB;

class BudgetedFrameMemory final : public FrameMemory {
 public:
  explicit BudgetedFrameMemory(std::size_t bytes_max);
  ~BudgetedFrameMemory();
  BudgetedFrameMemory(const BudgetedFrameMemory&) = delete;
  BudgetedFrameMemory& operator=(const BudgetedFrameMemory&) = delete;

  MutableBytes take(std::size_t bytes) override;
  void give_back(MutableBytes memory) override;

  /// The same for memory that its owner can do without: empty when more than half of the budget would be out.
  MutableBytes take_spare(std::size_t bytes);

  std::size_t bytes_out() const { return out_; }
  std::size_t bytes_held() const { return held_; }  // out and free
  /// Bytes given back since the last call: somebody who waits may try again.
  bool freed() { return std::exchange(freed_, false); }

 private:
  static std::size_t class_of(std::size_t bytes);
  static std::size_t class_bytes(std::size_t index);
  void drop_free();

  const std::size_t bytes_max_;
  std::vector<std::vector<std::byte*>> free_;  // by class
  std::size_t held_ = 0;
  std::size_t out_ = 0;
  bool freed_ = false;
};

}  // namespace millrace
