// Little-endian integers in byte ranges, and alignment. Everything on disk and on the wire is little-endian.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/assert.hpp"

namespace millrace {

static_assert(std::endian::native == std::endian::little, "formats are read in place: little-endian machines only");

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

template <class T>
  requires std::is_trivially_copyable_v<T>
T load(Bytes source, std::size_t at = 0) {
  MR_ASSERT(at <= source.size() && sizeof(T) <= source.size() - at);
  T value;
  std::memcpy(&value, source.data() + at, sizeof(T));
  return value;
}

template <class T>
  requires std::is_trivially_copyable_v<T>
void store(MutableBytes target, std::size_t at, const T& value) {
  MR_ASSERT(at <= target.size() && sizeof(T) <= target.size() - at);
  std::memcpy(target.data() + at, &value, sizeof(T));
}

/// `alignment` is a power of two.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) { return value & ~(alignment - 1); }
constexpr bool is_aligned(std::uint64_t value, std::uint64_t alignment) { return (value & (alignment - 1)) == 0; }

/// True when every byte is zero.
inline bool all_zero(Bytes bytes) {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

inline Bytes as_bytes(const void* data, std::size_t length) { return {static_cast<const std::byte*>(data), length}; }
template <class Text>
Bytes bytes_of(const Text& text) {
  return as_bytes(text.data(), text.size());
}

}  // namespace millrace
