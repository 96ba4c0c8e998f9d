#include "reactor/uring_tables.hpp"

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"

namespace millrace {

int RegisteredMemory::open() {
  refusal_ = io_uring_register_buffers_sparse(ring_.raw(), ranges_max);
  open_ = refusal_ == 0;
  if (open_) ranges_.reserve(ranges_max);
  return refusal_;
}

std::size_t RegisteredMemory::add(MutableBytes memory) {
  if (!open_) return 0;
  refusal_ = -ENOSPC;
  if (ranges_.size() == ranges_max) return 0;
  constexpr std::size_t range_bytes_max = GiB;  // the kernel's own limit for one range
  std::size_t bytes = std::min(memory.size(), range_bytes_max);
  for (; bytes >= range_bytes_min; bytes = align_down(bytes / 2, block_bytes)) {
    iovec range{memory.data(), bytes};
    std::uint64_t tag = 0;
    int stored = io_uring_register_buffers_update_tag(ring_.raw(), static_cast<unsigned>(ranges_.size()), &range,
                                                      reinterpret_cast<__u64*>(&tag), 1);
    if (stored == 1) {
      ranges_.emplace_back(memory.data(), bytes);
      return bytes;
    }
    refusal_ = stored < 0 ? stored : -EINVAL;
  }
  return 0;
}

int RegisteredFiles::open() {
  if (int refused = io_uring_register_files_sparse(ring_.raw(), files_max); refused != 0) return refused;
  for (int slot = static_cast<int>(files_max); slot > 0; --slot) free_.push_back(slot - 1);
  return 0;
}

void RegisteredFiles::add(int descriptor) {
  MR_ASSERT(slot(descriptor) < 0);
  if (free_.empty()) return;
  int slot = free_.back();
  if (io_uring_register_files_update(ring_.raw(), static_cast<unsigned>(slot), &descriptor, 1) != 1) return;
  free_.pop_back();
  auto index = static_cast<std::size_t>(descriptor);
  if (index >= slots_.size()) slots_.resize(index + 1, -1);
  slots_[index] = static_cast<std::int16_t>(slot);
}

void RegisteredFiles::remove(int descriptor) {
  int slot = this->slot(descriptor);
  if (slot < 0) return;
  int nothing = -1;
  int cleared = io_uring_register_files_update(ring_.raw(), static_cast<unsigned>(slot), &nothing, 1);
  MR_ASSERT(cleared == 1);  // else the file would stay open, and locked, for as long as the ring lives
  slots_[static_cast<std::size_t>(descriptor)] = -1;
  free_.push_back(slot);
}

}  // namespace millrace
