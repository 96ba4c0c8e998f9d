// The way from base/hash.hpp to the vector code of the xxHash library; nobody else calls this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::detail {

/// Up to here the inlined functions are faster than a call.
inline constexpr std::size_t hash_short_bytes_max = 240;

struct HashWords {
  std::uint64_t low;
  std::uint64_t high;
};

std::uint64_t hash64_long(const void* data, std::size_t length, std::uint64_t seed);
HashWords hash128_long(const void* data, std::size_t length);

}  // namespace millrace::detail
