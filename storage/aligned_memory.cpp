#include "storage/aligned_memory.hpp"

#include <cstring>
#include <new>

namespace millrace {

AlignedMemory::AlignedMemory(std::size_t bytes) : size_(align_up(bytes, block_bytes)) {
  data_.reset(static_cast<std::byte*>(::operator new[](size_, std::align_val_t{block_bytes})));
  std::memset(data_.get(), 0, size_);
}

void AlignedMemory::Free::operator()(std::byte* data) const {
  ::operator delete[](data, std::align_val_t{block_bytes});
}

}  // namespace millrace
