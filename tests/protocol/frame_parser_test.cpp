#include "protocol/frame_parser.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "tests/protocol/frames.hpp"

namespace millrace {
namespace {

struct Seen {
  std::uint64_t request_id;
  std::string body;
  bool operator==(const Seen&) const = default;
};

std::string body_of(std::size_t bytes) {
  std::string body(bytes, 0);
  for (std::size_t i = 0; i < bytes; i++) body[i] = static_cast<char>(i * 31 + bytes);
  return body;
}

FrameOutput stream_of(std::span<const std::size_t> bodies) {
  FrameOutput output;
  std::uint64_t id = 1;
  for (std::size_t bytes : bodies)
    put_frame(output, FrameHeader{.type = FrameType::append, .request_id = id++}, bytes_of(body_of(bytes)));
  return output;
}

/// Takes every frame out of one piece; false = an error.
bool drain(FrameParser& parser, Bytes piece, std::vector<Seen>& seen) {
  while (true) {
    auto frame = parser.next(piece);
    if (!frame) return false;
    if (!*frame) {
      EXPECT_TRUE(piece.empty());
      return true;
    }
    Bytes body = (*frame)->body;
    EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(body.data()), 16) || body.empty());
    seen.push_back({(*frame)->header.request_id, {reinterpret_cast<const char*>(body.data()), body.size()}});
  }
}

std::vector<Seen> expected(std::span<const std::size_t> bodies) {
  std::vector<Seen> all;
  for (std::size_t i = 0; i < bodies.size(); i++) all.push_back({i + 1, body_of(bodies[i])});
  return all;
}

/// Receives the stream in pieces into memory of its own as a busy connection does; false = an error or a standstill.
bool receive_held(FrameParser& parser, Bytes stream, std::mt19937_64& random, std::size_t held_bytes,
                  std::vector<Seen>& seen) {
  std::vector<std::byte> storage(held_bytes + 16);
  MutableBytes held(storage.data() + -reinterpret_cast<std::uintptr_t>(storage.data()) % 16, held_bytes);
  std::size_t filled = 0;
  while (!stream.empty()) {
    MutableBytes target = parser.missing();
    const bool assembling = !target.empty();
    if (!assembling) target = held.subspan(filled);
    if (target.empty()) return false;
    const std::size_t count = std::min({std::size_t{1} + random() % 200, target.size(), stream.size()});
    std::copy_n(stream.data(), count, target.data());
    stream = stream.subspan(count);
    if (assembling) parser.received(count);
    else filled += count;
    Bytes input = held.first(filled);
    while (true) {
      auto frame = parser.next_held(input, held.size());
      if (!frame) return false;
      if (!*frame) break;
      Bytes body = (*frame)->body;
      EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(body.data()), 16) || body.empty());
      seen.push_back({(*frame)->header.request_id, {reinterpret_cast<const char*>(body.data()), body.size()}});
    }
    std::copy(input.begin(), input.end(), held.begin());
    filled = input.size();
  }
  return filled == 0 && parser.idle();
}

TEST(FrameParser, HeldInputIsHandedOutInPlaceAndLargerFramesAreAssembled) {
  for (std::uint64_t seed = 1; seed <= 200; seed++) {
    std::mt19937_64 random(seed);
    std::vector<std::size_t> bodies;
    for (int i = 0; i < 20; i++) bodies.push_back(random() % (i % 5 == 0 ? 3000 : 300));
    CountingMemory memory;
    FrameParser parser(memory);
    std::vector<Seen> seen;
    const std::size_t held = 448 + 16 * (random() % 8);
    ASSERT_TRUE(receive_held(parser, stream_of(bodies), random, held, seen)) << "seed " << seed;
    ASSERT_EQ(seen, expected(bodies)) << "seed " << seed;
    const auto larger =
        std::count_if(bodies.begin(), bodies.end(), [&](std::size_t n) { return frame_span(n) > held; });
    EXPECT_EQ(memory.takes, larger) << "only what cannot be held takes memory; seed " << seed;
  }
}

TEST(FrameParser, AnotherProtocolIsRefusedByItsFirstBytes) {
  constexpr std::byte hello[] = {std::byte{'M'}, std::byte{'R'}, std::byte{'W'}, std::byte{'1'}};
  for (std::size_t good = 0; good < sizeof hello; good++) {
    for (const bool held : {false, true}) {
      HeapFrameMemory memory;
      FrameParser parser(memory);
      std::vector<std::byte> bytes(hello, hello + good);
      Bytes input(bytes);
      const auto part = held ? parser.next_held(input, 4096) : parser.next(input);
      EXPECT_TRUE(part && !*part) << good;
      if (held) bytes.push_back(std::byte{'x'});
      else bytes.assign(1, std::byte{'x'});
      input = bytes;
      const auto wrong = held ? parser.next_held(input, 4096) : parser.next(input);
      EXPECT_FALSE(wrong) << good;
      EXPECT_EQ(wrong ? Error{} : wrong.error(), Error::bad_frame);
    }
  }
}

TEST(FrameParser, TwoPiecesAtEverySplit) {
  constexpr std::size_t bodies[] = {0, 1, 16, 100, 0, 33};
  FrameOutput stream = stream_of(bodies);
  for (std::size_t cut = 0; cut <= stream.size(); cut++) {
    CountingMemory memory;
    FrameParser parser(memory);
    std::vector<Seen> seen;
    FrameOutput first(stream.begin(), stream.begin() + cut), second(stream.begin() + cut, stream.end());
    ASSERT_TRUE(drain(parser, first, seen)) << cut;
    ASSERT_TRUE(drain(parser, second, seen)) << cut;
    EXPECT_EQ(seen, expected(bodies)) << cut;
    EXPECT_TRUE(parser.idle());
  }
}

TEST(FrameParser, EveryPieceSize) {
  constexpr std::size_t bodies[] = {5, 0, 70, 1000, 16, 15, 17};
  FrameOutput stream = stream_of(bodies);
  for (std::size_t size = 1; size <= stream.size(); size++) {
    CountingMemory memory;
    FrameParser parser(memory);
    std::vector<Seen> seen;
    for (std::size_t at = 0; at < stream.size(); at += size)
      ASSERT_TRUE(drain(parser, Bytes(stream).subspan(at, std::min(size, stream.size() - at)), seen));
    EXPECT_EQ(seen, expected(bodies)) << size;
  }
}

TEST(FrameParser, WholeAlignedFramesAreNotCopied) {
  constexpr std::size_t bodies[] = {100, 200, 300};
  FrameOutput stream = stream_of(bodies);
  CountingMemory memory;
  FrameParser parser(memory);
  std::vector<Seen> seen;
  ASSERT_TRUE(drain(parser, stream, seen));
  EXPECT_EQ(seen, expected(bodies));
  EXPECT_EQ(memory.takes, 0);
}

TEST(FrameParser, TheRestOfALargeBodyIsReceivedInPlace) {
  constexpr std::size_t bodies[] = {100'000, 50};
  FrameOutput stream = stream_of(bodies);
  CountingMemory memory;
  FrameParser parser(memory);
  std::vector<Seen> seen;
  ASSERT_TRUE(drain(parser, Bytes(stream).first(1000), seen));
  std::size_t at = 1000;
  while (!parser.missing().empty()) {
    MutableBytes target = parser.missing();
    std::size_t piece = std::min<std::size_t>(target.size(), 7777);
    std::copy_n(stream.begin() + at, piece, target.begin());
    parser.received(piece);
    at += piece;
  }
  EXPECT_EQ(at, frame_span(100'000));
  ASSERT_TRUE(drain(parser, {}, seen));
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(parser.missing().empty());
  ASSERT_TRUE(drain(parser, Bytes(stream).subspan(at), seen));
  EXPECT_EQ(seen, expected(bodies));
}

TEST(FrameParser, ALieAboutTheLengthAllocatesNothing) {
  for (std::uint32_t claim : {0xffff'ffffu, 0x8000'0000u, static_cast<std::uint32_t>(frame_bytes_max)}) {
    CountingMemory memory;
    FrameParser parser(memory);
    auto bytes = sealed({.type = FrameType::append, .body_bytes = claim});
    std::vector<Seen> seen;
    Bytes input = bytes;
    auto got = parser.next(input);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error(), Error::too_large);
    EXPECT_EQ(memory.takes, 0);
  }
}

TEST(FrameParser, StaysFailed) {
  CountingMemory memory;
  FrameParser parser(memory);
  std::string garbage = "GET / HTTP/1.1\r\nHost: example\r\nAccept: text/html, application/xhtml+xml\r\n\r\n";
  Bytes input = bytes_of(garbage);
  auto got = parser.next(input);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error(), Error::bad_frame);
  FrameOutput good = stream_of(std::array<std::size_t, 1>{10});
  Bytes more = good;
  auto again = parser.next(more);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), Error::bad_frame);
}

TEST(FrameParser, NonZeroPaddingIsRefusedWholeAndSplit) {
  FrameOutput stream = stream_of(std::array<std::size_t, 1>{10});
  stream.back() = std::byte{1};
  for (std::size_t cut : {std::size_t{0}, std::size_t{70}}) {
    CountingMemory memory;
    FrameParser parser(memory);
    std::vector<Seen> seen;
    FrameOutput first(stream.begin(), stream.begin() + cut), second(stream.begin() + cut, stream.end());
    bool sound = drain(parser, first, seen) && drain(parser, second, seen);
    EXPECT_FALSE(sound);
    EXPECT_TRUE(seen.empty());
  }
}

TEST(FrameParser, WaitsForMemory) {
  constexpr std::size_t bodies[] = {500, 20};
  FrameOutput stream = stream_of(bodies);
  CountingMemory memory;
  memory.refusals = 3;
  FrameParser parser(memory);
  Bytes rest = Bytes(stream).first(300);
  for (int i = 0; i < 3; i++) {
    auto got = parser.next(rest);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error(), Error::would_block);
  }
  std::vector<Seen> seen;
  ASSERT_TRUE(drain(parser, rest, seen));
  ASSERT_TRUE(drain(parser, Bytes(stream).subspan(300), seen));
  EXPECT_EQ(seen, expected(bodies));
}

TEST(FrameParser, TheLimitMovesWithTheHandshake) {
  CountingMemory memory;
  FrameParser parser(memory, hello_frame_bytes_max);
  FrameOutput small = stream_of(std::array<std::size_t, 1>{hello_frame_bytes_max - frame_header_bytes});
  std::vector<Seen> seen;
  EXPECT_TRUE(drain(parser, small, seen));
  parser.set_bytes_max(frame_bytes_max);
  FrameOutput large = stream_of(std::array<std::size_t, 1>{hello_frame_bytes_max});
  EXPECT_TRUE(drain(parser, large, seen));
  parser.set_bytes_max(hello_frame_bytes_max);
  EXPECT_FALSE(drain(parser, large, seen));
}

TEST(FrameParser, RandomPiecesAndSizes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; round++) {
    std::vector<std::size_t> bodies(1 + random() % 20);
    for (auto& bytes : bodies) bytes = random() % (random() % 4 == 0 ? 20'000 : 300);
    FrameOutput stream = stream_of(bodies);
    CountingMemory memory;
    FrameParser parser(memory);
    std::vector<Seen> seen;
    for (std::size_t at = 0; at < stream.size();) {
      std::size_t piece = std::min<std::size_t>(1 + random() % 5000, stream.size() - at);
      ASSERT_TRUE(drain(parser, Bytes(stream).subspan(at, piece), seen));
      at += piece;
    }
    ASSERT_EQ(seen, expected(bodies));
  }
}

}  // namespace
}  // namespace millrace
