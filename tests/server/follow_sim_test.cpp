// A leader and its follower in the simulated world: kills and power cuts of either while a client appends, and after each
// the same bytes.
#include "tests/server/follow_fixture.hpp"

namespace millrace::test {
namespace {

TEST_F(FollowTest, AFollowerHoldsTheSameBytes) {
  start_both();
  begin_load();
  ASSERT_TRUE(world.run_for(3 * nanos_per_second));
  end_load();
  expect_same("after 3 s");
  EXPECT_GT(shard_of(following)->log().watermarks().durable, Lsn{300});
}

TEST_F(FollowTest, ADayThatEndsIsCompleteOnBoth) {
  start_both();
  begin_load();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  for (SimProcess** process : {&leading, &following}) world.kill(**process);
  for (SimNode* node : {&leader, &copy}) world.jump_wall(*node, 24 * 3600 * nanos_per_second);
  start_both();
  ASSERT_TRUE(world.run_for(2 * nanos_per_second));
  end_load();
  expect_same("after the day");
  std::size_t finished = 0;
  for (auto& [path, bytes] : log_of(copy)) finished += path.ends_with("/finish");
  EXPECT_EQ(finished, 1u);
}

// The leader goes on in the segment before: what the follower's index and state said of its end would be wrong.
class FollowLossTest : public FollowTest, public ::testing::WithParamInterface<int> {
 protected:
  FollowLossTest() : FollowTest(static_cast<std::uint64_t>(GetParam())) {}
};

TEST_P(FollowLossTest, ASegmentThatTheLeaderLostIsGoneOnIn) {
  start_both();
  begin_load(6);
  std::uint32_t lost = 0;
  for (int round = 0; round < 60 && lost < 4; round++) {
    const std::uint32_t number = shard_of(leading)->log().source().newest_segment().value_or(SegmentKey{}).number;
    // The follower has bytes of a segment that its leader has not.
    auto ahead = [&] {
      Shard* from = shard_of(leading);
      Shard* to = shard_of(following);
      if (from == nullptr || to == nullptr || !from->log().source().newest_segment()) return false;
      const CopyEnd end = to->log().copy().end();
      return end.begun && end.key.number > number && end.next_lsn > end.first_lsn &&
             from->log().watermarks().durable <= end.first_lsn;
    };
    if (!world.run_until(ahead, 3 * nanos_per_second)) continue;
    ++lost;
    world.power_cut(leader, sim::CutProfile::all_old);
    ASSERT_TRUE(world.run_for(200 * milli));
    leading = &serve(leader);
    // A client would wait for long: nobody tells it that the connection is gone.
    end_load();
    begin_load(6);
    ASSERT_TRUE(world.run_until([&] { return level() || shard_of(leading) != nullptr; }, patience));
    ASSERT_TRUE(world.run_for(static_cast<Nanos>(world.stream("after", lost).next() % (400 * milli))));
    if (lost % 2 == 0) continue;
    world.power_cut(copy, sim::CutProfile::uniform);
    following = &serve(copy);
    ASSERT_TRUE(world.run_until([&] { return shard_of(following) != nullptr; }, patience)) << told();
  }
  EXPECT_EQ(lost, 4u);
  end_load();
  expect_same("with segments lost");
  world.kill(*following);
  following = &serve(copy);
  ASSERT_TRUE(world.run_until([&] { return shard_of(following) != nullptr; }, patience));
  expect_same("opened again");
  EXPECT_TRUE(said.errors.empty()) << said.errors.back();
}

// In 1 and 2 the copy is opened, and takes the segment for closed, before it learns that the next one's beginning was lost.
INSTANTIATE_TEST_SUITE_P(Seeds, FollowLossTest, ::testing::Range(1, 3));

class FollowCrashTest : public FollowTest, public ::testing::WithParamInterface<int> {
 protected:
  FollowCrashTest() : FollowTest(static_cast<std::uint64_t>(GetParam())) {}
};

TEST_P(FollowCrashTest, WhateverCrashesTheyComeToTheSameBytes) {
  Random dice = world.stream("crashes");
  start_both();
  begin_load();
  for (int round = 0; round < 10; round++) {
    ASSERT_TRUE(world.run_for(static_cast<Nanos>(dice.next() % (700 * milli))));
    const bool of_leader = dice.next() % 2 == 0;
    SimNode& node = of_leader ? leader : copy;
    SimProcess*& process = of_leader ? leading : following;
    const auto how = dice.next() % 3;
    if (how == 0) world.kill(*process);
    else world.power_cut(node, how == 1 ? sim::CutProfile::uniform : sim::CutProfile::all_old);
    ASSERT_TRUE(world.run_for(static_cast<Nanos>(dice.next() % (300 * milli))));
    process = &serve(node);
    const bool open = world.run_until([&] { return shard_of(process) != nullptr || !process->running(); }, patience);
    ASSERT_TRUE(open && process->running())
        << "round " << round << ": " << (said.errors.empty() ? "" : said.errors.back());
    if (dice.next() % 3 != 0) continue;
    ASSERT_TRUE(world.run_until(
        [&] { return shard_of(following) != nullptr && shard_of(following)->follower()->state().connected; }, patience))
        << "round " << round << told();
  }
  end_load();
  expect_same("seed " + std::to_string(GetParam()));
  EXPECT_TRUE(said.errors.empty()) << said.errors.back();
}

INSTANTIATE_TEST_SUITE_P(Seeds, FollowCrashTest, ::testing::Range(1, 9));

}  // namespace
}  // namespace millrace::test
