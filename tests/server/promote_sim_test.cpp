// A follower that takes over, in the simulated world: asked politely or from a leader that is gone, with power cuts of both sides.
#include "protocol/fence.hpp"
#include "server/quorum.hpp"
#include "tests/server/follow_fixture.hpp"

namespace millrace::test {
namespace {

struct Order {
  bool accept_loss = false;
  bool answered = false;
  wire::Promoted promoted;
};

Task<> order_promotion(Reactor& reactor, std::string host, Order& order) {
  (void)reactor.kernel().provide_buffers(16, 64 * KiB);
  WireClient client(reactor);
  auto connecting = client.connect(host, port);
  auto connected = co_await connecting;
  if (!connected) co_return Result<>();
  GREET(wire::any_shard);
  wire::Promote promote;
  promote.request_id = 5;
  promote.accept_loss = order.accept_loss;
  client.send(promote);
  RECEIVE(frame);
  auto promoted = wire::decode_promoted(frame->frame());
  if (promoted) order.promoted = *promoted;
  order.promoted.text = {};
  order.answered = promoted.has_value();
  auto closing = client.close();
  (void)co_await closing;
  co_return Result<>();
}

class PromoteTest : public FollowTest, public ::testing::WithParamInterface<int> {
 protected:
  PromoteTest() : FollowTest(static_cast<std::uint64_t>(GetParam())) {}

  wire::Promoted promote(bool accept_loss) {
    Order order;
    order.accept_loss = accept_loss;
    const std::string host = followed_by->host;
    auto& ordering =
        world.start(clients, 1, sim::CoroutineProgram::factory([host, &order](Reactor& reactor, std::size_t) {
                      return order_promotion(reactor, host, order);
                    }));
    EXPECT_TRUE(world.run_until([&] { return order.answered || !ordering.running(); }, patience)) << told();
    EXPECT_TRUE(order.answered) << told();
    if (ordering.running()) world.kill(ordering);
    return order.promoted;
  }
  /// From now on the other one leads, and `old` comes back as its follower.
  void change_places() {
    SimNode* old = followed_by == &copy ? &leader : &copy;
    if (following != nullptr && following->running()) world.kill(*following);
    followed_by = old;
    following = &serve(*old);
    ASSERT_TRUE(world.run_until([&] { return shard_of(following) != nullptr || !following->running(); }, patience));
    ASSERT_TRUE(following->running()) << told();
  }
};

TEST_P(PromoteTest, ALeaderThatAnswersGivesAllItHas) {
  start_both();
  begin_load();
  ASSERT_TRUE(world.run_for(static_cast<Nanos>(world.stream("when").next() % nanos_per_second)));
  const wire::Promoted promoted = promote(false);
  EXPECT_TRUE(promoted.leads && promoted.safe) << told();
  Shard* old = shard_of(leading);
  ASSERT_NE(old, nullptr);
  EXPECT_EQ(old->part(), "deposed");
  EXPECT_EQ(promoted.next, old->log().watermarks().appended) << "something that was appended is not at the new leader";
  ASSERT_TRUE(world.run_for(200 * milli));
  EXPECT_EQ(promoted.next, old->log().watermarks().appended) << "a deposed leader appended";
  end_load();
  std::swap(leading, following);
  if (GetParam() % 2 == 0) {
    // What was decided stays so, whatever the command line says.
    world.power_cut(copy, sim::CutProfile::uniform);
    leading = &serve(copy);
    ASSERT_TRUE(world.run_until([&] { return shard_of(leading) != nullptr; }, patience)) << told();
    EXPECT_EQ(shard_of(leading)->part(), "leader");
  }
  change_places();
  begin_load();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  end_load();
  expect_same("after the promotion");
  EXPECT_GT(shard_of(leading)->log().watermarks().durable, promoted.next);
}

TEST_P(PromoteTest, WhatAnOldLeaderHasAloneIsCutWhenItFollows) {
  start_both();
  begin_load(GetParam() % 3 == 0 ? 6 : 1);
  ASSERT_TRUE(world.run_for(static_cast<Nanos>(world.stream("when").next() % (2 * nanos_per_second))));
  // The leader goes on alone for a while: it acknowledges what nobody else has.
  world.power_cut(copy, sim::CutProfile::uniform);
  ASSERT_TRUE(world.run_for(static_cast<Nanos>(world.stream("alone").next() % (3 * nanos_per_second))));
  world.power_cut(leader, GetParam() % 2 == 0 ? sim::CutProfile::all_old : sim::CutProfile::uniform);
  end_load();
  following = &serve(copy);
  ASSERT_TRUE(world.run_until([&] { return shard_of(following) != nullptr; }, patience)) << told();
  EXPECT_FALSE(promote(false).leads) << "it took over although the leader may have acknowledged more";
  EXPECT_EQ(shard_of(following)->part(), "follower");
  EXPECT_TRUE(promote(true).leads) << told();
  std::swap(leading, following);
  begin_load();  // to the old address: nobody is there
  end_load();
  change_places();
  begin_load();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  end_load();
  expect_same("after the promotion");
}

TEST_P(PromoteTest, ALeaderThatWakesUpAcknowledgesNothing) {
  start_both();
  begin_load();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  world.pause(*leading, 60 * nanos_per_second);
  EXPECT_TRUE(promote(true).leads) << told();
  ASSERT_TRUE(world.run_for(2 * nanos_per_second));
  const std::uint64_t acknowledged = static_cast<ServerProgram&>(leading->program()).cores[0]->counters().acknowledged;
  world.resume(*leading);
  ASSERT_TRUE(world.run_until([&] { return shard_of(leading)->part() == "deposed"; }, patience)) << told();
  ASSERT_TRUE(world.run_for(2 * nanos_per_second));
  EXPECT_EQ(static_cast<ServerProgram&>(leading->program()).cores[0]->counters().acknowledged, acknowledged);
  end_load();
  std::swap(leading, following);
  change_places();
  expect_same("after the promotion");
}

INSTANTIATE_TEST_SUITE_P(Seeds, PromoteTest, ::testing::Range(1, 5));

TEST_F(FollowTest, AcknowledgementsWaitForAQuorumAndNotForEver) {
  quorum = true;
  start_both();
  begin_load();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  Shard* shard = shard_of(leading);
  auto acknowledged = [&] { return static_cast<ServerProgram&>(leading->program()).cores[0]->counters().acknowledged; };
  EXPECT_GT(acknowledged(), 50u);
  EXPECT_EQ(shard->quorum_missed(), 0u);
  EXPECT_GT(shard->quorum().replicated(), Lsn{50});
  EXPECT_LE(shard->quorum().replicated(), shard_of(following)->log().watermarks().durable);
  // A follower that does not run costs quorum_wait_max, once.
  world.pause(*following, 60 * nanos_per_second);
  ASSERT_TRUE(world.run_for(quorum_wait_max / 2));
  const std::uint64_t before = acknowledged();
  EXPECT_EQ(shard->quorum_missed(), 0u);
  ASSERT_TRUE(world.run_for(quorum_wait_max));
  EXPECT_GT(acknowledged(), before);
  EXPECT_GT(shard->quorum_missed(), 0u);
  EXPECT_TRUE(shard->quorum().missing());
  world.resume(*following);
  ASSERT_TRUE(world.run_until([&] { return !shard->quorum().missing(); }, patience)) << told();
  const std::uint64_t missed = shard->quorum_missed();
  ASSERT_TRUE(world.run_for(nanos_per_second));
  EXPECT_EQ(shard->quorum_missed(), missed);
  end_load();
  expect_same("with a quorum");
}

TEST(Quorum, TheSlowestOfThoseThatAreNeededCounts) {
  Quorum two(2);
  two.durable(Lsn{10}, 1000);
  EXPECT_EQ(two.answerable(), Lsn{0});
  two.reported({Lsn{9}});
  EXPECT_EQ(two.answerable(), Lsn{0}) << "one of two is not enough";
  two.reported({Lsn{9}, Lsn{4}, Lsn{7}});
  EXPECT_EQ(two.answerable(), Lsn{7});
  two.reported({Lsn{3}, Lsn{3}});
  EXPECT_EQ(two.replicated(), Lsn{7}) << "it fell";
  two.reported({Lsn{20}, Lsn{20}});
  EXPECT_EQ(two.replicated(), Lsn{10}) << "more than is durable here";
  EXPECT_EQ(two.deadline(), 0);
  EXPECT_EQ(two.answerable(), Lsn{10});
  two.durable(Lsn{11}, 4000);
  EXPECT_EQ(two.replicated(), Lsn{11}) << "what was reported before it was durable here";
  two.reported({Lsn{11}});
  two.durable(Lsn{30}, 4500);
  EXPECT_EQ(two.replicated(), Lsn{20});
  two.reported({Lsn{30}, Lsn{30}});
  two.durable(Lsn{42}, 5000);
  two.tick(5000 + quorum_wait_max - 1);
  EXPECT_EQ(two.answerable(), Lsn{30});
  two.tick(5000 + quorum_wait_max);
  EXPECT_TRUE(two.missing());
  EXPECT_EQ(two.answerable(), Lsn{42});
  two.durable(Lsn{45}, 6000 + quorum_wait_max);
  EXPECT_EQ(two.answerable(), Lsn{45}) << "while followers are missing nobody waits";
  two.reported({Lsn{43}, Lsn{43}});
  EXPECT_FALSE(two.missing());
  EXPECT_EQ(two.answerable(), Lsn{43});
  Quorum none(0);
  none.durable(Lsn{5}, 1);
  EXPECT_EQ(none.answerable(), Lsn{5});
  EXPECT_EQ(none.deadline(), 0);
}

}  // namespace
}  // namespace millrace::test
