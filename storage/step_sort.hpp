// Sorting without holding the thread: sorted pieces, merged pass by pass, the thread given away every few thousand elements.
#pragma once

#include <algorithm>
#include <vector>

#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

inline constexpr std::size_t sort_piece = 512;      // sorted at once
inline constexpr std::size_t sort_step = 8 * 1024;  // elements moved in one turn

/// Sorts `values` by `less`. `values` and whatever `less` refers to outlive the task.
template <class T, class Less>
Task<> sort_in_steps(Reactor& reactor, std::vector<T>& values, Less less) {
  (void)reactor;
  const std::size_t size = values.size();
  std::size_t done = 0;
  for (std::size_t at = 0; at < size; at += sort_piece) {
    std::sort(values.begin() + static_cast<std::ptrdiff_t>(at),
              values.begin() + static_cast<std::ptrdiff_t>(std::min(size, at + sort_piece)), less);
    done += sort_piece;
    if (done >= sort_step / 4) {
      done = 0;
      co_await Yield{};
    }
  }
  std::vector<T> other(size > sort_piece ? size : 0);
  for (std::size_t width = sort_piece; width < size; width *= 2) {
    for (std::size_t begin = 0; begin < size; begin += 2 * width) {
      std::size_t left = begin;
      const std::size_t left_end = std::min(begin + width, size);
      std::size_t right = left_end;
      const std::size_t right_end = std::min(begin + 2 * width, size);
      for (std::size_t to = begin; to < right_end; ++to) {
        const bool take_left = left < left_end && (right == right_end || !less(values[right], values[left]));
        other[to] = values[take_left ? left++ : right++];
        if (++done >= sort_step) {
          done = 0;
          co_await Yield{};
        }
      }
    }
    values.swap(other);
  }
  co_return {};
}

}  // namespace millrace
