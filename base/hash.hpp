// XXH3 is the only hash: 64 bits for headers, chains and names, 128 for bodies. It detects accidents, not attackers.
#pragma once

#include <xxhash.h>

#include <string_view>

#include "base/bytes.hpp"
#include "base/hash_long.hpp"
#include "base/units.hpp"

namespace millrace {

inline std::uint64_t hash64(Bytes bytes, std::uint64_t seed = 0) {
  if (bytes.size() > detail::hash_short_bytes_max) return detail::hash64_long(bytes.data(), bytes.size(), seed);
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

struct Hash128 {
  std::uint64_t low{};
  std::uint64_t high{};
  constexpr bool operator==(const Hash128&) const = default;
};

inline Hash128 hash128(Bytes bytes) {
  if (bytes.size() > detail::hash_short_bytes_max) {
    const detail::HashWords h = detail::hash128_long(bytes.data(), bytes.size());
    return {h.low, h.high};
  }
  XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return {h.low64, h.high64};
}

/// The id of a stream is the hash of its name, so every node and client computes the same one.
inline StreamId stream_id_of(std::string_view name) { return StreamId{hash64(bytes_of(name))}; }

}  // namespace millrace
