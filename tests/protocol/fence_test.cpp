#include "protocol/fence.hpp"

#include <gtest/gtest.h>

#include "tests/protocol/frames.hpp"

namespace millrace {
namespace {

TEST(Fence, WhatIsAskedComesBackAsItWent) {
  for (bool ask_only : {false, true}) {
    for (bool leads : {false, true}) {
      FrameOutput output;
      encode(output, wire::Fence{7, Epoch{std::uint64_t{3} << 32}, ask_only, leads, "10.0.0.2:7070"});
      auto got = wire::decode_fence(frame_in(output));
      ASSERT_TRUE(got);
      EXPECT_EQ(got->request_id, 7u);
      EXPECT_EQ(got->epoch, Epoch{std::uint64_t{3} << 32});
      EXPECT_EQ(got->ask_only, ask_only);
      EXPECT_EQ(got->leads, leads);
      EXPECT_EQ(got->leader, "10.0.0.2:7070");
    }
  }
  FrameOutput output;
  encode(output, wire::Promote{8, false, true});
  auto order = wire::decode_promote(frame_in(output));
  ASSERT_TRUE(order);
  EXPECT_TRUE(order->accept_loss && !order->ask_only && order->request_id == 8);
}

TEST(Fence, WhatIsAnsweredComesBackAsItWent) {
  FrameOutput output;
  encode(output, wire::Fenced{7, true, Epoch{9}, Lsn{10}, Chain{11}, Lsn{12}});
  auto fenced = wire::decode_fenced(frame_in(output));
  ASSERT_TRUE(fenced);
  EXPECT_TRUE(fenced->granted);
  EXPECT_EQ(fenced->epoch, Epoch{9});
  EXPECT_EQ(fenced->next, Lsn{10});
  EXPECT_EQ(fenced->chain, Chain{11});
  EXPECT_EQ(fenced->durable, Lsn{12});
  output.clear();
  encode(output, wire::Promoted{8, true, false, Epoch{5}, Lsn{6}, "something is lost"});
  auto promoted = wire::decode_promoted(frame_in(output));
  ASSERT_TRUE(promoted);
  EXPECT_TRUE(promoted->leads && !promoted->safe);
  EXPECT_EQ(promoted->epoch, Epoch{5});
  EXPECT_EQ(promoted->next, Lsn{6});
  EXPECT_EQ(promoted->text, "something is lost");
}

TEST(Fence, OtherShapesAreRefused) {
  FrameOutput output;
  encode(output, wire::Fence{7, Epoch{1}, false, false, "a:1"});
  Frame frame = frame_in(output);
  EXPECT_FALSE(wire::decode_fenced(frame));
  EXPECT_FALSE(wire::decode_promote(frame));
  frame.header.words[2] = 1;
  EXPECT_FALSE(wire::decode_fence(frame));
  frame.header.words[2] = 0;
  frame.header.flags = 4;
  EXPECT_FALSE(wire::decode_fence(frame));
  frame.header.flags = 0;
  const std::vector<std::byte> long_text(wire::leader_text_max + 1);
  frame.body = long_text;
  EXPECT_FALSE(wire::decode_fence(frame));
}

}  // namespace
}  // namespace millrace
