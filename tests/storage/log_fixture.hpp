// What the tests of the log share: batches made by hand, and the lives of a process with a log on one simulated disk.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/hash.hpp"
#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/log.hpp"
#include "tests/sim/sim_program.hpp"
#include "tests/storage/log_lives.hpp"

namespace millrace::log_test {

using sim::SimNode;
using sim::SimWorld;

inline constexpr Nanos minute = 60 * nanos_per_second;

inline std::vector<std::byte> body_of(std::uint64_t seed, std::size_t length) {
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

inline BatchHeader header_of(const BatchSpec& spec, Bytes body) {
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

inline LogOptions options_of() {
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
  SimWorld* world = nullptr;
  SimNode* node = nullptr;
  std::optional<Error> error;
  bool stop = true;
  bool ended = false;
};

inline Task<> live(Reactor& reactor, Life& life) {
  auto opening = test::open_in_data(reactor, life.options, life.report);
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
    life.world = &world;
    life.node = &node;
    ASSERT_TRUE(sim::run_program(
        world, node, [&life](Reactor& reactor, std::size_t) { return live(reactor, life); }, limit))
        << life.report.step << " " << life.report.diagnosis;
    EXPECT_FALSE(life.error.has_value()) << error_name(*life.error) << ": " << life.report.diagnosis;
  }

  SimWorld world;
  SimNode& node;
};

}  // namespace millrace::log_test
