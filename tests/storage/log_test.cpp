// The log over simulated disks: what it promises across stops, kills and power cuts, without the network.
#include "storage/log.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/storage/log_fixture.hpp"

namespace millrace {
namespace {

using namespace log_test;
using sim::CutProfile;

Task<> wait_durable(Reactor& reactor, Log& log, Lsn lsn) {
  while (!(log.watermarks().durable > lsn)) {
    const Nanos again = reactor.now() + nanos_per_milli / 10;
    co_await Sleep(reactor, again);
  }
  co_return Result<>{};
}

Task<> append_three(Reactor& reactor, Life& life) {
  auto stream = life.log->declare_stream("demo");
  if (!stream) co_return fail(stream.error());
  Lsn last{};
  for (std::uint64_t i = 0; i < 3; ++i) {
    auto body = body_of(i, 200);
    auto at = life.log->append(header_of({.stream = *stream, .records = 3}, body), body);
    if (!at) co_return fail(at.error().error);
    EXPECT_EQ(at->first_offset, Offset{i * 3});
    EXPECT_EQ(at->first_id, RecordId{i * 3});
    last = at->lsn;
  }
  auto waiting = wait_durable(reactor, *life.log, last);
  auto waited = co_await waiting;
  co_return waited;
}

Task<> expect_three(Reactor&, Life& life) {
  auto stream = life.log->find_stream(stream_id_of("demo"));
  if (!stream) co_return fail(stream.error());
  EXPECT_EQ(stream->next_offset, Offset{9});
  EXPECT_EQ(stream->name, "demo");
  EXPECT_EQ(life.log->watermarks().durable, Lsn{6});  // epoch, catalogue, three of data
  co_return Result<>{};
}

TEST_F(LogTest, WhatIsDurableIsThereAfterACleanStop) {
  Life first;
  first.work = append_three;
  run(first);
  EXPECT_TRUE(first.report.created);
  Life second;
  second.work = expect_three;
  run(second);
  EXPECT_FALSE(second.report.created);
  EXPECT_EQ(second.report.epoch, Epoch{2});
  EXPECT_EQ(second.report.verdict, "clean_end");
}

TEST_F(LogTest, WhatIsDurableIsThereAfterAPowerCut) {
  for (auto profile : {CutProfile::uniform, CutProfile::all_old}) {
    Life first;
    first.work = append_three;
    first.stop = false;
    if (profile == CutProfile::uniform) run(first);
    world.power_cut(node, profile);
    Life second;
    second.work = expect_three;
    second.stop = false;
    run(second);
    EXPECT_GE(second.report.epoch, Epoch{2});
  }
}

TEST_F(LogTest, AnOpeningThatIsGivenUpLeavesWhatItFound) {
  Life first;
  first.work = append_three;
  first.stop = false;
  run(first);
  world.power_cut(node, CutProfile::all_new);
  const bool gone = true;
  Life given_up;
  given_up.options.give_up = &gone;
  ASSERT_TRUE(
      sim::run_program(world, node, [&](Reactor& reactor, std::size_t) { return live(reactor, given_up); }, minute));
  EXPECT_EQ(given_up.error, Error::cancelled);
  EXPECT_EQ(given_up.report.bytes_done, 0u);
  Life second;
  second.work = expect_three;
  run(second);
}

Task<> pause(Reactor& reactor, Nanos duration) {
  const Nanos again = reactor.now() + duration;
  co_await Sleep(reactor, again);
  co_return Result<>{};
}

/// Appends one batch, waiting as long as the log says "later". The position, or the first refusal that is final.
Task<AppendPosition> append_one(Reactor& reactor, Log& log, BatchSpec spec, std::size_t length) {
  const auto body = body_of(spec.sequence + length, length);
  for (;;) {
    auto at = log.append(header_of(spec, body), body);
    if (at) co_return *at;
    if (at.error().error != Error::retry_later) co_return fail(at.error().error);
    auto pausing = pause(reactor, nanos_per_milli);
    auto paused = co_await pausing;
    if (!paused) co_return fail(paused.error());
  }
}

struct Batches {
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::uint64_t notices_of_days = 0;
  std::map<std::uint32_t, std::uint64_t> by_day;
  std::uint64_t first_offset = UINT64_MAX;
  bool gone = false;
};

/// Everything in the log, counted.
Task<Batches> read_everything(Reactor&, Log& log) {
  Batches found;
  Reader reader(log.view(), ReadRequest{});
  std::vector<std::byte> target(4 * MiB);
  for (bool more = true; more;) {
    auto reading = reader.next(target);
    auto chunk = co_await reading;
    if (!chunk) co_return fail(chunk.error());
    for (std::size_t at = 0; at < chunk->bytes;) {
      auto header = read_batch_header(Bytes(target).subspan(at));
      if (!header) co_return fail(header.error());
      ++found.batches;
      found.records += header->record_count;
      ++found.by_day[header->day];
      found.first_offset = std::min(found.first_offset, header->first_offset);
      at += batch_span(header->body_bytes);
    }
    if (chunk->notice == ReadNotice::day_finished) ++found.notices_of_days;
    if (chunk->notice == ReadNotice::data_loss || chunk->notice == ReadNotice::out_of_range) found.gone = true;
    more = chunk->notice != ReadNotice::caught_up;
  }
  co_return found;
}

Task<bool> has_file(Reactor& reactor, std::string path) {
  auto asking = Directory::status_of(reactor, path);
  auto status = co_await asking;
  co_return status.has_value();
}

void set_wall(SimWorld& world, SimNode& node, std::string_view time) {
  const std::optional<Nanos> wall = parse_time(time);
  ASSERT_TRUE(wall.has_value());
  world.jump_wall(node, *wall - world.wall_now(node));
}

Task<> append_over_midnight(Reactor& reactor, Life& life) {
  auto stream = life.log->declare_stream("demo");
  if (!stream) co_return fail(stream.error());
  Day first{};
  AppendPosition at;
  for (std::uint64_t i = 0; i < 50; ++i) {
    auto appending = append_one(reactor, *life.log, {.stream = *stream, .records = 2, .sequence = i}, 300);
    auto appended = co_await appending;
    if (!appended) co_return fail(appended.error());
    EXPECT_EQ(appended->first_offset, Offset{2 * i}) << "offsets go on over days";
    if (i == 0) first = appended->day;
    const bool same_day = i > 0 && appended->day == at.day;
    EXPECT_EQ(appended->first_id, same_day ? at.first_id.next(2) : RecordId{0}) << "ids begin anew with the day";
    at = *appended;
    auto pausing = pause(reactor, 100 * nanos_per_milli);
    auto paused = co_await pausing;
    if (!paused) co_return paused;
  }
  EXPECT_EQ(at.day, first.next());
  EXPECT_EQ(life.log->view().finished(), first);
  auto asking = has_file(reactor, "data/shard-00/" + format_day(first) + "/finish");
  auto finish = co_await asking;
  EXPECT_TRUE(finish && *finish);
  auto listing = Directory::list(reactor, "data/shard-00/" + format_day(first));
  auto entries = co_await listing;
  EXPECT_TRUE(entries.has_value());
  std::size_t segments = 0;
  for (const auto& entry : *entries) segments += entry.name.starts_with("data");
  EXPECT_EQ(segments, 1u) << "the segment named ahead left the finished day";
  auto reading = read_everything(reactor, *life.log);
  auto found = co_await reading;
  if (!found) co_return fail(found.error());
  EXPECT_EQ(found->records, 100u);
  EXPECT_EQ(found->by_day.size(), 2u);
  EXPECT_FALSE(found->gone);
  co_return Result<>{};
}

TEST_F(LogTest, ADayEndsWhileAppendsGoOn) {
  set_wall(world, node, "2026-11-21T23:59:58Z");
  Life life;
  life.work = append_over_midnight;
  run(life);
  Life second;
  second.work = [](Reactor& reactor, Life& again) -> Task<> {
    auto reading = read_everything(reactor, *again.log);
    auto found = co_await reading;
    if (!found) co_return fail(found.error());
    EXPECT_EQ(found->records, 100u);
    co_return Result<>{};
  };
  run(second);
}

Task<> wait_over_midnight(Reactor& reactor, Life& life) {
  auto working = append_three(reactor, life);
  auto worked = co_await working;
  if (!worked) co_return worked;
  auto pausing = pause(reactor, 3 * minute);
  auto paused = co_await pausing;
  auto asking = has_file(reactor, "data/shard-00/2026-11-21/finish");
  auto finish = co_await asking;
  EXPECT_TRUE(finish && *finish) << "sealed by the clock";
  auto asking_next = has_file(reactor, "data/shard-00/2026-11-22");
  auto next = co_await asking_next;
  EXPECT_TRUE(next && !*next) << "an empty day makes no files";
  EXPECT_EQ(life.log->view().finished(), Day{20'778});
  co_return paused;
}

TEST_F(LogTest, AnIdleDayIsSealedByTheClock) {
  set_wall(world, node, "2026-11-21T23:58:58Z");
  Life life;
  life.work = wait_over_midnight;
  run(life);
  Life second;
  second.work = [](Reactor& reactor, Life& again) -> Task<> {
    auto stream = again.log->declare_stream("demo");
    auto appending = append_one(reactor, *again.log, {.stream = *stream, .records = 1}, 100);
    auto appended = co_await appending;
    if (!appended) co_return fail(appended.error());
    EXPECT_EQ(appended->first_offset, Offset{9});
    EXPECT_EQ(appended->first_id, RecordId{0});
    EXPECT_EQ(appended->day, Day{20'779});
    auto waiting = wait_durable(reactor, *again.log, appended->lsn);
    auto waited = co_await waiting;
    co_return waited;
  };
  run(second);
}

struct Failures final : LogListener {
  int failed = 0;
  int reopened = 0;
  void log_durable(Lsn) override {}
  void log_failed() override { ++failed; }
  void log_reopened() override { ++reopened; }
};

Task<> fail_commits(Reactor& reactor, Life& life) {
  Failures failures;
  life.log->add_listener(failures);
  auto working = append_three(reactor, life);
  auto worked = co_await working;
  if (!worked) co_return worked;
  for (int round = 1; round <= 2; ++round) {
    sim::FaultPlan plan;
    plan[sim::FaultClass::write_error_once] = 1'000'000;
    life.world->faults().set_plan(plan);
    auto body = body_of(9, 100);
    auto at = life.log->append(header_of({.stream = stream_id_of("demo")}, body), body);
    EXPECT_TRUE(at.has_value());
    while (failures.failed < round) {
      auto pausing = pause(reactor, nanos_per_milli / 10);
      auto paused = co_await pausing;
      if (!paused) co_return paused;
    }
    life.world->faults().set_plan({});
    auto refused = life.log->append(header_of({.stream = stream_id_of("demo")}, body), body);
    EXPECT_FALSE(refused.has_value());
    auto pausing = pause(reactor, 5 * nanos_per_second);
    auto paused = co_await pausing;
    if (!paused) co_return paused;
    EXPECT_EQ(failures.reopened, 1);
    EXPECT_EQ(life.log->condition(), round == 1 ? LogCondition::serving : LogCondition::closed);
    auto reading = read_everything(reactor, *life.log);
    auto found = co_await reading;
    EXPECT_EQ(found.has_value(), round == 1);
    if (found) {
      EXPECT_GE(found->records, 9u);
    }
  }
  auto refused = life.log->append(header_of({.stream = stream_id_of("demo")}, {}), {});
  EXPECT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().error, Error::closed);
  life.log->remove_listener(failures);
  co_return Result<>{};
}

TEST_F(LogTest, AFailedCommitIsUnknownAndTheLogOpensItselfAnewOnce) {
  Life life;
  life.work = fail_commits;
  run(life);
  Life second;
  second.work = [](Reactor& reactor, Life& again) -> Task<> {
    auto reading = read_everything(reactor, *again.log);
    auto found = co_await reading;
    if (!found) co_return fail(found.error());
    EXPECT_GE(found->records, 9u);
    EXPECT_LE(found->records, 11u);
    co_return Result<>{};
  };
  run(second);
}

/// Fills the log with batches of 1 MiB; stops at the first refusal that is not "later".
Task<std::uint64_t> fill(Reactor& reactor, Log& log, std::uint64_t batches, std::uint64_t begin) {
  auto stream = log.declare_stream("bulk");
  if (!stream) co_return fail(stream.error());
  std::uint64_t done = 0;
  for (; done < batches; ++done) {
    auto appending = append_one(reactor, log, {.stream = *stream, .sequence = begin + done}, 1 * MiB - 4096);
    auto appended = co_await appending;
    if (!appended) {
      EXPECT_EQ(appended.error(), Error::no_space);
      break;
    }
    auto pausing = pause(reactor, 2 * nanos_per_milli);
    auto paused = co_await pausing;
    if (!paused) co_return fail(paused.error());
  }
  co_return done;
}

Task<> fill_the_disk(Reactor& reactor, Life& life) {
  auto filling = fill(reactor, *life.log, 200, 0);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  EXPECT_LT(*filled, 200u);
  EXPECT_GT(*filled, 20u);
  EXPECT_EQ(life.log->condition(), LogCondition::no_space);
  auto pausing = pause(reactor, nanos_per_second);
  auto paused = co_await pausing;
  if (!paused) co_return paused;
  EXPECT_EQ(life.log->watermarks().durable, life.log->watermarks().appended) << "what was accepted is durable";
  auto reading = read_everything(reactor, *life.log);
  auto found = co_await reading;
  if (!found) co_return fail(found.error());
  EXPECT_EQ(found->records, *filled) << "reads go on";
  life.node->disk.capacity_bytes = 1 * GiB;
  auto waiting = pause(reactor, 3 * nanos_per_second);
  auto waited = co_await waiting;
  auto again = fill(reactor, *life.log, 30, *filled);
  auto more = co_await again;
  if (!more) co_return fail(more.error());
  EXPECT_EQ(*more, 30u) << "service resumes by itself";
  EXPECT_EQ(life.log->condition(), LogCondition::serving);
  co_return waited;
}

TEST_F(LogTest, AFullDiskIsAStateAndPasses) {
  node.disk.capacity_bytes = 72 * MiB;
  Life life;
  life.work = fill_the_disk;
  run(life);
}

/// Fills segments faster than others are prepared, until one is closed, with its run and the state written, and its successor has no
/// file; then the process dies.
Task<> close_without_a_successor(Reactor& reactor, Life& life) {
  life.node->tempo.other = 10'000;
  auto filling = fill(reactor, *life.log, 48, 0);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  auto pausing = pause(reactor, 300 * nanos_per_milli);
  auto paused = co_await pausing;
  EXPECT_LT(life.log->watermarks().durable, life.log->watermarks().appended) << "something waits for a file";
  EXPECT_EQ(life.log->stats().pool_ready, 0u);
  life.node->tempo.other = 1;
  co_return paused;
}

Task<> go_on_in_small_batches(Reactor& reactor, Life& life) {
  auto stream = life.log->declare_stream("small");
  if (!stream) co_return fail(stream.error());
  for (std::uint64_t i = 0; i < 40; ++i) {
    auto appending = append_one(reactor, *life.log, {.stream = *stream, .sequence = i}, 1000);
    auto appended = co_await appending;
    if (!appended) co_return fail(appended.error());
  }
  auto filling = fill(reactor, *life.log, 40, 0);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  EXPECT_EQ(*filled, 40u);
  auto pausing = pause(reactor, nanos_per_second);
  co_return co_await pausing;
}

Task<> expect_small_batches(Reactor& reactor, Life& life) {
  auto small = life.log->find_stream(stream_id_of("small"));
  EXPECT_TRUE(small.has_value()) << "the tables lack what went into a segment that was closed before";
  if (!small) co_return fail(small.error());
  EXPECT_EQ(small->next_offset, Offset{40});
  Reader reader(life.log->view(), ReadRequest{.stream = stream_id_of("small"), .from = Seek::earliest()});
  std::vector<std::byte> target(4 * MiB);
  auto reading = reader.next(target);
  auto chunk = co_await reading;
  if (!chunk) co_return fail(chunk.error());
  EXPECT_EQ(chunk->records, 40u);
  EXPECT_EQ(life.log->view().index().stats().runs_derived, 0u) << "the index was right";
  auto pausing = pause(reactor, nanos_per_milli);
  co_return co_await pausing;
}

// What a run of the index describes is closed: a batch that would still fit behind it after a crash would be in no index, and in no
// state either.
TEST_F(LogTest, ASegmentThatTheIndexDescribesIsNotGoneOnIn) {
  Life first;
  first.work = close_without_a_successor;
  first.stop = false;
  run(first);
  Life second;
  second.work = go_on_in_small_batches;
  run(second);
  Life third;
  third.work = expect_small_batches;
  run(third);
}

Task<> fill_past_retention(Reactor& reactor, Life& life) {
  auto first = append_three(reactor, life);
  auto done = co_await first;
  if (!done) co_return done;
  auto filling = fill(reactor, *life.log, 100, 0);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  EXPECT_EQ(*filled, 100u);
  auto pausing = pause(reactor, 30 * nanos_per_second);
  auto paused = co_await pausing;
  const LogStats stats = life.log->stats();
  EXPECT_GT(stats.first_kept_segment, 1u) << "the oldest segments are gone";
  EXPECT_EQ(life.log->view().first_kept().number, stats.first_kept_segment);
  auto listing = Directory::list(reactor, "data/shard-00/2026-11-21");
  auto entries = co_await listing;
  EXPECT_TRUE(entries.has_value());
  std::uint64_t segments = 0;
  for (const auto& entry : *entries) segments += entry.name.starts_with("data");
  EXPECT_LE(segments * 16 * MiB, 64 * MiB);
  co_return paused;
}

Task<> expect_tables(Reactor& reactor, Life& life) {
  auto demo = life.log->find_stream(stream_id_of("demo"));
  auto bulk = life.log->find_stream(stream_id_of("bulk"));
  EXPECT_TRUE(demo && demo->next_offset == Offset{9}) << "known although its batches are gone";
  EXPECT_TRUE(bulk && bulk->next_offset == Offset{100});
  auto filling = fill(reactor, *life.log, 5, 100);
  auto filled = co_await filling;
  if (!filled) co_return fail(filled.error());
  co_return Result<>{};
}

TEST_F(LogTest, RetentionByBytesDropsTheOldestSegmentsAndKeepsTheTables) {
  set_wall(world, node, "2026-11-21T12:00:00Z");
  Life life;
  life.options.retain_bytes = 48 * MiB;
  life.work = fill_past_retention;
  run(life);
  Life second;
  second.options.retain_bytes = 48 * MiB;
  second.work = expect_tables;
  run(second);
}

}  // namespace
}  // namespace millrace
