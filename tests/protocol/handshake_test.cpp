#include "protocol/handshake.hpp"

#include <gtest/gtest.h>

#include "tests/protocol/frames.hpp"

namespace millrace::wire {
namespace {

FrameOutput encoded(const Hello& hello) {
  FrameOutput output;
  encode(output, hello);
  return output;
}

Hello usual() {
  Hello hello;
  hello.request_id = 3;
  hello.shard = ShardIndex{2};
  hello.client_name = "café";
  return hello;
}

TEST(Handshake, HelloRoundTrip) {
  FrameOutput bytes = encoded(usual());
  auto back = decode_hello(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->request_id, 3u);
  EXPECT_EQ(back->shard, ShardIndex{2});
  EXPECT_EQ(back->client_name, "café");
  EXPECT_EQ(back->features, 0u);
  EXPECT_EQ(back->identity_kind, IdentityKind::none);
}

TEST(Handshake, AnyShardIsTheDefault) {
  FrameOutput bytes = encoded(Hello{});
  EXPECT_EQ(decode_hello(frame_in(bytes))->shard, any_shard);
}

Error refusal(const Hello& hello) {
  FrameOutput bytes = encoded(hello);
  auto got = decode_hello(frame_in(bytes));
  return got ? Error::internal : got.error();
}

TEST(Handshake, HelloRefusals) {
  Hello hello = usual();
  hello.oldest_version = 2;
  EXPECT_EQ(refusal(hello), Error::unsupported_version);
  hello = usual();
  hello.features = 1ull << 40;
  EXPECT_EQ(refusal(hello), Error::unsupported_version);
  hello = usual();
  hello.identity_kind = static_cast<IdentityKind>(7);
  hello.identity = "token";
  EXPECT_EQ(refusal(hello), Error::unsupported_version);
  hello = usual();
  hello.client_name = std::string(256, 'x');
  EXPECT_EQ(refusal(hello), Error::invalid_argument);
  hello = usual();
  hello.client_name = "line\nbreak";
  EXPECT_EQ(refusal(hello), Error::invalid_argument);
  hello = usual();
  hello.identity = "bytes without a kind";
  EXPECT_EQ(refusal(hello), Error::invalid_argument);
}

TEST(Handshake, HelloWithLyingLengths) {
  FrameOutput good = encoded(usual());
  Bytes body = frame_in(good).body;
  for (std::size_t cut = 0; cut < body.size(); cut++) {
    FrameOutput bytes;
    FrameHeader header = frame_in(good).header;
    put_frame(bytes, header, body.first(cut));
    auto got = decode_hello(frame_in(bytes));
    ASSERT_FALSE(got) << cut;
    EXPECT_EQ(got.error(), Error::bad_frame) << cut;
  }
}

TEST(Handshake, WelcomeRoundTrip) {
  Welcome welcome;
  welcome.request_id = 8;
  welcome.shard = ShardIndex{3};
  welcome.shard_count = 5;
  welcome.cluster_id = {1, 2};
  welcome.log_id = {3, 4};
  welcome.append_granted = 123456789;
  welcome.wall_time = 99;
  welcome.day_offset_seconds = -3600;
  welcome.server = "millrace 0.1.0";
  FrameOutput bytes;
  encode(bytes, welcome);
  auto back = decode_welcome(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->shard, ShardIndex{3});
  EXPECT_EQ(back->shard_count, 5u);
  EXPECT_EQ(back->cluster_id, (Id128{1, 2}));
  EXPECT_EQ(back->log_id, (Id128{3, 4}));
  EXPECT_EQ(back->append_granted, 123456789u);
  EXPECT_EQ(back->batch_bytes_max, millrace::batch_bytes_max);
  EXPECT_EQ(back->frame_bytes_max, millrace::frame_bytes_max);
  EXPECT_EQ(back->producer_window, 64u);
  EXPECT_EQ(back->read_credit_max, read_credit_bytes_max);
  EXPECT_EQ(back->wall_time, 99);
  EXPECT_EQ(back->day_offset_seconds, -3600);
  EXPECT_EQ(back->server, "millrace 0.1.0");
}

TEST(Handshake, WelcomeThatMakesNoSense) {
  auto refusal_of = [](Welcome welcome) {
    FrameOutput bytes;
    encode(bytes, welcome);
    auto got = decode_welcome(frame_in(bytes));
    return got ? Error::internal : got.error();
  };
  Welcome welcome;
  welcome.shard = ShardIndex{1};
  EXPECT_EQ(refusal_of(welcome), Error::bad_frame);
  welcome = {};
  welcome.version = 2;
  EXPECT_EQ(refusal_of(welcome), Error::unsupported_version);
  welcome = {};
  welcome.features = 4;
  EXPECT_EQ(refusal_of(welcome), Error::unsupported_version);
  welcome = {};
  welcome.append_window = 1;
  EXPECT_EQ(refusal_of(welcome), Error::bad_frame);
}

}  // namespace
}  // namespace millrace::wire
