#include "base/bytes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/hash.hpp"

namespace millrace::test {

namespace {

TEST(BytesTest, numbers_are_stored_little_endian_at_any_position) {
  std::array<std::byte, 16> memory{};
  store(memory, 3, std::uint32_t{0x11223344});
  EXPECT_EQ(memory[3], std::byte{0x44});
  EXPECT_EQ(memory[6], std::byte{0x11});
  EXPECT_EQ(memory[2], std::byte{0});
  EXPECT_EQ(memory[7], std::byte{0});
  EXPECT_EQ(load<std::uint32_t>(memory, 3), 0x11223344U);
  EXPECT_EQ(load<std::uint16_t>(memory, 3), 0x3344U);
  store(memory, 8, std::uint64_t{0x0102030405060708});
  EXPECT_EQ(load<std::uint64_t>(memory, 8), 0x0102030405060708U);
}

TEST(BytesDeathTest, no_access_past_the_end) {
  std::array<std::byte, 8> memory{};
  EXPECT_EQ(load<std::uint64_t>(memory, 0), 0U);
  EXPECT_DEATH(load<std::uint64_t>(memory, 1), "assertion failed");
  EXPECT_DEATH(load<std::uint8_t>(memory, 8), "assertion failed");
  EXPECT_DEATH(load<std::uint8_t>(memory, static_cast<std::size_t>(-1)), "assertion failed");
  EXPECT_DEATH(store(memory, 5, std::uint32_t{1}), "assertion failed");
}

TEST(BytesTest, alignment) {
  EXPECT_EQ(align_up(0, 4096), 0U);
  EXPECT_EQ(align_up(1, 4096), 4096U);
  EXPECT_EQ(align_up(4096, 4096), 4096U);
  EXPECT_EQ(align_up(4097, 4096), 8192U);
  EXPECT_EQ(align_down(4095, 4096), 0U);
  EXPECT_EQ(align_down(8191, 4096), 4096U);
  EXPECT_TRUE(is_aligned(8192, 4096));
  EXPECT_FALSE(is_aligned(8200, 4096));
  EXPECT_EQ(align_up((std::uint64_t{1} << 40) + 1, 16), (std::uint64_t{1} << 40) + 16);
}

TEST(BytesTest, all_zero_finds_the_one_byte) {
  EXPECT_TRUE(all_zero({}));
  std::vector<std::byte> memory(5000);
  EXPECT_TRUE(all_zero(memory));
  for (std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{2500}, std::size_t{4999}}) {
    memory[at] = std::byte{1};
    EXPECT_FALSE(all_zero(memory)) << at;
    memory[at] = std::byte{0};
  }
}

TEST(HashTest, known_values_keep_files_and_streams_readable) {
  // XXH3 of the empty input, from its specification.
  EXPECT_EQ(hash64({}), 0x2d06800538d394c2U);
  EXPECT_EQ(hash128({}), (Hash128{0x6001c324468d497fU, 0x99aa06d3014798d8U}));
  EXPECT_NE(hash64(bytes_of(std::string("a"))), hash64(bytes_of(std::string("b"))));
  EXPECT_NE(hash64(bytes_of(std::string("a")), 1), hash64(bytes_of(std::string("a")), 2));
  EXPECT_EQ(stream_id_of("orders").value, hash64(bytes_of(std::string("orders"))));
}

}  // namespace

}  // namespace millrace::test
