// A disk that refuses blocks under a reader: what is readable is read, what is not is told, and nothing of it is remembered.
#include <gtest/gtest.h>

#include "storage/names.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace::test {
namespace {

using namespace std::string_literals;

const StreamId demo = stream_id_of("demo");
const StreamId other = stream_id_of("other");
constexpr std::size_t target_bytes = 256 * KiB;

/// How many batches of two streams in turn, a few to a group, stand in the log when the work begins: in segments that are closed and
/// in the index, but for the last.
struct Filling {
  int batches = 0;
  std::uint32_t body_bytes = 9000;
  int per_segment = 40;
  std::uint64_t segment_bytes = 1 * MiB;
};

Task<> fill(MiniLog& log, Filling filling) {
  auto opening = log.open();
  auto opened = co_await opening;
  if (!opened) co_return opened;
  for (int i = 1; i <= filling.batches; ++i) {
    log.append(i % 2 == 1 ? demo : other, 2, filling.body_bytes);
    if (i % 5 == 0 || log.pending() > 100 * KiB) {
      auto flushing = log.flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return flushed;
    }
    if (i % filling.per_segment != 0) continue;
    auto rolling = log.roll();
    auto rolled = co_await rolling;
    if (!rolled) co_return rolled;
  }
  auto settling = log.settle();
  co_return co_await settling;
}

using Work = Task<> (*)(MiniLog& log, sim::SimNode& node);

Task<> fill_and_work(Reactor& reactor, sim::SimNode& node, Filling filling, Work work) {
  MiniLog log(reactor, {.ring_bytes = 16 * KiB, .segment_bytes = filling.segment_bytes});
  auto preparing = fill(log, filling);
  auto prepared = co_await preparing;
  EXPECT_TRUE(prepared);
  auto working = work(log, node);
  auto worked = co_await working;
  EXPECT_TRUE(worked);
  co_return Result<>{};
}

/// A machine whose disk the work damages.
class ReaderDamageTest : public testing::Test {
 protected:
  ReaderDamageTest() : world(11, sim::FaultPlan{}), node(world.add_node("a")) {}
  void run(Filling filling, Work work) {
    const bool ended = sim::run_program(
        world, node,
        [this, filling, work](Reactor& reactor, std::size_t) { return fill_and_work(reactor, node, filling, work); },
        3600 * nanos_per_second);
    ASSERT_TRUE(ended);
  }

  sim::SimWorld world;
  sim::SimNode& node;
};

std::set<std::uint64_t>& bad_sectors(sim::SimNode& node, SegmentKey segment) {
  return node.disk.find(segment_path("shard-00", segment))->bad_sectors;
}

void refuse(sim::SimNode& node, const ModelBatch& batch, std::uint64_t at) {
  bad_sectors(node, batch.segment).insert((batch.position + at) / 512);
}

std::string lost(const ModelBatch& first, const ModelBatch& last) {
  return "lost " + std::to_string(first.header.first_offset) + " next " +
         std::to_string(last.header.first_offset + last.header.record_count);
}

/// Reads the stream: all its batches but [from, to], which are told in one notice.
Task<> expect_all_but(MiniLog& log, StreamId stream, std::size_t from, std::size_t to, Seek seek = {}) {
  std::vector<const ModelBatch*> left = log.of(stream);
  const std::vector<std::string> notices{lost(*left[from], *left[to])};
  left.erase(left.begin() + static_cast<std::ptrdiff_t>(from), left.begin() + static_cast<std::ptrdiff_t>(to + 1));
  auto reading = read_to_end(log.view(), {.stream = stream, .from = seek}, target_bytes);
  auto back = co_await reading;
  EXPECT_TRUE(back->ended) << error_name(back->ended.error());
  EXPECT_EQ(difference(*back, left), "");
  EXPECT_EQ(back->notices, notices);
  co_return Result<>{};
}

Task<> expect_all(MiniLog& log, StreamId stream) {
  auto reading = read_to_end(log.view(), {.stream = stream}, target_bytes);
  auto back = co_await reading;
  EXPECT_TRUE(back->ended) << error_name(back->ended.error());
  EXPECT_EQ(difference(*back, log.of(stream)), "");
  EXPECT_EQ(back->notices, std::vector<std::string>{});
  co_return Result<>{};
}

TEST_F(ReaderDamageTest, P18AnUnreadableSectorOfAClosedSegmentCostsTheBatchInIt) {
  run({.batches = 120}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    // The first of the log, one in the middle, the last of a closed segment, the first of the next.
    for (const std::size_t victim : {0u, 7u, 19u, 20u}) {
      const ModelBatch& batch = *log.of(demo)[victim];
      for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{5000}}) {
        refuse(disk, batch, at);
        auto expecting = expect_all_but(log, demo, victim, victim, victim == 0 ? Seek::at_offset(Offset{0}) : Seek{});
        (void)co_await expecting;
        // The device gives it again: so does the log.
        bad_sectors(disk, batch.segment).clear();
        auto healing = expect_all(log, demo);
        (void)co_await healing;
      }
    }
    co_return Result<>{};
  });
}

TEST_F(ReaderDamageTest, P18ABadPatchIsToldAsOneLossAndReadOnce) {
  run({.batches = 1200, .body_bytes = 1000, .per_segment = 600}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    const auto batches = log.of(demo);
    // From within the 31st to within the 90th: more than a device that is well refuses at once.
    for (std::uint64_t at = batches[30]->position + 500; at < batches[89]->position + 500; at += 512)
      bad_sectors(disk, batches[30]->segment).insert(at / 512);
    EXPECT_GT(batches[89]->position - batches[30]->position, 20 * block_bytes);
    auto reading = read_to_end(log.view(), {.stream = demo}, target_bytes);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(back->notices.size(), 1u);
    EXPECT_GE(back->headers.size(), batches.size() - 64);  // the blocks at both ends hold neighbours
    EXPECT_LE(back->stats.disk_reads, 20u);
    auto whole = read_to_end(log.view(), {}, target_bytes);
    auto all = co_await whole;
    EXPECT_TRUE(all->ended) << error_name(all->ended.error());
    EXPECT_FALSE(all->notices.empty());
    EXPECT_EQ(all->headers.back().lsn, log.batches().back().header.lsn);
    co_return Result<>{};
  });
}

TEST_F(ReaderDamageTest, P18ADeviceThatIsGoneIsAnErrorAndNotALoss) {
  run({.batches = 80}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    const SegmentKey first = log.batches().front().segment;
    for (std::uint64_t sector = 0; sector < 1 * MiB / 512; ++sector) bad_sectors(disk, first).insert(sector);
    auto reading = read_to_end(log.view(), {.stream = demo}, target_bytes);
    auto back = co_await reading;
    EXPECT_EQ(back->ended, Result<>(fail(Error::io_failed)));
    EXPECT_EQ(back->notices, std::vector<std::string>{});
    bad_sectors(disk, first).clear();
    auto healing = expect_all(log, demo);
    co_return co_await healing;
  });
}

TEST_F(ReaderDamageTest, P18ABatchLargerThanAReadIsLostAlone) {
  run({.segment_bytes = 16 * MiB}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    for (const std::uint32_t body_bytes : {1000u, 3'000'000u, 2000u, 2'000'000u, 1000u}) {
      log.append(demo, 2, body_bytes);
      auto flushing = log.flush();
      auto flushed = co_await flushing;
      EXPECT_TRUE(flushed);
    }
    auto rolling = log.roll();
    auto rolled = co_await rolling;
    EXPECT_TRUE(rolled);
    auto settling = log.settle();
    (void)co_await settling;
    refuse(disk, *log.of(demo)[1], 2'500'000);
    std::vector<const ModelBatch*> left = log.of(demo);
    const std::vector<std::string> notices{lost(*left[1], *left[1])};
    left.erase(left.begin() + 1);
    auto reading = read_to_end(log.view(), {.stream = demo}, 4 * MiB);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(difference(*back, left), "");
    EXPECT_EQ(back->notices, notices);
    co_return Result<>{};
  });
}

// Entries are read 256 at a time: the end of a loss is where the next one begins, also behind those.
TEST_F(ReaderDamageTest, P18WhereALossEndsDoesNotDependOnHowFarEntriesWereReadAhead) {
  run({.batches = 600, .body_bytes = 1000, .per_segment = 600}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    const ModelBatch& last_ahead = *log.of(demo)[255];
    bad_sectors(disk, last_ahead.segment).insert(last_ahead.position / 512);
    auto reading = read_to_end(log.view(), {.stream = demo}, target_bytes);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended);
    EXPECT_FALSE(back->notices.empty());
    EXPECT_GE(back->headers.size(), 300u - 5) << "no more than stand in one block";
    EXPECT_EQ(back->headers.back().lsn, log.of(demo).back()->header.lsn);
    co_return Result<>{};
  });
}

TEST_F(ReaderDamageTest, P18AMissingSegmentIsALossAndNotAnError) {
  run({.batches = 120}, [](MiniLog& log, sim::SimNode&) -> Task<> {
    const SegmentKey second{log.segment().day, 1};
    auto removing = Directory::remove_file(log.reactor(), segment_path("shard-00", second));
    auto removed = co_await removing;
    EXPECT_TRUE(removed);
    std::vector<const ModelBatch*> left = log.of(demo);
    std::erase_if(left, [&](const ModelBatch* batch) { return batch->segment == second; });
    auto reading = read_to_end(log.view(), {.stream = demo}, target_bytes);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(difference(*back, left), "");
    EXPECT_EQ(back->notices.front().substr(0, 8), "lost 40 ");
    EXPECT_EQ(back->notices.back().substr(back->notices.back().size() - 8), " next 80");
    co_return Result<>{};
  });
}

// ---- An index that cannot be written.

void refuse_index(sim::SimNode& node, bool refuse) {
  node.disk.find(index_path("shard-00", Day{20000}))->writes_fail = refuse;
}

/// Appends two batches of each stream to the segment and closes it.
Task<> fill_segment(MiniLog& log) {
  for (int i = 0; i < 4; ++i) log.append(i % 2 == 0 ? demo : other, 2, 9000);
  auto rolling = log.roll();
  auto rolled = co_await rolling;
  if (!rolled) co_return rolled;
  while (log.view().writing()) co_await Sleep(log.reactor(), log.reactor().now() + nanos_per_milli);
  co_return Result<>{};
}

TEST_F(ReaderDamageTest, P18ARunThatCannotBeWrittenIsServedFromMemory) {
  run({.batches = 8, .per_segment = 4, .segment_bytes = 64 * KiB}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    refuse_index(disk, true);
    for (int i = 0; i < 2; ++i) {
      auto closing = fill_segment(log);
      (void)co_await closing;
    }
    EXPECT_EQ(log.view().runs_behind(), 2u);
    for (const StreamId stream : {demo, other}) {
      auto reading = expect_all(log, stream);
      (void)co_await reading;
    }
    // The next close makes good what was missed.
    refuse_index(disk, false);
    auto closing = fill_segment(log);
    (void)co_await closing;
    EXPECT_EQ(log.view().runs_behind(), 0u);
    EXPECT_EQ(log.view().index_stats().runs_derived, 1u) << "the other was not tried yet";
    auto reading = expect_all(log, demo);
    co_return co_await reading;
  });
}

TEST_F(ReaderDamageTest, ACleanStopTriesOnceMoreToWriteTheIndex) {
  run({.batches = 8, .per_segment = 4, .segment_bytes = 64 * KiB}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    refuse_index(disk, true);
    for (int i = 0; i < 2; ++i) {
      auto closing = fill_segment(log);
      (void)co_await closing;
    }
    EXPECT_EQ(log.view().runs_behind(), 2u);
    refuse_index(disk, false);
    auto stopping = log.view().stop();
    (void)co_await stopping;
    EXPECT_EQ(log.view().runs_behind(), 0u);
    co_return Result<>{};
  });
}

TEST_F(ReaderDamageTest, P18WhatLeftMemoryUnwrittenIsNoLoss) {
  run({.batches = 8, .per_segment = 4, .segment_bytes = 64 * KiB}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    refuse_index(disk, true);
    const StreamId young = stream_id_of("young");
    log.append(young, 2, 5000);
    for (std::size_t i = 0; i < 3 * runs_behind_max; ++i) {
      auto closing = fill_segment(log);
      (void)co_await closing;
      EXPECT_LT(log.view().runs_behind(), runs_behind_max) << "the log would stop";
    }
    log.append(young, 2, 5000);
    auto flushing = log.flush();
    (void)co_await flushing;
    for (const StreamId stream : {demo, young}) {
      for (const Seek& seek : {Seek::earliest(), Seek::at_offset(Offset{0})}) {
        auto reading = read_to_end(log.view(), {.stream = stream, .from = seek}, target_bytes);
        auto back = co_await reading;
        EXPECT_FALSE(back->ended) << "an index that cannot be made is an error";
        EXPECT_EQ(back->notices, std::vector<std::string>{});
      }
    }
    // Where it can be, whoever reads has it made.
    refuse_index(disk, false);
    for (const StreamId stream : {young, demo, other}) {
      auto reading = expect_all(log, stream);
      (void)co_await reading;
    }
    co_return Result<>{};
  });
}

// A directory covers sixteen units; one that was not written leaves its own to the next level, which cannot take them all.
TEST_F(ReaderDamageTest, ADirectoryThatCannotBeWrittenCostsNothingButSpeed) {
  run({.segment_bytes = 16 * KiB}, [](MiniLog& log, sim::SimNode& disk) -> Task<> {
    for (std::uint64_t segment = 1; segment <= 257; ++segment) {
      log.append(demo, 1, 100);
      auto rolling = log.roll();
      (void)co_await rolling;
      if (segment == 16) {
        while (log.view().index_stats().runs_written < 16) co_await Yield{};
        refuse_index(disk, true);
      }
      while (log.view().writing()) co_await Sleep(log.reactor(), log.reactor().now() + nanos_per_milli);
      if (segment == 16) refuse_index(disk, false);
    }
    EXPECT_EQ(log.view().index_stats().directories_written, 15u);
    EXPECT_EQ(log.view().index_stats().failures, 1u);
    auto reading = expect_all(log, demo);
    co_return co_await reading;
  });
}

}  // namespace
}  // namespace millrace::test
