// Days and the segments that stand for them: a segment's batches are all of its day, also when a crash left only its header or the
// clock went on between its begin and its first batch.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "storage/group.hpp"
#include "storage/segment_header.hpp"
#include "tests/storage/log_fixture.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace {
namespace {

using namespace log_test;

Task<> append_and_wait(Reactor& reactor, Life& life);

class LogDayTest : public LogTest {
 protected:
  void set_wall(std::string_view time) {
    const std::optional<Nanos> wall = parse_time(time);
    ASSERT_TRUE(wall.has_value());
    world.jump_wall(node, *wall - world.wall_now(node));
  }

  /// Only the segment's header reached the device, of all that was ever written into it or into the tail's slots.
  void leave_only_the_header(const std::string& segment) {
    for (const auto& [path, from] :
         {std::pair{segment, block_bytes}, std::pair{std::string("data/shard-00/tail"), block_bytes}}) {
      auto inode = node.disk.find(path);
      ASSERT_NE(inode, nullptr) << path;
      const std::vector<std::byte> zeros(inode->file.size() - from);
      inode->file.write(node.disk.next_stamp(), from, zeros, true);
    }
  }

  /// The days of all batches on the disk by the segment's day, the segment's first.
  std::map<std::string, std::vector<std::uint32_t>> days_by_segment() const {
    std::map<std::string, std::vector<std::uint32_t>> days;
    for (const auto& [path, bytes] : node.disk.image()) {
      auto header = bytes.size() < block_bytes ? Result<SegmentHeader>(fail(Error::corrupt))
                                               : read_segment_header(Bytes(bytes).first(block_bytes), OpenFor::reading);
      if (!header || !path.ends_with("data" + std::string("00000") + std::to_string(header->number))) continue;
      auto& found = days[path];
      found.push_back(header->day.value);
      for (std::uint64_t at = block_bytes; at + block_bytes <= bytes.size();) {
        auto group = read_group_header(Bytes(bytes).subspan(at, block_bytes), at, header->segment_id);
        if (!group) break;
        for (std::uint64_t batch = at + group_header_bytes; batch < at + group->length;) {
          auto head = read_batch_header(Bytes(bytes).subspan(batch));
          if (!head) break;
          found.push_back(head->day);
          batch += batch_span(head->body_bytes);
        }
        at += group_span(*group);
      }
    }
    return days;
  }

  /// A life at that time of the wall clock, which appends a batch.
  OpeningReport append_at(const char* wall) {
    set_wall(wall);
    Life life;
    life.work = append_and_wait;
    run(life);
    return life.report;
  }

  void expect_batches_are_of_their_segments_day(std::size_t segments) {
    const auto days = days_by_segment();
    EXPECT_EQ(days.size(), segments);
    for (const auto& [path, found] : days) {
      EXPECT_GT(found.size(), 1u) << path << " holds nothing";
      for (std::uint32_t day : found) EXPECT_EQ(day, found.front()) << path;
    }
  }
};

Task<> append_to(Reactor& reactor, Life& life, std::string name) {
  auto stream = life.log->declare_stream(name);
  if (!stream) co_return fail(stream.error());
  const auto body = body_of(1, 100);
  std::optional<AppendPosition> at;
  while (!at) {
    auto appended = life.log->append(header_of({.stream = *stream}, body), body);
    if (appended) at = *appended;
    else if (appended.error().error != Error::retry_later) co_return fail(appended.error().error);
    const Nanos again = reactor.now() + nanos_per_milli;
    co_await Sleep(reactor, again);
  }
  while (!(life.log->watermarks().durable > at->lsn)) {
    const Nanos again = reactor.now() + nanos_per_milli;
    co_await Sleep(reactor, again);
  }
  EXPECT_EQ(at->day, day_of(reactor.wall_now(), 0));
  co_return Result<>{};
}

Task<> append_and_wait(Reactor& reactor, Life& life) {
  auto appending = append_to(reactor, life, "demo");
  co_return co_await appending;
}

TEST_F(LogDayTest, P28ASegmentOfWhichOnlyTheHeaderIsLeftKeepsItsDay) {
  append_at("2026-11-21T12:00:00Z");
  leave_only_the_header("data/shard-00/2026-11-21/data000000");
  const OpeningReport second = append_at("2026-11-22T12:00:00Z");
  EXPECT_EQ(second.verdict, "clean_end");
  // The day that was begun is sealed, though it got nothing else.
  expect_batches_are_of_their_segments_day(2);
  EXPECT_NE(node.disk.find("data/shard-00/2026-11-21/finish"), nullptr);
}

TEST_F(LogDayTest, P28ADayThatWasSealedIsNotSealedAgainInTheHeaderThatFollows) {
  for (const char* later : {"2026-11-22T13:00:00Z", "2026-11-24T12:00:00Z"}) {
    append_at("2026-11-21T12:00:00Z");
    append_at("2026-11-22T12:00:00Z");
    leave_only_the_header("data/shard-00/2026-11-22/data000000");
    append_at(later);
    expect_batches_are_of_their_segments_day(later == std::string("2026-11-22T13:00:00Z") ? 2 : 3);
    node.disk.load({});
  }
}

/// Appends, and waits for retention to take the day before.
Task<> outlive_a_day(Reactor& reactor, Life& life) {
  auto appending = append_and_wait(reactor, life);
  auto appended = co_await appending;
  const Nanos again = reactor.now() + minute;
  co_await Sleep(reactor, again);
  EXPECT_EQ(life.node->disk.find("data/shard-00/2026-11-21"), nullptr) << "retention took the day";
  co_return appended;
}

Task<> read_what_is_left(Reactor& reactor, Life& life) {
  auto outliving = outlive_a_day(reactor, life);
  auto outlived = co_await outliving;
  if (!outlived) co_return outlived;
  for (const Seek& from : {Seek::earliest(), Seek::at_offset(Offset{0}), Seek::at_time(0)}) {
    auto reading =
        test::read_to_end(life.log->view(), {.stream = stream_id_of("demo"), .from = from}, std::size_t{64} * KiB);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(back->headers.size(), 2u);
    EXPECT_EQ(back->headers.front().first_offset, 1u);
    for (const std::string& notice : back->notices) EXPECT_EQ(notice, "first 1") << "what retention took is not lost";
    EXPECT_EQ(back->notices.empty(), from.by != Seek::By::offset);
  }
  co_return Result<>{};
}

TEST_F(LogDayTest, AStreamIsReadOnWhenRetentionTookAWholeDay) {
  append_at("2026-11-21T23:59:00Z");
  append_at("2026-11-22T00:00:01Z");
  // The third begins with a complete day whose index nobody has opened yet.
  Life third;
  third.options.retain_days = 1;
  third.work = read_what_is_left;
  run(third);
}

/// A cursor at the stream's begin, when nothing of the stream is left, and what it is told once the stream goes on.
Task<> wait_where_nothing_is_left(Reactor& reactor, Life& life) {
  const Nanos dropped = reactor.now() + minute;
  co_await Sleep(reactor, dropped);
  EXPECT_EQ(life.node->disk.find("data/shard-00/2026-11-21"), nullptr) << "retention took the day";
  Reader reader(life.log->view(), {.stream = stream_id_of("demo"), .from = Seek::at_offset(Offset{0})});
  std::vector<std::byte> target(64 * KiB);
  test::ReadBack back;
  for (int round = 0; round < 4; ++round) {
    if (round == 1) {
      auto appending = append_and_wait(reactor, life);
      auto appended = co_await appending;
      if (!appended) co_return appended;
    }
    auto reading = reader.next(target);
    auto chunk = co_await reading;
    if (!chunk) co_return fail(chunk.error());
    test::take_chunk(back, *chunk, target);
  }
  EXPECT_EQ(back.notices, std::vector<std::string>{"first 1"}) << "what retention took is not lost";
  EXPECT_EQ(back.headers.size(), 1u);
  co_return Result<>{};
}

TEST_F(LogDayTest, ACursorBeforeWhatRetentionTookIsToldSoWhenTheStreamGoesOn) {
  append_at("2026-11-21T23:59:00Z");
  set_wall("2026-11-22T00:00:01Z");
  Life second;
  second.work = [](Reactor& reactor, Life& life) -> Task<> {
    auto appending = append_to(reactor, life, "other");
    co_return co_await appending;
  };
  run(second);
  Life third;
  third.options.retain_days = 1;
  third.work = wait_where_nothing_is_left;
  run(third);
}

}  // namespace
}  // namespace millrace
