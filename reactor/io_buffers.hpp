// Page-aligned memory for direct reads and writes: one allocation, registered with the kernel as far as it allows, cut
// into buffers of a few sizes. When a size is used up it refuses: memory is a limit, not a wish.
//
// Thread: the reactor's.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "reactor/kernel.hpp"

namespace millrace {

class IoBuffers;

/// A buffer on loan; goes back when destroyed. False when empty.
class IoBuffer {
 public:
  IoBuffer() = default;
  IoBuffer(IoBuffer&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)), size_class_(other.size_class_), bytes_(other.bytes_) {}
  IoBuffer& operator=(IoBuffer&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(size_class_, other.size_class_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~IoBuffer() { give_back(); }

  explicit operator bool() const { return owner_ != nullptr; }
  MutableBytes bytes() const { return bytes_; }
  void give_back();

 private:
  friend class IoBuffers;
  IoBuffer(IoBuffers& owner, std::size_t size_class, MutableBytes bytes)
      : owner_(&owner), size_class_(size_class), bytes_(bytes) {}

  IoBuffers* owner_ = nullptr;
  std::size_t size_class_ = 0;
  MutableBytes bytes_;
};

/// One size. Those named first are registered first, when memlock does not allow all.
struct IoBufferClass {
  const char* name;        // "staging", "read", ...: what runs out
  std::size_t bytes_each;  // a multiple of block_bytes
  std::size_t count;
};

class IoBuffers {
 public:
  IoBuffers(Kernel& kernel, std::span<const IoBufferClass> classes);
  IoBuffers(const IoBuffers&) = delete;
  IoBuffers& operator=(const IoBuffers&) = delete;
  /// Every buffer must be back.
  ~IoBuffers();

  /// A buffer of class `size_class` (position in the constructor's list), empty when all are out.
  IoBuffer take(std::size_t size_class);
  std::size_t available(std::size_t size_class) const { return free_[size_class].size(); }
  const IoBufferClass& size_class(std::size_t index) const { return classes_[index]; }

  std::size_t total_bytes() const { return total_bytes_; }
  std::size_t registered_bytes() const { return registered_bytes_; }
  /// How often take() refused.
  std::uint64_t refusals() const { return refusals_; }

 private:
  friend class IoBuffer;
  struct Free {
    void operator()(std::byte* memory) const;
  };

  std::vector<IoBufferClass> classes_;
  std::size_t total_bytes_ = 0;
  std::size_t registered_bytes_ = 0;
  std::unique_ptr<std::byte, Free> memory_;

  std::vector<std::vector<std::byte*>> free_;  // by class
  std::uint64_t refusals_ = 0;
};

}  // namespace millrace
