// What a ring knows by number instead of by pointer: registered memory and registered files.
//
// Thread: the ring's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "reactor/uring_ring.hpp"

namespace millrace {

/// Memory whose pages stay pinned, so that direct reads and writes inside skip pinning them each time.
class RegisteredMemory {
 public:
  static constexpr unsigned ranges_max = 16;
  /// The piece at which halving gives up: less saves nothing.
  static constexpr std::size_t range_bytes_min = 64 * KiB;

  explicit RegisteredMemory(UringRing& ring) : ring_(ring) {}
  /// Reserves the table. 0 or -errno.
  int open();
  bool is_open() const { return open_; }
  /// -errno of what was refused last.
  int refusal() const { return refusal_; }
  /// Registers as much from the front as memlock allows, halving on the way; returns the bytes.
  std::size_t add(MutableBytes memory);
  /// The number of the range that wholly holds [data, data + length).
  std::optional<std::uint16_t> find(const std::byte* data, std::size_t length) const {
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      auto at = static_cast<std::uint64_t>(data - ranges_[i].data());
      if (data >= ranges_[i].data() && at + length <= ranges_[i].size()) return static_cast<std::uint16_t>(i);
    }
    return std::nullopt;
  }

 private:
  UringRing& ring_;
  bool open_ = false;
  int refusal_ = 0;
  std::vector<Bytes> ranges_;
};

/// Open files by slot. A descriptor opened through a kernel is closed through the same kernel, so that its slot goes
/// with it; sockets are never put here and may move between kernels.
class RegisteredFiles {
 public:
  static constexpr unsigned files_max = 512;

  explicit RegisteredFiles(UringRing& ring) : ring_(ring) {}
  /// 0 or -errno.
  int open();
  /// No slot left, or refused: the file is simply used by its descriptor.
  void add(int descriptor);
  void remove(int descriptor);
  /// The slot, or -1.
  int slot(int descriptor) const {
    auto index = static_cast<std::size_t>(descriptor);
    return descriptor >= 0 && index < slots_.size() ? slots_[index] : -1;
  }

 private:
  UringRing& ring_;
  std::vector<int> free_;
  std::vector<std::int16_t> slots_;  // by descriptor
};

}  // namespace millrace
