// A growing array in chunks: elements never move, growing never copies, and clear() keeps the memory, so that an array which
// is filled and emptied again and again allocates nothing in steady state.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.hpp"

namespace millrace {

template <class T, std::size_t chunk_elements>
class Chunked {
 public:
  static_assert((chunk_elements & (chunk_elements - 1)) == 0);

  T& push_back(const T& value) {
    if (size_ / chunk_elements == chunks_.size()) chunks_.push_back(std::make_unique<T[]>(chunk_elements));
    T& place = (*this)[size_++];
    place = value;
    return place;
  }
  T& operator[](std::size_t index) {
    MR_ASSERT(index < chunks_.size() * chunk_elements);
    return chunks_[index / chunk_elements][index % chunk_elements];
  }
  const T& operator[](std::size_t index) const {
    MR_ASSERT(index < size_);
    return chunks_[index / chunk_elements][index % chunk_elements];
  }
  std::size_t size() const { return size_; }
  void clear() { size_ = 0; }
  std::size_t memory_bytes() const { return chunks_.size() * chunk_elements * sizeof(T); }

 private:
  std::vector<std::unique_ptr<T[]>> chunks_;
  std::size_t size_ = 0;
};

}  // namespace millrace
