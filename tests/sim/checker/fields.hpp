// Little-endian fields at offsets of the format pages: the checker's own, so that a wrong struct in the server is seen.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace millrace::checker {

using Bytes = std::span<const std::byte>;

template <class T>
T field(Bytes bytes, std::size_t at) {
  T value{};
  if (at + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

inline std::uint32_t u32(Bytes bytes, std::size_t at) { return field<std::uint32_t>(bytes, at); }
inline std::uint64_t u64(Bytes bytes, std::size_t at) { return field<std::uint64_t>(bytes, at); }

inline bool zeros(Bytes bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

inline std::uint64_t hash(Bytes bytes, std::uint64_t seed = 0) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

/// Hash of `bytes` with the listed 8-byte fields read as zero.
inline std::uint64_t hash_without(Bytes bytes, std::initializer_list<std::size_t> fields, std::uint64_t seed = 0) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  for (std::size_t at : fields)
    if (at + 8 <= copy.size()) std::memset(copy.data() + at, 0, 8);
  return hash(copy, seed);
}

inline std::uint32_t magic(const char (&text)[5]) {
  std::uint32_t value;
  std::memcpy(&value, text, 4);
  return value;
}

inline std::uint64_t up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

inline std::string hex(std::uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace millrace::checker
