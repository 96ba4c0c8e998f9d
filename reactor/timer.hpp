// Timers of one reactor: plain data owned by the caller, kept in a binary heap by deadline.
#pragma once

#include <cstddef>
#include <vector>

#include "base/units.hpp"

namespace millrace {

struct Timer {
  void (*fire)(Timer& self) = nullptr;  // called in the reactor's turn, after the timer was disarmed
  void* context = nullptr;
  Nanos deadline = 0;
  static constexpr std::size_t unarmed = static_cast<std::size_t>(-1);
  std::size_t heap_index = unarmed;  // belongs to the TimerHeap
  bool armed() const { return heap_index != unarmed; }
};

class TimerHeap {
 public:
  void arm(Timer& timer, Nanos deadline);
  void disarm(Timer& timer);
  /// The earliest timer, or nullptr.
  Timer* first() const { return heap_.empty() ? nullptr : heap_.front(); }

 private:
  void place(std::size_t index, Timer* timer);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);

  std::vector<Timer*> heap_;
};

}  // namespace millrace
