// Zeroed memory that O_DIRECT accepts, for buffers that live long or are rare. What is taken and given back all the time comes
// from reactor/io_buffers.
#pragma once

#include <cstddef>
#include <memory>

#include "base/bytes.hpp"
#include "base/units.hpp"

namespace millrace {

class AlignedMemory {
 public:
  AlignedMemory() = default;
  /// `bytes` is rounded up to whole blocks.
  explicit AlignedMemory(std::size_t bytes);
  MutableBytes bytes() const { return {data_.get(), size_}; }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace millrace
