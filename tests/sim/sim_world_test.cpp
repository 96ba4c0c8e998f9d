// Time, turns, faults and determinism of the world itself.
#include "tests/sim/sim_world.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "tests/sim/sim_kernel.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace::sim {
namespace {

struct Ticks {
  std::vector<Nanos> at;
  std::vector<Nanos> wall;
};

Task<> tick(Reactor& reactor, Ticks& ticks, int count, Nanos period) {
  for (int i = 0; i < count; ++i) {
    co_await Sleep(reactor, reactor.now() + period);
    ticks.at.push_back(reactor.now());
    ticks.wall.push_back(reactor.wall_now());
  }
  co_return Result<>{};
}

TEST(SimWorld, timers_fire_in_virtual_time_and_idle_hours_cost_nothing) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  Ticks ticks;
  auto begin = std::chrono::steady_clock::now();
  Nanos start = world.now();
  ASSERT_TRUE(run_program(
      world, node, [&](Reactor& reactor, std::size_t) { return tick(reactor, ticks, 3600, 1'000'000'000); },
      4'000'000'000'000));
  double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(ticks.at.size(), 3600U);
  double simulated = static_cast<double>(world.now() - start) / 1e9;
  EXPECT_NEAR(simulated, 3600, 1);
  EXPECT_GT(simulated / wall, 500) << "simulated seconds per second";
}

TEST(SimWorld, a_pause_delays_turns_and_a_wall_jump_leaves_monotonic_time_alone) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  Ticks ticks;
  SimProcess& process = world.start(node, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) {
                                      return tick(reactor, ticks, 4, 1'000'000'000);
                                    }));
  world.run_for(1'500'000'000);
  world.pause(process, 5'000'000'000);
  world.jump_wall(node, -86'400'000'000'000);
  world.run_for(20'000'000'000);
  ASSERT_EQ(ticks.at.size(), 4U);
  EXPECT_GT(ticks.at[1] - ticks.at[0], 5'000'000'000);
  EXPECT_LT(ticks.at[2] - ticks.at[1], 1'100'000'000);
  EXPECT_LT(ticks.wall[1], ticks.wall[0]);
}

Task<> spin(Reactor&) {
  for (;;) co_await Yield{};
}

TEST(SimWorld, a_program_that_only_yields_is_a_livelock) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  world.start(node, 1, CoroutineProgram::factory([](Reactor& reactor, std::size_t) { return spin(reactor); }));
  EXPECT_FALSE(world.run_for(60'000'000'000));
  EXPECT_FALSE(world.livelock().empty());
}

Task<> wait_for_ever(Reactor& reactor, Signal& signal) {
  (void)reactor;
  co_await signal.wait();
  co_return Result<>{};
}

TEST(SimWorld, nothing_left_to_do_is_quiescence) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  Signal signal;
  SimProcess& process = world.start(node, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) {
                                      return wait_for_ever(reactor, signal);
                                    }));
  EXPECT_FALSE(world.run_until([] { return false; }, 60'000'000'000));
  EXPECT_FALSE(world.step());
  EXPECT_TRUE(process.running());
}

Task<> lock_file(Reactor&, std::int32_t& result) {
  Operation open;
  open.code = OperationCode::open_file;
  open.path = "lock";
  open.open_flags = open_create | open_write;
  auto opened = co_await Io(open);
  if (!opened) co_return fail(opened.error());
  Operation lock;
  lock.code = OperationCode::lock;
  lock.descriptor = static_cast<std::int32_t>(*opened);
  auto locked = co_await Io(lock);
  result = locked ? 1 : locked.error() == Error::would_block ? 2 : 3;
  if (!locked) co_return fail(locked.error());
  Signal never;
  co_await never.wait();
  co_return Result<>{};
}

TEST(SimWorld, a_lock_ends_with_its_process_but_may_linger_after_a_kill) {
  FaultPlan plan;
  plan[FaultClass::lock_lingers] = 1'000'000;
  SimWorld world(1, plan);
  SimNode& node = world.add_node("node");
  std::int32_t first = 0;
  std::int32_t second = 0;
  auto factory = [](std::int32_t& result) {
    return CoroutineProgram::factory([&result](Reactor& reactor, std::size_t) { return lock_file(reactor, result); });
  };
  SimProcess& holder = world.start(node, 1, factory(first));
  world.run_for(10'000'000);
  EXPECT_EQ(first, 1);
  world.start(node, 1, factory(second));
  world.run_for(10'000'000);
  EXPECT_EQ(second, 2) << "two processes hold one lock";
  world.kill(holder);
  second = 0;
  world.start(node, 1, factory(second));
  world.run_for(10'000'000);
  EXPECT_EQ(second, 2) << "the lock outlives its process for a while";
  world.run_for(5'000'000'000);
  world.start(node, 1, factory(second));
  world.run_for(10'000'000);
  EXPECT_EQ(second, 1);
}

struct Space {
  std::vector<std::int64_t> wrote;
};

Task<> fill_disk(Reactor& reactor, Space& space) {
  Operation open;
  open.code = OperationCode::open_file;
  open.path = "big";
  open.open_flags = open_create | open_write;
  auto opened = co_await Io(open);
  if (!opened) co_return fail(opened.error());
  std::vector<std::byte> bytes(64 * KiB, std::byte{1});
  Operation write;
  std::uint64_t at = 0;
  for (int i = 0; i < 40; ++i) {
    write = Operation{};
    write.code = OperationCode::write;
    write.descriptor = static_cast<std::int32_t>(*opened);
    write.offset = at;
    write.data = bytes.data();
    write.length = static_cast<std::uint32_t>(bytes.size());
    auto wrote = co_await Io(write);
    space.wrote.push_back(wrote ? static_cast<std::int64_t>(*wrote) : wrote.error() == Error::no_space ? -ENOSPC : -1);
    if (wrote) at += *wrote;
    co_await Sleep(reactor, reactor.now() + 100'000'000);
  }
  co_return Result<>{};
}

TEST(SimWorld, a_full_disk_refuses_and_takes_writes_again_when_space_returns) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  node.disk.capacity_bytes = 2 * MiB;
  node.disk.foreign_bytes = 1 * MiB;
  Space space;
  world.after(3'000'000'000, [&] { node.disk.foreign_bytes = 0; });
  ASSERT_TRUE(run_program(world, node, [&](Reactor& reactor, std::size_t) { return fill_disk(reactor, space); }));
  ASSERT_EQ(space.wrote.size(), 40U);
  EXPECT_EQ(space.wrote[0], static_cast<std::int64_t>(64 * KiB));
  EXPECT_EQ(space.wrote[25], -ENOSPC);
  EXPECT_EQ(space.wrote[35], static_cast<std::int64_t>(64 * KiB));
}

Task<> many_writes(Reactor&, int count) {
  Operation open;
  open.code = OperationCode::open_file;
  open.path = "busy";
  open.open_flags = open_create | open_write;
  auto opened = co_await Io(open);
  if (!opened) co_return fail(opened.error());
  std::vector<std::byte> bytes(4 * KiB, std::byte{1});
  Operation write;
  for (int i = 0; i < count; ++i) {
    write = Operation{};
    write.code = OperationCode::write;
    write.descriptor = static_cast<std::int32_t>(*opened);
    write.offset = static_cast<std::uint64_t>(i % 1024) * bytes.size();
    write.data = bytes.data();
    write.length = static_cast<std::uint32_t>(bytes.size());
    write.durable = true;
    auto wrote = co_await Io(write);
    if (!wrote) co_return fail(wrote.error());
  }
  co_return Result<>{};
}

TEST(SimWorld, shards_of_a_process_interleave_and_operations_are_cheap) {
  SimWorld world(1, FaultPlan::quiet());
  SimNode& node = world.add_node("node");
  auto begin = std::chrono::steady_clock::now();
  SimProcess& process = world.start(
      node, 3, CoroutineProgram::factory([](Reactor& reactor, std::size_t) { return many_writes(reactor, 10'000); }));
  ASSERT_TRUE(world.run_until([&] { return !process.running(); }, 60'000'000'000));
  double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(process.reason(), EndReason::finished);
  EXPECT_LT(world.now(), 1'000'000'000 + 10'000 * 200'000LL) << "three shards at once take no longer than one";
  EXPECT_GE(world.operations, 30'000U);
  EXPECT_GT(static_cast<double>(world.operations) / wall, 20'000) << "operations per second";
}

TEST(SimFaults, streams_do_not_shift_each_other_and_suppressed_faults_keep_their_numbers) {
  FaultPlan one;
  one[FaultClass::short_read] = 300'000;
  FaultPlan both = one;
  both[FaultClass::short_write] = 300'000;
  FaultInjector alone(5, one);
  FaultInjector mixed(5, both);
  std::uint64_t strikes = 0;
  for (int i = 0; i < 1000; ++i) {
    bool expected = alone.strike(FaultClass::short_read, 0, "n");
    (void)mixed.strike(FaultClass::short_write, 0, "n");
    EXPECT_EQ(mixed.strike(FaultClass::short_read, 0, "n"), expected);
    strikes += expected;
  }
  EXPECT_GT(strikes, 200U);
  FaultInjector suppressed(5, one);
  suppressed.suppress(3, 10);
  for (int i = 0; i < 1000; ++i) (void)suppressed.strike(FaultClass::short_read, 0, "n");
  EXPECT_EQ(suppressed.total(), strikes);
  EXPECT_EQ(suppressed.count(FaultClass::short_read), strikes - 8);
}

TEST(SimFaults, every_class_has_a_name_and_every_swarm_differs) {
  for (std::size_t i = 0; i < fault_classes; ++i) {
    auto fault = static_cast<FaultClass>(i);
    EXPECT_NE(fault_name(fault), "unknown_fault");
    EXPECT_EQ(fault_of(fault_name(fault)), fault);
  }
  Random random(1);
  FaultPlan first = FaultPlan::draw(random, false);
  FaultPlan second = FaultPlan::draw(random, false);
  EXPECT_NE(first.rates, second.rates);
  for (int i = 0; i < 50; ++i) {
    FaultPlan plan = FaultPlan::draw(random, false);
    for (std::size_t fault = 0; fault < fault_classes; ++fault) {
      if (damages_media(static_cast<FaultClass>(fault))) {
        EXPECT_EQ(plan.rates[fault], 0U);
      }
    }
  }
}

}  // namespace
}  // namespace millrace::sim
