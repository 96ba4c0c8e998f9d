// The swarm itself, on a toy server: it passes a correct one under every kind of misfortune, and turns red on a buggy one.
#include "tests/sim/swarm.hpp"

#include <gtest/gtest.h>

#include "tests/sim/toy_server.hpp"

namespace millrace::sim {
namespace {

SwarmOptions toy_options(SwarmMode mode) {
  SwarmOptions options;
  options.mode = mode;
  options.check_directory = false;
  options.shards = 1;
  return options;
}

std::string all_of(const SeedResult& result) {
  std::string text = result.workload + "\n" + result.faults;
  for (const std::string& violation : result.violations) text += "\n" + violation;
  return text;
}

class SwarmModes : public testing::TestWithParam<SwarmMode> {};

TEST_P(SwarmModes, a_correct_server_passes) {
  std::uint64_t acknowledged = 0;
  std::uint64_t crashes = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SeedResult result = run_seed(seed, toy_options(GetParam()), ToyServer::factory(ToyBug::none));
    ASSERT_EQ(result.verdict, SeedVerdict::passed) << "seed " << seed << "\n" << all_of(result);
    acknowledged += result.counts["records_acknowledged"];
    crashes += result.counts["crashes"];
    ASSERT_GE(result.counts["records_read_back"], result.counts["records_acknowledged"]);
  }
  EXPECT_GT(acknowledged, 1000U);
  if (GetParam() != SwarmMode::quiet) {
    EXPECT_GT(crashes, 5U);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, SwarmModes, testing::Values(SwarmMode::quiet, SwarmMode::crash, SwarmMode::errors),
                         [](const auto& tested) { return std::string(mode_name(tested.param)); });

bool caught(ToyBug bug, SwarmMode mode) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed)
    if (run_seed(seed, toy_options(mode), ToyServer::factory(bug)).verdict == SeedVerdict::wrong) return true;
  return false;
}

TEST(Swarm, acknowledging_before_durable_turns_it_red) {
  EXPECT_TRUE(caught(ToyBug::acknowledge_before_durable, SwarmMode::crash));
}
TEST(Swarm, forgotten_producers_turn_it_red) { EXPECT_TRUE(caught(ToyBug::forget_producers, SwarmMode::crash)); }
TEST(Swarm, serving_before_durable_turns_it_red) {
  EXPECT_TRUE(caught(ToyBug::serve_before_durable, SwarmMode::crash));
}

TEST(Swarm, a_seed_replays_exactly) {
  for (std::uint64_t seed : {3U, 11U}) {
    SeedResult first = run_seed(seed, toy_options(SwarmMode::errors), ToyServer::factory(ToyBug::none));
    SeedResult second = run_seed(seed, toy_options(SwarmMode::errors), ToyServer::factory(ToyBug::none));
    EXPECT_EQ(first.trace_hash, second.trace_hash);
    EXPECT_EQ(first.counts, second.counts);
  }
}

}  // namespace
}  // namespace millrace::sim
