// What a log takes on disk, counted: over days, with the open segment by what it holds and files named ahead left out.
#include "storage/extent.hpp"

#include <gtest/gtest.h>

#include "tests/storage/log_lives.hpp"

namespace millrace::test {
namespace {

LogExtentBounds bounds_of(const LogStats& stats) {
  return {.first_kept = {stats.first_day, static_cast<std::uint32_t>(stats.first_kept_segment)},
          .last_day = stats.day,
          .segment_open = stats.segment_open,
          .open_number = stats.segment_number,
          .open_used = stats.segment_used};
}

struct Counted {
  LogExtent first;
  LogExtent again;
  LogStats stats;
  std::uint64_t listed = 0;  // what the directories say, files named ahead included
  std::uint64_t first_day_bytes = 0;
};

Task<> count_over_midnight(Reactor& reactor, LogLife& life, Counted& counted) {
  std::map<StreamId, std::uint64_t> sequences;
  for (int day = 0; day < 2; ++day) {
    auto appending = append_batches(reactor, *life.log, 700, 60 * KiB, 3, sequences);
    auto appended = co_await appending;
    if (!appended) co_return appended;
    auto indexing = wait_indexed(reactor, *life.log);
    (void)co_await indexing;
    const Nanos until = reactor.now() + (day == 0 ? 30 : 1) * nanos_per_second;
    co_await Sleep(reactor, until);
  }
  const LogOptions& options = life.log->options();
  ExtentMeter meter;
  counted.stats = life.log->stats();
  for (LogExtent* extent : {&counted.first, &counted.again}) {
    auto measuring = meter.measure(reactor, options.directory, options.segment_bytes, bounds_of(counted.stats));
    auto measured = co_await measuring;
    EXPECT_TRUE(measured);
    if (measured) *extent = *measured;
  }
  const std::string first_day = options.directory + "/2026-11-21";
  const std::vector<std::string> days{first_day, options.directory + "/2026-11-22"};
  for (const std::string& day : days) {
    auto listing = Directory::list(reactor, day);
    auto entries = co_await listing;
    if (!entries) co_return fail(entries.error());
    for (const DirectoryEntry& entry : *entries) {
      if (!entry.name.starts_with("data")) continue;
      counted.listed++;
      auto asking = Directory::status_of(reactor, day + "/" + entry.name);
      auto status = co_await asking;
      if (status && day == first_day) counted.first_day_bytes += status->size;
    }
  }
  co_return Result<>{};
}

TEST(Extent, CountsDaysTheOpenSegmentAndNothingNamedAhead) {
  sim::SimWorld world(8, sim::FaultPlan{});
  sim::SimNode& node = world.add_node("server");
  world.jump_wall(node, *parse_time("2026-11-21T23:59:40Z") - world.wall_now(node));
  Counted counted;
  LogLife life;
  life.options = small_log_options();
  life.work = [&counted](Reactor& reactor, LogLife& self) { return count_over_midnight(reactor, self, counted); };
  run_life(world, node, life);
  ASSERT_EQ(counted.stats.days, 2u);
  ASSERT_TRUE(counted.stats.segment_open);
  EXPECT_GE(counted.first.segments, 4u) << "not enough to tell";
  EXPECT_EQ(counted.first.segments, counted.listed - 1) << "one is named ahead";
  const std::uint64_t second_day =
      counted.stats.segment_number * life.options.segment_bytes + counted.stats.segment_used;
  EXPECT_EQ(counted.first.bytes, counted.first_day_bytes + second_day);
  EXPECT_EQ(counted.again.segments, counted.first.segments);
  EXPECT_EQ(counted.again.bytes, counted.first.bytes);
}

}  // namespace
}  // namespace millrace::test
