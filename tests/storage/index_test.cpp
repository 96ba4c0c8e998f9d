// What finding costs, however long the log is, and what an index file says of itself.
#include "storage/index.hpp"

#include <gtest/gtest.h>

#include "storage/index_file.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace::test {
namespace {

StreamId stream_number(std::uint64_t number) { return stream_id_of("stream " + std::to_string(number)); }

/// Worst cost of finding, by how many segments the log has.
struct Costs {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> worst;
};

// A cold index, as after a start: nothing is kept from an earlier search.
Task<std::uint64_t> cost_of(Reactor& reactor, MiniLog& log, const ModelBatch& batch, Seek seek) {
  Index index(reactor, "shard-00", 0, false, false);
  auto opening = index.open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  const StreamId stream{batch.header.stream_id};
  auto finding = index.find(stream, seek);
  auto found = co_await finding;
  EXPECT_TRUE(found && *found);
  if (!found || !*found) co_return 0;
  EXPECT_EQ((**found).segment, batch.segment);
  auto placing = index.find_entry(**found, seek);
  auto number = co_await placing;
  EXPECT_TRUE(number);
  std::vector<RunEntry> entries(1);
  auto reading = index.read_entries(**found, *number, entries);
  auto read = co_await reading;
  EXPECT_TRUE(read);
  EXPECT_EQ(std::uint64_t{entries[0].position} * batch_align, batch.position);
  EXPECT_EQ(std::uint64_t{entries[0].span} * batch_align, batch.bytes.size());
  static_cast<void>(log);
  co_return index.stats().block_reads;
}

Task<> grow(Reactor& reactor, Costs& costs) {
  MiniLog log(reactor, {.ring_bytes = 32 * KiB, .batches_max = 256, .segment_bytes = 64 * KiB});
  auto opening = log.open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  Random random(3);
  std::uint64_t segments = 0;
  for (const std::uint64_t wanted : {20U, 80U, 320U}) {
    for (; segments < wanted; ++segments) {
      // Forty streams, of which one has a batch in every twentieth segment only.
      for (std::uint64_t i = 0; i < 60; ++i) log.append(stream_number(1 + random.next() % 39), 2, 40);
      if (segments % 20 == 7) log.append(stream_number(0), 1, 40);
      auto rolling = log.roll(segments % 100 == 99);
      auto rolled = co_await rolling;
      EXPECT_TRUE(rolled);
    }
    auto settling = log.settle();
    (void)co_await settling;
    std::uint64_t worst = 0;
    for (int i = 0; i < 60; ++i) {
      const auto batches = log.of(stream_number(i % 3 == 0 ? 0 : 1 + random.next() % 39));
      const ModelBatch& batch = *batches[random.next() % batches.size()];
      Seek seek = Seek::at_offset(Offset{batch.header.first_offset});
      if (i % 4 == 1) seek = Seek::at_time(batch.header.leader_time);
      if (i % 4 == 2) seek = Seek::at_id(Day{batch.header.day}, RecordId{batch.header.first_id});
      auto asking = cost_of(reactor, log, batch, seek);
      auto cost = co_await asking;
      worst = std::max(worst, *cost);
    }
    costs.worst.push_back({wanted, worst});
  }
  auto stopping = log.view().stop();
  (void)co_await stopping;
  co_return Result<>{};
}

TEST(index, finding_costs_a_handful_of_reads_however_long_the_log_is) {
  sim::SimWorld world(5, sim::FaultPlan{});
  auto& node = world.add_node("a");
  Costs costs;
  ASSERT_TRUE(sim::run_program(
      world, node, [&costs](Reactor& reactor, std::size_t) { return grow(reactor, costs); }, 3600 * nanos_per_second));
  ASSERT_EQ(costs.worst.size(), 3U);
  for (const auto& [segments, reads] : costs.worst) {
    std::printf("%4lu segments: at most %lu block reads\n", static_cast<unsigned long>(segments),
                static_cast<unsigned long>(reads));
    // At most fifteen units a level that no directory covers yet, a header and a probe each, and a day's opening.
    EXPECT_LE(reads, 80U) << segments;
  }
}

}  // namespace
}  // namespace millrace::test
