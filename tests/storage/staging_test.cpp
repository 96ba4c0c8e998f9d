#include "storage/staging.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "reactor/random.hpp"
#include "tests/reactor/scripted_kernel.hpp"

namespace millrace {
namespace {

bool overlap(Bytes a, Bytes b) { return a.data() < b.data() + b.size() && b.data() < a.data() + a.size(); }

TEST(staging, what_is_in_use_is_never_given_out_again) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    test::ScriptedKernel kernel;
    Staging staging(kernel, 64 * MiB);
    Random random(seed);
    std::deque<GroupBuffer> used;
    std::uint64_t taken = 0, refused = 0;
    for (int step = 0; step < 2000; ++step) {
      if (random.next() % 3 != 0) {
        const std::size_t bytes =
            random.next() % 10 == 0 ? 1 + random.next() % group_span_max : 1 + random.next() % group_bytes_max;
        GroupBuffer buffer = staging.take(bytes);
        if (!buffer) {
          ASSERT_FALSE(used.empty()) << "an empty ring has room for the largest";
          ++refused;
        } else {
          ASSERT_GE(buffer.capacity, std::max<std::size_t>(bytes, group_bytes_max));
          ASSERT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(buffer.group), block_bytes));
          for (const GroupBuffer& other : used)
            ASSERT_FALSE(overlap(Staging::covered(buffer), Staging::covered(other))) << "seed " << seed;
          std::memset(buffer.group - block_bytes, 1, block_bytes + bytes);  // all of it is ours
          staging.trim(buffer, bytes);
          used.push_back(buffer);
          ++taken;
        }
      }
      if (!used.empty() && random.next() % 3 == 0) {
        staging.give(used.front());
        used.pop_front();
      }
    }
    EXPECT_GT(taken, 100U);
    EXPECT_GT(refused, 0U) << "the ring was never full";
  }
}

TEST(staging, a_new_round_says_what_it_skips) {
  test::ScriptedKernel kernel;
  Staging staging(kernel, 64 * MiB);
  GroupBuffer last;
  int rounds = 0;
  const std::byte* ring_end = nullptr;
  for (int step = 0; step < 500; ++step) {
    GroupBuffer buffer = staging.take(group_bytes_max);
    ASSERT_TRUE(buffer);
    staging.trim(buffer, group_bytes_max - 3 * block_bytes);
    const bool round = last && buffer.group < last.group;
    ASSERT_EQ(!buffer.skipped.empty(), round) << "step " << step;
    if (round) {
      EXPECT_EQ(buffer.skipped.data(), last.group + last.capacity) << "behind the newest buffer";
      const std::byte* end = buffer.skipped.data() + buffer.skipped.size();
      EXPECT_TRUE(ring_end == nullptr || ring_end == end);
      ring_end = end;
      ++rounds;
    }
    staging.give(buffer);
    last = buffer;
  }
  EXPECT_GT(rounds, 5);
}

TEST(staging, a_closed_group_gives_back_what_it_did_not_use) {
  test::ScriptedKernel kernel;
  Staging staging(kernel, 64 * MiB);
  std::vector<GroupBuffer> used;
  for (;;) {
    GroupBuffer buffer = staging.take(100);
    if (!buffer) break;
    staging.trim(buffer, 100);
    used.push_back(buffer);
  }
  // A small group takes its header block and one more; the room for the largest is only needed while it is open.
  EXPECT_GT(used.size(), (staging.memory_bytes() - 2 * group_bytes_max) / (2 * block_bytes));
}

TEST(staging, a_log_that_goes_away_with_its_group_open_leaves_the_ring_empty) {
  test::ScriptedKernel kernel;
  Staging staging(kernel, 64 * MiB);
  GroupBuffer closed = staging.take(5000);
  staging.trim(closed, 5000);
  GroupBuffer open = staging.take(100);
  staging.give(closed);
  staging.give(open);
  GroupBuffer next = staging.take(group_span_max);
  ASSERT_TRUE(next);
  staging.trim(next, group_span_max);
  EXPECT_TRUE(staging.take(group_span_max)) << "nothing of the old log holds room";
}

}  // namespace
}  // namespace millrace
