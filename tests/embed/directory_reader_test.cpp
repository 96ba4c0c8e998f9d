#include "embed/directory_reader.hpp"

#include <gtest/gtest.h>

#include "base/time.hpp"
#include "tests/storage/log_lives.hpp"

namespace millrace::test {
namespace {

using sim::SimWorld;

using Lsns = std::map<std::uint64_t, std::vector<std::uint64_t>>;

Task<ReadBack> read_whole(DirectoryReader& directory, StreamId stream) {
  auto reader = directory.read_stream(stream, Seek::at_offset(Offset{0}), false);
  EXPECT_TRUE(reader);
  auto reading = read_to_end(**reader, 256 * KiB);
  co_return co_await reading;
}

Task<> read_directory(Reactor& reactor, Lsns& lsns, std::string& diagnosis, Error& error) {
  DirectoryOptions options;
  options.directory = "data";
  auto opening = DirectoryReader::open(reactor, options, diagnosis);
  auto opened = co_await opening;
  if (!opened) {
    error = opened.error();
    co_return Result<>{};
  }
  for (const DirectoryStream& stream : (*opened)->streams()) {
    auto reading = read_whole(**opened, stream.id);
    auto back = co_await reading;
    if (!back->ended) error = back->ended.error();
    for (const BatchHeader& header : back->headers) lsns[stream.id.value].push_back(header.lsn);
    for (const std::string& notice : back->notices) EXPECT_TRUE(notice.starts_with("day")) << notice;
    EXPECT_EQ(back->headers.empty() ? 0 : back->headers.back().first_offset + back->headers.back().record_count,
              stream.next_offset.value);
  }
  co_return Result<>{};
}

struct Followed {
  Lsns lsns;
  std::uint64_t total = 0;
  std::string diagnosis;
  bool stop = false;
  bool ended = false;
  std::uint64_t segments = 0;
  std::uint64_t runs_in_memory = 0;
};

Task<> follow_shard(Reactor& reactor, Followed& followed) {
  DirectoryOptions options;
  options.directory = "data";
  auto opening = DirectoryReader::open(reactor, options, followed.diagnosis);
  auto opened = co_await opening;
  if (!opened) co_return Result<>{};
  auto reader = (*opened)->read_shard(ShardIndex{0}, Seek::earliest(), true);
  EXPECT_TRUE(reader);
  std::vector<std::byte> target(256 * KiB);
  while (!followed.stop) {
    auto reading = (*reader)->next(target);
    auto chunk = co_await reading;
    if (!chunk) break;
    ReadBack back;
    take_chunk(back, *chunk, target);
    for (const std::string& notice : back.notices) EXPECT_TRUE(notice.starts_with("day")) << notice;
    for (const BatchHeader& header : back.headers) followed.lsns[header.stream_id].push_back(header.lsn);
    followed.total += back.headers.size();
    followed.segments = (*opened)->shards()[0].segments;
    followed.runs_in_memory = (*opened)->shards()[0].runs_in_memory;
  }
  followed.ended = true;
  co_return Result<>{};
}

struct Work {
  std::uint64_t batches = 0;
  std::uint32_t body_bytes = 0;
  Nanos linger = 0;
  std::map<StreamId, std::uint64_t> sequences{};
  Lsns lsns{};
};

Task<> fill(Reactor& reactor, LogLife& life, Work& work) {
  auto appending = append_batches(reactor, *life.log, work.batches, work.body_bytes, 4, work.sequences);
  auto appended = co_await appending;
  if (!appended) co_return appended;
  auto reading = read_all_streams(*life.log);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  work.lsns = std::move(*read);
  const Nanos until = reactor.now() + work.linger;
  co_await Sleep(reactor, until);
  co_return Result<>{};
}

class DirectoryReading : public testing::Test {
 protected:
  DirectoryReading() : world(21, sim::FaultPlan{}), node(world.add_node("server")) {}

  void read(Lsns& lsns, Error& error) {
    std::string diagnosis;
    const bool ended = sim::run_program(
        world, node, [&](Reactor& reactor, std::size_t) { return read_directory(reactor, lsns, diagnosis, error); },
        3600 * nanos_per_second);
    ASSERT_TRUE(ended);
    EXPECT_EQ(error == Error{}, diagnosis.empty()) << diagnosis;
  }
  void live(Work& work, bool stop) {
    LogLife life;
    life.options = small_log_options();
    life.stop = stop;
    life.work = [&work](Reactor& reactor, LogLife& self) { return fill(reactor, self, work); };
    run_life(world, node, life);
  }

  /// Follows the log from soon after its life began to the life's end, and to the end of its `batches`.
  Followed follow(LogLife& life, std::uint64_t batches) {
    Followed followed;
    auto& server = world.start(node, 1, sim::CoroutineProgram::factory([&life](Reactor& reactor, std::size_t) {
                                 return live_once(reactor, life);
                               }));
    world.run_for(nanos_per_second / 20);
    auto& reader = world.start(node, 1, sim::CoroutineProgram::factory([&followed](Reactor& reactor, std::size_t) {
                                 return follow_shard(reactor, followed);
                               }));
    EXPECT_TRUE(
        world.run_until([&] { return !server.running() && followed.total >= batches; }, 600 * nanos_per_second));
    EXPECT_EQ(followed.diagnosis, "");
    world.kill(reader);
    return followed;
  }

  SimWorld world;
  sim::SimNode& node;
};

TEST_F(DirectoryReading, a_stopped_directory_reads_like_its_server) {
  Work work{.batches = 700, .body_bytes = 60 * KiB};
  live(work, true);
  Lsns lsns;
  Error error{};
  read(lsns, error);
  EXPECT_EQ(error, Error{});
  EXPECT_TRUE(lsns == work.lsns);
}

TEST_F(DirectoryReading, a_copy_without_index_state_and_with_a_tail_reads_the_same) {
  Work work{.batches = 700, .body_bytes = 60 * KiB};
  live(work, true);
  Work more{.batches = 3, .body_bytes = 100, .sequences = work.sequences};
  live(more, false);  // killed: the last batches are in the tail only
  auto image = node.disk.image();
  std::erase_if(image,
                [](const auto& file) { return file.first.ends_with("/index") || file.first.ends_with("/state"); });
  node.disk.load(image);
  Lsns lsns;
  Error error{};
  read(lsns, error);
  EXPECT_EQ(error, Error{});
  EXPECT_TRUE(lsns == more.lsns);
  EXPECT_TRUE(node.disk.image() == image) << "reading writes nothing";
}

TEST_F(DirectoryReading, a_live_log_is_followed) {
  Work work{.batches = 900, .body_bytes = 30 * KiB, .linger = 2 * nanos_per_second};
  LogLife life;
  life.options = small_log_options();
  life.work = [&work](Reactor& reactor, LogLife& self) { return fill(reactor, self, work); };
  const Followed followed = follow(life, 900);
  EXPECT_TRUE(followed.lsns == work.lsns);
}

/// One day's segments, then midnight, then another day's.
Task<> fill_two_days(Reactor& reactor, LogLife& life, Work& work) {
  for (int day = 0; day < 2; ++day) {
    auto appending = append_batches(reactor, *life.log, work.batches, work.body_bytes, 4, work.sequences);
    auto appended = co_await appending;
    if (!appended) co_return appended;
    auto indexing = wait_indexed(reactor, *life.log);
    (void)co_await indexing;
    const Nanos until = reactor.now() + work.linger;
    co_await Sleep(reactor, until);
  }
  co_return Result<>{};
}

TEST_F(DirectoryReading, a_follower_keeps_no_index_of_a_day_that_is_over) {
  world.jump_wall(node, *parse_time("2026-11-21T23:59:30Z") - world.wall_now(node));
  Work work{.batches = 900, .body_bytes = 60 * KiB, .linger = 40 * nanos_per_second};
  LogLife life;
  life.options = small_log_options();
  life.work = [&work](Reactor& reactor, LogLife& self) { return fill_two_days(reactor, self, work); };
  const Followed followed = follow(life, 1800);
  EXPECT_GE(followed.segments, 6u) << "not enough to tell";
  EXPECT_LE(followed.runs_in_memory, followed.segments / 2 + 1) << "the first day's are still kept";
}

// ---- Damage.

struct Damaged {
  std::map<std::uint64_t, ReadBack> streams;
  std::map<std::uint64_t, Offset> next;  // as the directory tells the stream's end
  std::string diagnosis;
};

Task<> read_damaged(Reactor& reactor, Damaged& damaged) {
  DirectoryOptions options;
  options.directory = "data";
  auto opening = DirectoryReader::open(reactor, options, damaged.diagnosis);
  auto opened = co_await opening;
  if (!opened) co_return Result<>{};
  for (const DirectoryStream& stream : (*opened)->streams()) {
    auto reading = read_whole(**opened, stream.id);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    damaged.streams[stream.id.value] = std::move(*back);
    damaged.next[stream.id.value] = stream.next_offset;
  }
  co_return Result<>{};
}

class DamagedDirectory : public DirectoryReading {
 protected:
  DamagedDirectory() { world.jump_wall(node, *parse_time("2026-11-21T12:00:00Z") - world.wall_now(node)); }
  static std::string segment(int number) { return "data/shard-00/2026-11-21/data00000" + std::to_string(number); }

  Damaged read_all() {
    Damaged damaged;
    const bool ended = sim::run_program(
        world, node, [&](Reactor& reactor, std::size_t) { return read_damaged(reactor, damaged); },
        3600 * nanos_per_second);
    EXPECT_TRUE(ended);
    EXPECT_EQ(damaged.diagnosis, "");
    return damaged;
  }
  BatchHeader header_at(const std::string& path, std::uint64_t position) {
    const std::vector<std::byte> bytes = node.disk.find(path)->file.content(false);
    return load<BatchHeader>(Bytes(bytes).subspan(position));
  }
};

TEST_F(DamagedDirectory, P18ALossAtTheEndOfAStreamIsTold) {
  Work work{.batches = 8, .body_bytes = 40'000, .linger = 50 * nanos_per_milli};
  live(work, true);
  const std::uint64_t position = last_batch_in(node, segment(0));
  const BatchHeader lost = header_at(segment(0), position);
  flip_bit(node, segment(0), position + batch_header_bytes + 100);
  // As it stands there: the header still says what is lost.
  const std::string as_found =
      "lost " + std::to_string(lost.first_offset) + " next " + std::to_string(lost.first_offset + lost.record_count);
  Damaged first = read_all();
  EXPECT_EQ(first.streams.at(lost.stream_id).headers.size(), 1u);
  EXPECT_EQ(first.streams.at(lost.stream_id).notices, std::vector<std::string>{as_found});
  EXPECT_EQ(first.next.at(lost.stream_id), Offset{lost.first_offset + lost.record_count});
  // And after a server came to it, which skips the lost offsets with its epoch batch and writes nothing else.
  LogLife second;
  second.options = small_log_options();
  second.work = [](Reactor& reactor, LogLife&) -> Task<> {
    const Nanos told = reactor.now() + 50 * nanos_per_milli;
    co_await Sleep(reactor, told);
    co_return Result<>{};
  };
  run_life(world, node, second);
  EXPECT_EQ(second.report.lost_batches, 1u);
  Damaged after = read_all();
  const std::string skipped =
      "lost " + std::to_string(lost.first_offset) + " next " + std::to_string(after.next.at(lost.stream_id).value);
  EXPECT_GE(after.next.at(lost.stream_id), Offset{lost.first_offset + lost.record_count});
  EXPECT_EQ(after.streams.at(lost.stream_id).headers.size(), 1u);
  EXPECT_EQ(after.streams.at(lost.stream_id).notices, std::vector<std::string>{skipped});
}

TEST_F(DamagedDirectory, P18AnUnreadableBlockCostsWhatStandsInIt) {
  Work work{.batches = 700, .body_bytes = 60 * KiB, .linger = 50 * nanos_per_milli};
  live(work, true);
  // In a closed segment, in the newest one, in the tail, and one copy of what node.meta says.
  std::map<std::uint64_t, std::uint64_t> lost;  // streams by batches
  for (const int number : {0, 2}) {
    const std::uint64_t position = last_batch_in(node, segment(number), number == 0 ? 1 * MiB : UINT64_MAX);
    node.disk.find(segment(number))->bad_sectors.insert((position + batch_header_bytes + 30'000) / 512);
    ++lost[header_at(segment(number), position).stream_id];
  }
  node.disk.find("data/shard-00/tail")->bad_sectors.insert(8 * 100);
  node.disk.find("data/node.meta")->bad_sectors.insert(0);
  const Damaged damaged = read_all();
  ASSERT_EQ(damaged.streams.size(), 4u);
  for (const auto& [stream, back] : damaged.streams) {
    const std::uint64_t batches = lost.contains(stream) ? lost.at(stream) : 0;
    EXPECT_EQ(back.headers.size(), work.lsns.at(stream).size() - batches);
    EXPECT_EQ(back.notices.size(), batches);
  }
  for (const int number : {0, 2}) node.disk.find(segment(number))->bad_sectors.clear();
  for (const auto& [stream, back] : read_all().streams) EXPECT_EQ(back.headers.size(), work.lsns.at(stream).size());
}

TEST_F(DirectoryReading, what_is_no_directory_is_refused) {
  Lsns lsns;
  Error error{};
  read(lsns, error);
  EXPECT_EQ(error, Error::not_found);
}

}  // namespace
}  // namespace millrace::test
