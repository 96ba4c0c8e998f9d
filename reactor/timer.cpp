#include "reactor/timer.hpp"

#include <utility>

#include "base/assert.hpp"

namespace millrace {

void TimerHeap::place(std::size_t index, Timer* timer) {
  heap_[index] = timer;
  timer->heap_index = index;
}

void TimerHeap::sift_up(std::size_t index) {
  Timer* timer = heap_[index];
  while (index > 0) {
    std::size_t parent = (index - 1) / 2;
    if (heap_[parent]->deadline <= timer->deadline) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void TimerHeap::sift_down(std::size_t index) {
  Timer* timer = heap_[index];
  for (;;) {
    std::size_t child = index * 2 + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->deadline < heap_[child]->deadline) ++child;
    if (timer->deadline <= heap_[child]->deadline) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

void TimerHeap::arm(Timer& timer, Nanos deadline) {
  if (timer.armed()) disarm(timer);
  timer.deadline = deadline;
  heap_.push_back(&timer);
  timer.heap_index = heap_.size() - 1;
  sift_up(timer.heap_index);
}

void TimerHeap::disarm(Timer& timer) {
  if (!timer.armed()) return;
  std::size_t index = timer.heap_index;
  MR_ASSERT(index < heap_.size() && heap_[index] == &timer);
  Timer* last = heap_.back();
  heap_.pop_back();
  timer.heap_index = Timer::unarmed;
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->heap_index);
}

}  // namespace millrace
