// What is derivable is derived: the index byte by byte (P24), the tables answer by answer (P10), at the cost that the state file and
// the index were there to save.
#include <gtest/gtest.h>

#include "storage/index_unit.hpp"
#include "tests/storage/log_lives.hpp"

namespace millrace::test {
namespace {

using sim::DirectoryImage;
using sim::SimWorld;

struct Answers {
  std::map<std::string, std::uint64_t> next_offsets;
  std::map<std::uint64_t, std::vector<std::uint64_t>> lsns;
  Lsn durable{};
  bool operator==(const Answers&) const = default;
};

Task<> ask(Log& log, Answers& answers) {
  log.visit_streams(0, streams_max, [&](const StreamInfo& info) {
    answers.next_offsets[std::string(info.name)] = info.next_offset.value;
  });
  auto reading = read_all_streams(log);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  answers.lsns = std::move(*read);
  co_return Result<>{};
}

struct Script {
  std::uint64_t batches = 0;
  std::map<StreamId, std::uint64_t> sequences;
  Answers answers;
};

Task<> fill(Reactor& reactor, LogLife& life, Script& script) {
  auto appending = append_batches(reactor, *life.log, script.batches, 60 * KiB, 5, script.sequences);
  auto appended = co_await appending;
  if (!appended) co_return appended;
  auto waiting = wait_indexed(reactor, *life.log);
  (void)co_await waiting;
  auto asking = ask(*life.log, script.answers);
  co_return co_await asking;
}

Task<> only_ask(Reactor& reactor, LogLife& life, Script& script) {
  auto waiting = wait_indexed(reactor, *life.log);
  (void)co_await waiting;
  auto asking = ask(*life.log, script.answers);
  co_return co_await asking;
}

class Rebuild : public testing::Test {
 protected:
  Rebuild() : world(11, sim::FaultPlan{}), node(world.add_node("server")) {}

  void live(Script& script, Task<> (*work)(Reactor&, LogLife&, Script&), LogLife& life) {
    life.options = small_log_options();
    life.work = [&script, work](Reactor& reactor, LogLife& self) { return work(reactor, self, script); };
    run_life(world, node, life);
  }

  void fill_log(Script& script, std::uint64_t batches) {
    script.batches = batches;
    LogLife life;
    live(script, fill, life);
  }
  /// A life a day that fills the log by the script.
  void live_three_days(Script& script) {
    for (int day = 0; day < 3; ++day) {
      LogLife life;
      live(script, fill, life);
      if (HasFatalFailure()) return;
      world.jump_wall(node, nanos_per_day);
    }
  }

  /// A life that appends nothing reads what the one of `first` read.
  template <class Case>
  void expect_the_same(const Script& first, const Case& which) {
    Script again;
    LogLife life;
    live(again, only_ask, life);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(again.answers.lsns == first.answers.lsns) << which;
  }

  /// The bytes of every file whose name ends so.
  std::map<std::string, std::vector<std::byte>> files(std::string_view end) const {
    std::map<std::string, std::vector<std::byte>> result;
    for (const auto& [path, bytes] : node.disk.image())
      if (path.ends_with(end)) result[path] = bytes;
    return result;
  }
  void remove(std::string_view end) {
    DirectoryImage image = node.disk.image();
    std::erase_if(image, [&](const auto& file) { return file.first.ends_with(end); });
    node.disk.load(image);
  }

  SimWorld world;
  sim::SimNode& node;
};

TEST_F(Rebuild, index_and_tables_come_back_the_same) {
  Script first;
  fill_log(first, 1000);  // about four segments
  if (HasFatalFailure()) return;
  const auto index = files("/index");
  ASSERT_EQ(index.size(), 1U);
  ASSERT_GT(index.begin()->second.size(), 3 * block_bytes);
  EXPECT_EQ(files("/state").size(), 1U) << "the state file was written behind a closed segment";

  for (const char* gone : {"/state", "/index", "both"}) {
    if (gone != std::string("/index")) remove("/state");
    if (gone != std::string("/state")) remove("/index");
    Script again;
    LogLife next;
    live(again, only_ask, next);
    if (HasFatalFailure()) return;
    EXPECT_EQ(again.answers.next_offsets, first.answers.next_offsets) << "without " << gone;
    EXPECT_TRUE(again.answers.lsns == first.answers.lsns) << "without " << gone;
    EXPECT_TRUE(files("/index") == index) << "without " << gone << ": the index is derived byte by byte";
  }
}

struct Watch {
  std::vector<IndexProgress> seen;
  bool end = false;
};

Task<> watch_derivation(Reactor& reactor, LogLife& life, Watch& watch) {
  while (!watch.end) {
    const IndexProgress now = life.log->view().index().stats().deriving;
    if (now.segments_total > 0 && (watch.seen.empty() || watch.seen.back().segments_done != now.segments_done))
      watch.seen.push_back(now);
    const Nanos again = reactor.now() + nanos_per_milli / 10;
    co_await Sleep(reactor, again);
  }
  co_return Result<>{};
}

/// The watcher sees the end before the log goes.
Task<> ask_watched(Reactor& reactor, LogLife& life, Script& script, Watch& watch) {
  auto asking = only_ask(reactor, life, script);
  auto asked = co_await asking;
  watch.end = true;
  const Nanos later = reactor.now() + nanos_per_milli;
  co_await Sleep(reactor, later);
  co_return asked;
}

// A day that is over is derived when somebody reads it.
TEST_F(Rebuild, a_derivation_says_how_far_it_is) {
  Script first;
  first.batches = 900;
  live_three_days(first);
  if (HasFatalFailure()) return;
  // The oldest day alone: the opening has no need of it.
  ASSERT_EQ(files("/index").size(), 3U);
  remove(files("/index").begin()->first);
  Watch watch;
  Script again;
  LogLife next;
  next.options = small_log_options();
  next.work = [&](Reactor& reactor, LogLife& self) {
    reactor.spawn(watch_derivation(reactor, self, watch));
    return ask_watched(reactor, self, again, watch);
  };
  run_life(world, node, next);
  ASSERT_FALSE(watch.seen.empty());
  for (std::size_t i = 0; i < watch.seen.size(); ++i) {
    EXPECT_LT(watch.seen[i].segments_done, watch.seen[i].segments_total);
    EXPECT_EQ(watch.seen[i].segments_total, watch.seen[0].segments_total);
    EXPECT_TRUE(i == 0 || watch.seen[i].segments_done > watch.seen[i - 1].segments_done) << i;
  }
}

TEST_F(Rebuild, a_torn_end_of_the_index_is_derived_anew) {
  Script first;
  fill_log(first, 800);
  if (HasFatalFailure()) return;
  const auto index = files("/index");
  Random random(5);
  for (int i = 0; i < 6; ++i) {
    DirectoryImage image = node.disk.image();
    auto& bytes = image[index.begin()->first];
    if (i < 4) bytes.resize(random.next() % bytes.size() / block_bytes * block_bytes);
    else bytes[bytes.size() - 1 - random.next() % block_bytes] ^= std::byte{4};
    if (i % 2 == 0) std::erase_if(image, [](const auto& file) { return file.first.ends_with("/state"); });
    node.disk.load(image);
    expect_the_same(first, i);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(files("/index") == index) << i;
  }
}

// Three days, then everything derivable is deleted: older days are derived when somebody reads them.
TEST_F(Rebuild, days_come_back_the_same) {
  Script script;
  script.batches = 500;
  live_three_days(script);
  if (HasFatalFailure()) return;
  // The third day is sealed by the clock of a life that appends nothing.
  LogLife idle;
  live(script, only_ask, idle);
  if (HasFatalFailure()) return;
  const Answers answers = script.answers;
  const auto index = files("/index");
  ASSERT_EQ(index.size(), 3U);
  remove("/state");
  remove("/index");
  Script again;
  LogLife next;
  live(again, only_ask, next);
  if (HasFatalFailure()) return;
  EXPECT_EQ(again.answers.next_offsets, answers.next_offsets);
  EXPECT_TRUE(again.answers.lsns == answers.lsns);
  const auto derived = files("/index");
  ASSERT_EQ(derived.size(), 3U);
  for (const auto& [path, bytes] : index) {
    const auto& other = derived.at(path);
    const auto differs = std::mismatch(bytes.begin(), bytes.end(), other.begin(), other.end()).first - bytes.begin();
    EXPECT_TRUE(bytes == other) << path << " differs at " << differs << ", " << bytes.size() << " and " << other.size();
  }
}

// One bit anywhere in an index never costs a record: what seems lost is looked for again in an index derived anew.
TEST_F(Rebuild, a_flipped_bit_in_the_index_costs_nothing) {
  Script first;
  fill_log(first, 800);
  if (HasFatalFailure()) return;
  const auto index = files("/index");
  const DirectoryImage whole = node.disk.image();
  Random random(9);
  for (int i = 0; i < 8; ++i) {
    DirectoryImage image = whole;
    auto& bytes = image[index.begin()->first];
    // Twice in the header of a unit in the middle, which the way from the end to the front goes through.
    std::size_t at = random.next() % bytes.size();
    if (i < 2) at = unit_span(read_unit_header(Bytes(bytes))->payload_bytes) * static_cast<std::size_t>(i) + 24;
    bytes[at] ^= static_cast<std::byte>(1U << random.next() % 8);
    node.disk.load(image);
    expect_the_same(first, i);
    if (HasFatalFailure()) return;
  }
}

// A hole in the index may be of any day between what was read and what is found next.
TEST_F(Rebuild, rows_of_any_day_that_were_changed_cost_nothing) {
  Script first;
  first.batches = 300;
  live_three_days(first);
  if (HasFatalFailure()) return;
  const DirectoryImage whole = node.disk.image();
  for (const auto& [path, bytes] : files("/index")) {
    DirectoryImage image = whole;
    // Nothing of the day is found by what stands there now.
    for (std::uint64_t unit = 0; unit < bytes.size();) {
      const UnitHeader header = *read_unit_header(Bytes(bytes).subspan(unit));
      const std::uint64_t rows = unit + unit_header_bytes;
      for (std::uint64_t at = rows; header.kind == UnitKind::run && at < rows + header.payload_bytes; ++at)
        image[path][at] ^= std::byte{0x55};
      unit += unit_span(header.payload_bytes);
    }
    node.disk.load(image);
    expect_the_same(first, path);
    if (HasFatalFailure()) return;
  }
}

// Nor does a block of it that the device refuses.
TEST_F(Rebuild, P18AnUnreadableBlockOfTheIndexCostsNothing) {
  Script first;
  fill_log(first, 800);
  if (HasFatalFailure()) return;
  const auto index = *files("/index").begin();
  const DirectoryImage whole = node.disk.image();
  for (std::uint64_t block = 0; block < index.second.size() / block_bytes; ++block) {
    node.disk.load(whole);
    node.disk.find(index.first)->bad_sectors.insert(block * block_bytes / 512);
    expect_the_same(first, block);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(files("/index").begin()->second == index.second) << "block " << block << " is derived anew";
  }
}

Task<> read_one(Reactor&, LogLife& life, ReadBack& back, StreamId stream) {
  ReadRequest request;
  request.stream = stream;
  auto reading = read_to_end(life.log->view(), request, 256 * KiB);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  back = std::move(*read);
  co_return Result<>{};
}

// A flipped bit in a closed segment costs its batch, which is said with stream and offsets; everything else is read.
TEST_F(Rebuild, a_flipped_bit_in_the_data_costs_its_batch_and_is_said) {
  Script script;
  fill_log(script, 600);
  if (HasFatalFailure()) return;
  DirectoryImage image = node.disk.image();
  auto segment =
      std::find_if(image.begin(), image.end(), [](const auto& file) { return file.first.ends_with("data000000"); });
  ASSERT_NE(segment, image.end());
  const std::size_t at = 5 * MiB;
  segment->second[at] ^= std::byte{1};
  // Whose batch is that?
  std::size_t begin = at / batch_align * batch_align;
  while (!read_batch_header(Bytes(segment->second).subspan(begin))) begin -= batch_align;
  const auto hit = *read_batch_header(Bytes(segment->second).subspan(begin));
  node.disk.load(image);

  ReadBack back;
  LogLife next;
  next.options = small_log_options();
  next.work = [&](Reactor& reactor, LogLife& self) { return read_one(reactor, self, back, StreamId{hit.stream_id}); };
  run_life(world, node, next);
  if (HasFatalFailure()) return;
  std::vector<std::uint64_t> expected = script.answers.lsns[hit.stream_id];
  ASSERT_EQ(std::erase(expected, hit.lsn), 1U);
  std::vector<std::uint64_t> got;
  for (const BatchHeader& header : back.headers) got.push_back(header.lsn);
  EXPECT_TRUE(got == expected) << got.size() << " of " << expected.size();
  const std::string lost =
      "lost " + std::to_string(hit.first_offset) + " next " + std::to_string(hit.first_offset + hit.record_count);
  ASSERT_EQ(back.notices.size(), 1U);
  EXPECT_EQ(back.notices[0], lost);
}

}  // namespace
}  // namespace millrace::test
