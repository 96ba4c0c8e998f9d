#include "protocol/frame.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/protocol/frames.hpp"

namespace millrace {
namespace {

TEST(Frame, HeaderSurvivesTheWire) {
  FrameHeader header{.type = FrameType::open_stream, .flags = 1, .request_id = 42};
  header.words = {1, 2, 3, 4};
  FrameOutput output;
  put_frame(output, header, bytes_of(std::string("demo")));
  ASSERT_EQ(output.size(), 64u + 16u);
  auto back = read_frame_header(output, frame_bytes_max);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->type, FrameType::open_stream);
  EXPECT_EQ(back->flags, 1);
  EXPECT_EQ(back->request_id, 42u);
  EXPECT_EQ(back->body_bytes, 4u);
  EXPECT_EQ(back->words, (std::array<std::uint64_t, 4>{1, 2, 3, 4}));
  EXPECT_TRUE(all_zero(Bytes(output).subspan(68)));
}

TEST(Frame, LayoutIsThatOfTheFormatPage) {
  FrameHeader header{.type = FrameType::welcome, .flags = 0x0102, .request_id = 0x1122334455667788, .body_bytes = 7};
  header.words = {10, 20, 30, 40};
  std::vector<std::byte> bytes(64);
  write_frame_header(bytes, header);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), 4), "MRW1");
  EXPECT_EQ(load<std::uint8_t>(bytes, 4), 1);
  EXPECT_EQ(load<std::uint8_t>(bytes, 5), 129);
  EXPECT_EQ(load<std::uint16_t>(bytes, 6), 0x0102);
  EXPECT_EQ(load<std::uint64_t>(bytes, 16), 0x1122334455667788u);
  EXPECT_EQ(load<std::uint32_t>(bytes, 24), 7u);
  EXPECT_EQ(load<std::uint32_t>(bytes, 28), 0u);
  EXPECT_EQ(load<std::uint64_t>(bytes, 56), 40u);
  auto zeroed = bytes;
  store<std::uint64_t>(zeroed, 8, 0);
  EXPECT_EQ(load<std::uint64_t>(bytes, 8), XXH3_64bits(zeroed.data(), 64));
}

TEST(Frame, EveryFlippedBitOfAHeaderIsSeen) {
  FrameOutput output;
  put_frame(output, FrameHeader{.type = FrameType::ping, .request_id = 9});
  for (std::size_t bit = 0; bit < 64 * 8; bit++) {
    FrameOutput bad = output;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    auto header = read_frame_header(bad, frame_bytes_max);
    ASSERT_FALSE(header) << "bit " << bit;
    EXPECT_EQ(header.error(), Error::bad_frame) << "bit " << bit;
  }
}

TEST(Frame, RefusesWhatIsSealedButWrong) {
  auto refusal = [](FrameHeader header) {
    auto got = read_frame_header(sealed(header), frame_bytes_max);
    return got ? std::optional<Error>() : got.error();
  };
  EXPECT_EQ(refusal({.type = FrameType::ping}), std::nullopt);
  EXPECT_EQ(refusal({.type = static_cast<FrameType>(0)}), Error::bad_frame);
  EXPECT_EQ(refusal({.type = static_cast<FrameType>(77)}), Error::bad_frame);
  EXPECT_EQ(refusal({.type = static_cast<FrameType>(160)}), Error::bad_frame);
  EXPECT_EQ(refusal({.version = 2, .type = FrameType::ping}), Error::unsupported_version);
  EXPECT_EQ(refusal({.type = FrameType::ping, .reserved = 1}), Error::bad_frame);
  EXPECT_EQ(refusal({.type = FrameType::append, .body_bytes = 0xffff'ffff}), Error::too_large);
  std::uint32_t largest = frame_bytes_max - frame_header_bytes;
  EXPECT_EQ(refusal({.type = FrameType::append, .body_bytes = largest}), std::nullopt);
  EXPECT_EQ(refusal({.type = FrameType::append, .body_bytes = largest + 1}), Error::too_large);
}

TEST(Frame, NamesAreThoseOfTheTypes) {
  int named = 0;
  for (int number = 0; number < 256; number++) {
    auto type = static_cast<FrameType>(number);
    EXPECT_EQ(frame_type_name(type) != "unknown", is_frame_type(static_cast<std::uint8_t>(number))) << number;
    if (frame_type_name(type) != "unknown") named++;
  }
  EXPECT_EQ(named, 34);
}

}  // namespace
}  // namespace millrace
