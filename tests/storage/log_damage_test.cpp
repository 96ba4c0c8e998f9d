// Damage to what was durable, seen by those who use the log: no number is used again, and nobody passes a loss without a word.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "storage/group.hpp"
#include "tests/storage/log_fixture.hpp"
#include "tests/storage/log_lives.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace {
namespace {

using namespace log_test;

constexpr const char* segment_name = "data/shard-00/2026-11-21/data000000";

/// Appends batches of three records that fill a group each, and waits until a slot says that they are durable.
Task<> append_groups(Reactor& reactor, Life& life, std::string name, int batches) {
  auto stream = life.log->declare_stream(name);
  if (!stream) co_return fail(stream.error());
  const auto body = body_of(1, 40'000);
  for (int i = 0; i < batches; ++i) {
    auto at = life.log->append(header_of({.stream = *stream, .records = 3}, body), body);
    if (!at) co_return fail(at.error().error);
    while (!(life.log->watermarks().durable > at->lsn)) {
      const Nanos again = reactor.now() + nanos_per_milli;
      co_await Sleep(reactor, again);
    }
  }
  const Nanos lull = reactor.now() + 50 * nanos_per_milli;
  co_await Sleep(reactor, lull);
  co_return Result<>{};
}

class LogDamageTest : public LogTest {
 protected:
  LogDamageTest() { world.jump_wall(node, *parse_time("2026-11-21T12:00:00Z") - world.wall_now(node)); }

  std::uint64_t last_batch() { return test::last_batch_in(node, segment_name); }
  void flip(std::uint64_t position) { test::flip_bit(node, segment_name, position); }
};

Task<> expect_the_loss_told(Reactor& reactor, Life& life) {
  // What the opening tells of the loss is durable before readers may know of it.
  const Nanos told = reactor.now() + 50 * nanos_per_milli;
  co_await Sleep(reactor, told);
  const StreamId demo = stream_id_of("demo");
  auto info = life.log->find_stream(demo);
  if (!info) co_return fail(info.error());
  EXPECT_GE(info->next_offset, Offset{9}) << "offsets 6 to 8 were acknowledged";
  const Offset next = info->next_offset;
  auto ending = test::read_to_end(life.log->view(), {.stream = demo, .from = Seek::at_offset(Offset{0})}, 256 * KiB);
  auto back = co_await ending;
  EXPECT_TRUE(back->ended);
  EXPECT_EQ(back->headers.size(), 2u);
  const std::vector<std::string> expected{"lost 6 next " + std::to_string(next.value)};
  EXPECT_EQ(back->notices, expected) << "also where nothing follows";
  auto appending = append_groups(reactor, life, "demo", 1);
  auto appended = co_await appending;
  if (!appended) co_return appended;
  auto again = test::read_to_end(life.log->view(), {.stream = demo, .from = Seek::at_offset(Offset{0})}, 256 * KiB);
  auto all = co_await again;
  EXPECT_EQ(all->headers.size(), 3u);
  EXPECT_EQ(all->headers.back().first_offset, next.value);
  EXPECT_EQ(all->notices, expected);
  co_return Result<>{};
}

void append_three_groups(Life& life) {
  life.work = [](Reactor& reactor, Life& here) -> Task<> {
    auto appending = append_groups(reactor, here, "demo", 3);
    co_return co_await appending;
  };
}

TEST_F(LogDamageTest, P04OffsetsOfALostBatchWhoseHeaderVerifiesAreNotUsedAgain) {
  Life first;
  append_three_groups(first);
  run(first);
  flip(last_batch() + batch_header_bytes + 100);
  Life second;
  second.work = expect_the_loss_told;
  run(second);
  EXPECT_EQ(second.report.verdict, "damaged_durable");
  EXPECT_EQ(second.report.lost_batches, 1u);
  // And the next opening, which knows it from the epoch batch alone.
  Life third;
  third.work = [](Reactor&, Life& life) -> Task<> {
    auto info = life.log->find_stream(stream_id_of("demo"));
    EXPECT_TRUE(info && info->next_offset >= Offset{12});
    co_return Result<>{};
  };
  run(third);
}

TEST_F(LogDamageTest, P18ABatchLostWithoutATraceIsToldToAReaderAtTheEnd) {
  Life first;
  append_three_groups(first);
  run(first);
  flip(last_batch() + 60);
  Life second;
  second.work = expect_the_loss_told;
  run(second);
  EXPECT_EQ(second.report.lost_batches, 1u);
}

TEST_F(LogDamageTest, P18AnUnreadableBlockCostsWhatStandsInIt) {
  Life first;
  append_three_groups(first);
  run(first);
  node.disk.find(segment_name)->bad_sectors.insert((last_batch() + batch_header_bytes + 20'000) / 512);
  Life second;
  second.work = expect_the_loss_told;
  run(second);
  EXPECT_EQ(second.report.verdict, "damaged_durable");
  EXPECT_EQ(second.report.lost_batches, 1u);
  EXPECT_TRUE(std::ranges::any_of(second.report.notes, [](const std::string& note) {
    return note == std::string(segment_name) + ": the device cannot read 1 blocks of it; they count as damaged";
  }));
}

TEST_F(LogDamageTest, P18AllStreamsAreReadAroundAnUnreadableBlock) {
  Life first;
  append_three_groups(first);
  run(first);
  Life second;
  second.work = [](Reactor&, Life& life) -> Task<> {
    // After the opening: what is in the middle of the segment, and in no memory.
    auto& segment = *life.node->disk.find(segment_name);
    segment.bad_sectors.insert((block_bytes + group_header_bytes + 45'000) / 512);
    auto reading = test::read_to_end(life.log->view(), {}, 256 * KiB);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(back->headers.size(), 2u);
    EXPECT_EQ(back->notices.size(), 1u);
    co_return Result<>{};
  };
  run(second);
}

TEST_F(LogDamageTest, P18AStreamIsReadAroundAnUnreadableBlock) {
  Life first;
  append_three_groups(first);
  run(first);
  Life second;
  second.work = [](Reactor&, Life& life) -> Task<> {
    auto& segment = *life.node->disk.find(segment_name);
    segment.bad_sectors.insert((block_bytes + group_header_bytes + 45'000) / 512);
    const ReadRequest request{.stream = stream_id_of("demo"), .from = Seek::at_offset(Offset{0})};
    auto reading = test::read_to_end(life.log->view(), request, 256 * KiB);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(back->headers.size(), 2u);
    EXPECT_EQ(back->notices, std::vector<std::string>{"lost 3 next 6"});
    // It was the device's word of then only.
    segment.bad_sectors.clear();
    auto again = test::read_to_end(life.log->view(), request, 256 * KiB);
    auto all = co_await again;
    EXPECT_EQ(all->headers.size(), 3u);
    EXPECT_EQ(all->notices, std::vector<std::string>{});
    co_return Result<>{};
  };
  run(second);
}

TEST_F(LogDamageTest, P21NothingIsRefusedForAnUnreadableBlockThatHasACopyOrIsDerivable) {
  Life first;
  append_three_groups(first);
  run(first);
  // A copy in node.meta of the node and of the shard, and a slot of the tail that is long dead.
  for (std::uint64_t block : {0u, 3u}) node.disk.find("data/node.meta")->bad_sectors.insert(block * 8);
  node.disk.find("data/shard-00/tail")->bad_sectors.insert(8 * 100);
  Life second;
  second.work = [](Reactor& reactor, Life& life) -> Task<> {
    auto info = life.log->find_stream(stream_id_of("demo"));
    EXPECT_TRUE(info && info->next_offset == Offset{9});
    auto appending = append_groups(reactor, life, "demo", 1);
    co_return co_await appending;
  };
  run(second);
  EXPECT_EQ(second.report.lost_batches, 0u);
}

TEST_F(LogDamageTest, ADeviceThatGivesNothingIsRefusedAndNothingIsTouched) {
  Life first;
  append_three_groups(first);
  run(first);
  for (std::uint64_t sector = 0; sector < 16 * MiB / 512; sector += 8)
    node.disk.find(segment_name)->bad_sectors.insert(sector);
  const auto before = node.disk.find(segment_name)->file.content(false);
  Life second;
  second.world = &world;
  second.node = &node;
  sim::run_program(world, node, [&second](Reactor& reactor, std::size_t) { return live(reactor, second); }, minute);
  EXPECT_EQ(second.error, Error::io_failed);
  EXPECT_NE(second.report.diagnosis.find("cannot be read"), std::string::npos) << second.report.diagnosis;
  EXPECT_EQ(node.disk.find(segment_name)->file.content(false), before);
}

}  // namespace
}  // namespace millrace
