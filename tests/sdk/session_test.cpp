#include "sdk/core/session.hpp"

#include <gtest/gtest.h>

#include "tests/sdk/link.hpp"

namespace millrace::test {
namespace {

constexpr Nanos second = 1'000'000'000;

TEST(Session, GreetsAndKeepsTheShard) {
  Link link;
  link.settle();
  EXPECT_TRUE(link.session.up());
  EXPECT_EQ(link.session.welcome().shard_count, 1u);
  EXPECT_EQ(link.session.attempt(), 1u);
}

TEST(Session, WaitsLongerEachTime) {
  Link link;
  link.reachable = false;
  link.settle();
  Nanos last = 0;
  for (int i = 0; i < 6; ++i) {
    const Nanos wait = link.session.deadline() - link.now;
    EXPECT_GE(wait, last);
    last = wait;
    link.pass(wait);
  }
  for (int i = 0; i < 10; ++i) link.pass(link.session.deadline() - link.now);
  EXPECT_LE(link.session.deadline() - link.now, 5 * second / 4);
  link.reachable = true;
  link.pass(2 * second);
  EXPECT_TRUE(link.session.up());
}

TEST(Session, ARefusalThatWillNotChangeIsFinal) {
  Link link;
  link.server.refuse_hello = Error::permission_denied;
  link.settle();
  EXPECT_EQ(link.session.failure(), Error::permission_denied);
  EXPECT_FALSE(link.session.wants_connection());
  link.pass(100 * second);
  EXPECT_EQ(link.session.attempt(), 1u);
}

TEST(Session, AServerThatStartsIsTriedAgain) {
  Link link;
  link.server.refuse_hello = Error::not_ready;
  link.settle();
  EXPECT_FALSE(link.session.up());
  EXPECT_FALSE(link.session.failure().has_value());
  link.server.refuse_hello.reset();
  link.pass(second);
  EXPECT_TRUE(link.session.up());
}

TEST(Session, PingsASilentServerAndLeavesADeadOne) {
  Link link;
  link.settle();
  for (int i = 0; i < 10; ++i) link.pass(5 * second);  // pongs come
  EXPECT_EQ(link.session.attempt(), 1u);
  // Nothing is delivered any more: advance alone.
  link.session.advance(link.now + 5 * second);
  EXPECT_TRUE(link.session.up());
  link.session.advance(link.now + 16 * second);
  EXPECT_FALSE(link.session.up());
  EXPECT_EQ(link.session.last_error(), Error::timed_out);
}

TEST(Session, GarbageEndsTheConnection) {
  Link link;
  link.settle();
  std::vector<std::byte> garbage(64, std::byte{0x5a});
  link.session.received(garbage, link.now);
  EXPECT_FALSE(link.session.wants_connection());
  EXPECT_EQ(link.session.last_error(), Error::bad_frame);
  link.pass(second);
  EXPECT_TRUE(link.session.up());
}

}  // namespace
}  // namespace millrace::test
