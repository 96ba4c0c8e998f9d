// The log over simulated disks: what it promises across stops, kills and power cuts, without the network.
#include "storage/log.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace {
namespace {

using sim::CutProfile;
using sim::SimNode;
using sim::SimWorld;

constexpr Nanos minute = 60 * nanos_per_second;

std::vector<std::byte> body_of(std::uint64_t seed, std::size_t length) {
  std::vector<std::byte> body(length);
  for (std::size_t i = 0; i < length; ++i) body[i] = static_cast<std::byte>(seed * 31 + i * 7 + (i >> 8));
  return body;
}

struct BatchSpec {
  StreamId stream{};
  std::uint32_t records = 1;
  std::uint64_t producer = 0;
  std::uint32_t epoch = 0;
  std::uint64_t sequence = 0;
};

BatchHeader header_of(const BatchSpec& spec, Bytes body) {
  BatchHeader header;
  header.stream_id = spec.stream.value;
  header.record_count = spec.records;
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.raw_bytes = body.size();
  header.body_hash = hash128(body);
  header.producer_id = spec.producer;
  header.producer_epoch = spec.epoch;
  header.producer_sequence = spec.sequence;
  return header;
}

LogOptions options_of() {
  LogOptions options;
  options.directory = "data/shard-00";
  options.node_meta_path = "data/node.meta";
  options.segment_bytes = 16 * MiB;
  options.memory_bytes = 64 * MiB;
  return options;
}

/// What one life of a process does with the log; a plain coroutine function over plain data.
struct Life {
  LogOptions options = options_of();
  OpeningReport report;
  std::unique_ptr<Log> log;
  std::function<Task<>(Reactor&, Life&)> work;
  std::optional<Error> error;
  bool stop = true;
  bool ended = false;
};

Task<> live(Reactor& reactor, Life& life) {
  auto making = Directory::make(reactor, "data");
  auto made = co_await making;
  EXPECT_TRUE(made || made.error() == Error::already_exists);
  auto naming = Directory::sync(reactor, "");
  auto named = co_await naming;
  EXPECT_TRUE(named);
  auto opening = Log::open(reactor, life.options, life.report);
  auto opened = co_await opening;
  if (!opened) {
    life.error = opened.error();
    co_return Result<>{};
  }
  life.log = std::move(*opened);
  if (life.work) {
    auto working = life.work(reactor, life);
    auto worked = co_await working;
    if (!worked) life.error = worked.error();
  }
  if (life.stop) {
    auto stopping = life.log->stop();
    auto stopped = co_await stopping;
    EXPECT_TRUE(stopped);
  }
  life.ended = true;
  life.log.reset();
  co_return Result<>{};
}

class LogTest : public testing::Test {
 protected:
  LogTest() : world(7, plan()), node(world.add_node("server")) {}
  static sim::FaultPlan plan() { return {}; }

  /// Runs a life to its end.
  void run(Life& life, Nanos limit = 10 * minute) {
    ASSERT_TRUE(sim::run_program(
        world, node, [&life](Reactor& reactor, std::size_t) { return live(reactor, life); }, limit))
        << life.report.step << " " << life.report.diagnosis;
    EXPECT_FALSE(life.error.has_value()) << error_name(*life.error) << ": " << life.report.diagnosis;
  }

  SimWorld world;
  SimNode& node;
};

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

}  // namespace
}  // namespace millrace
