#include "protocol/follow.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/protocol/frames.hpp"

namespace millrace {
namespace {

TEST(Follow, AStatementComesBackAsItWent) {
  wire::Follow sent;
  sent.request_id = 7;
  sent.epoch = Epoch{(std::uint64_t{1} << 32) + 4};
  sent.history_days = 3;
  sent.next_lsn = Lsn{99};
  sent.probe = true;
  sent.statement.log_id = {1, 2};
  sent.statement.segment_id = {3, 4};
  sent.statement.number = 5;
  sent.statement.group_checksum = 0xfeed;
  sent.statement.pending_chain = Chain{12};
  FrameOutput output;
  encode(output, sent);
  auto got = wire::decode_follow(frame_in(output));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->request_id, 7u);
  EXPECT_EQ(got->epoch, sent.epoch);
  EXPECT_EQ(got->history_days, 3u);
  EXPECT_EQ(got->next_lsn, Lsn{99});
  EXPECT_TRUE(got->probe);
  EXPECT_EQ(std::memcmp(&got->statement, &sent.statement, sizeof(sent.statement)), 0);
}

TEST(Follow, AGroupComesWithItsHeaderOnlyWhenItIsClosed) {
  const std::vector<std::byte> header(wire::placed_header_bytes, std::byte{1});
  const std::vector<std::byte> batches(48, std::byte{2});
  for (bool closes : {false, true}) {
    wire::Placed sent;
    sent.closes = closes;
    sent.group = 8192;
    sent.from = 128;
    sent.end = Lsn{5};
    sent.durable = Lsn{4};
    if (closes) sent.header = header;
    sent.batches = batches;
    FrameOutput output;
    encode(output, sent);
    auto got = wire::decode_placed(frame_in(output));
    ASSERT_TRUE(got);
    EXPECT_EQ(got->closes, closes);
    EXPECT_EQ(got->header.size(), closes ? 128u : 0u);
    EXPECT_TRUE(std::ranges::equal(got->batches, batches));
    EXPECT_EQ(got->group, 8192u);
    EXPECT_EQ(got->from, 128u);
    EXPECT_EQ(got->end, Lsn{5});
  }
}

TEST(Follow, TheOthersComeBackAsTheyWent) {
  FrameOutput output;
  encode(output, wire::Durable{2, Lsn{10}, Lsn{9}, Chain{8}});
  auto durable = wire::decode_durable(frame_in(output));
  ASSERT_TRUE(durable && durable->lsn == Lsn{10} && durable->group_lsn == Lsn{9} && durable->group_chain == Chain{8});

  output.clear();
  wire::FollowBegin begin;
  begin.pending_differs = true;
  begin.epoch = Epoch{3};
  begin.offset = 4096;
  begin.identity.segment_bytes = 16 * MiB;
  encode(output, begin);
  auto begun = wire::decode_follow_begin(frame_in(output));
  ASSERT_TRUE(begun && begun->pending_differs && !begun->differs && begun->offset == 4096);
  EXPECT_EQ(begun->identity.segment_bytes, 16 * MiB);

  output.clear();
  const std::array<std::byte, wire::segment_block_bytes> block{};
  encode(output, wire::SegmentBegun{2, Day{20778}, 6, block});
  auto segment = wire::decode_segment(frame_in(output));
  ASSERT_TRUE(segment && segment->day == Day{20778} && segment->number == 6);

  output.clear();
  encode(output, wire::Marks{2, Lsn{4}, Lsn{3}, Chain{2}, -5});
  auto marks = wire::decode_marks(frame_in(output));
  ASSERT_TRUE(marks && marks->durable == Lsn{4} && marks->wall_time == -5);
}

TEST(Follow, WhatIsNotOfTheShapeIsABadFrame) {
  FrameOutput output;
  encode(output, wire::Durable{2, Lsn{10}, Lsn{9}, Chain{8}});
  Frame frame = frame_in(output);
  frame.header.words[3] = 1;
  EXPECT_EQ(wire::decode_durable(frame).error(), Error::bad_frame);
  EXPECT_EQ(wire::decode_follow(frame).error(), Error::bad_frame);
  Frame placed{{.type = FrameType::placed, .flags = 1}, {}};
  EXPECT_EQ(wire::decode_placed(placed).error(), Error::bad_frame) << "closes, and no header";
  placed.header.flags = 0;
  EXPECT_EQ(wire::decode_placed(placed).error(), Error::bad_frame) << "nothing at all";
  Frame segment{{.type = FrameType::segment}, Bytes(output)};
  EXPECT_EQ(wire::decode_segment(segment).error(), Error::bad_frame);
}

}  // namespace
}  // namespace millrace
