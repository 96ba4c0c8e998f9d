#include "base/hash_long.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/hash.hpp"

namespace millrace {
namespace {

/// Files are read on other machines: every vector width must give what the plain code gives.
TEST(HashLong, IsTheSameAsThePlainCodeAtEveryLength) {
  std::vector<std::byte> bytes(70'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  for (std::size_t length = 0; length < bytes.size(); length += length < 3'000 ? 1 : 997) {
    const XXH128_hash_t plain = XXH3_128bits(bytes.data(), length);
    ASSERT_EQ(hash128(Bytes(bytes).first(length)), (Hash128{plain.low64, plain.high64})) << length;
    ASSERT_EQ(hash64(Bytes(bytes).first(length), 77), XXH3_64bits_withSeed(bytes.data(), length, 77)) << length;
  }
}

}  // namespace
}  // namespace millrace
