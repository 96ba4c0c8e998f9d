// What opening a log costs, counted in operations of the simulated kernel and in bytes: the same whatever the log holds in
// days and segments, and in proportion to its tables of streams and producers.
#include <gtest/gtest.h>

#include "base/time.hpp"
#include "tests/storage/log_lives.hpp"

namespace millrace::test {
namespace {

struct Cost {
  std::uint64_t operations = 0;  // of files, until the log is open
  std::uint64_t reads = 0;
  std::uint64_t bytes = 0;
};

using Sequences = std::map<StreamId, std::uint64_t>;

Task<> append_and_index(Reactor& reactor, Log& log, std::uint64_t batches, std::uint32_t body_bytes,
                        std::uint64_t streams, Sequences& sequences) {
  auto appending = append_batches(reactor, log, batches, body_bytes, streams, sequences);
  auto appended = co_await appending;
  if (!appended) co_return appended;
  auto settling = wait_indexed(reactor, log);
  auto settled = co_await settling;
  co_return settled;
}

/// A closed segment's worth, so that the tables are read from their file and not from the open segment.
Task<> close_a_segment(Reactor& reactor, Log& log, Sequences& sequences) {
  return append_and_index(reactor, log, 20, 1'000'000, 1, sequences);
}

Task<> use_streams(Reactor& reactor, Log& log, std::uint64_t count, Sequences& sequences) {
  auto appending = append_batches(reactor, log, count, 64, count, sequences);
  auto appended = co_await appending;
  if (!appended) co_return appended;
  EXPECT_EQ(log.stream_count(), count);
  auto closing = close_a_segment(reactor, log, sequences);
  auto closed = co_await closing;
  co_return closed;
}

Task<> use_producers(Reactor& reactor, Log& log, std::uint64_t more, Sequences& sequences) {
  for (std::uint64_t i = 0; i < more; ++i) {
    auto registering = log.register_producer(ProducerId{});
    auto registered = co_await registering;
    if (!registered) co_return fail(registered.error());
  }
  auto closing = close_a_segment(reactor, log, sequences);
  auto closed = co_await closing;
  co_return closed;
}

Task<> mark(bool& done) {
  done = true;
  co_return Result<>{};
}

class RecoveryCost : public testing::Test {
 protected:
  LogLife life_with(std::function<Task<>(Reactor&, LogLife&)> work) {
    LogLife life;
    life.options = small_log_options();
    life.work = std::move(work);
    return life;
  }

  /// Opens once more, after a kill that left the last life's end where it was.
  Cost open_again() {
    Cost cost;
    bool open = false;
    world_.before_file_operation = [&](sim::SimNode&, const Operation& operation) {
      if (open) return 0;
      ++cost.operations;
      if (operation.code == OperationCode::read) ++cost.reads, cost.bytes += operation.length;
      return 0;
    };
    LogLife life = life_with([&open](Reactor&, LogLife&) { return mark(open); });
    run_life(world_, node_, life);
    world_.before_file_operation = nullptr;
    return cost;
  }

  sim::SimWorld world_{7, sim::FaultPlan::quiet()};
  sim::SimNode& node_ = world_.add_node("server");
  Sequences sequences_;
};

void print(const char* what, std::uint64_t count, const Cost& cost) {
  std::printf("%8lu %-10s %6lu operations, %5lu reads, %9lu bytes\n", count, what, cost.operations, cost.reads,
              cost.bytes);
}

TEST_F(RecoveryCost, IsTheSameForFewDaysAndMany) {
  std::map<std::uint64_t, Cost> costs;
  for (std::uint64_t day = 1; day <= 24; ++day) {
    LogLife life = life_with([this](Reactor& reactor, LogLife& self) {
      return append_and_index(reactor, *self.log, 6, 300, 3, sequences_);
    });
    run_life(world_, node_, life);
    world_.jump_wall(node_, nanos_per_day);
    if (day == 3 || day == 6 || day == 12 || day == 24) print("days", day, costs[day] = open_again());
  }
  // The lists of levels grow with the logarithm: a file or two.
  EXPECT_LE(costs[24].operations, costs[6].operations + 4);
  EXPECT_LE(costs[24].reads, costs[6].reads + 4);
  EXPECT_LE(costs[24].bytes, costs[6].bytes + 64 * KiB);
}

TEST_F(RecoveryCost, IsTheSameForFewSegmentsAndMany) {
  std::map<std::uint64_t, Cost> costs;
  for (std::uint64_t round = 1; round <= 12; ++round) {
    // A segment and a little more each time, so that the open one is filled alike.
    LogLife life = life_with([this](Reactor& reactor, LogLife& self) {
      return append_and_index(reactor, *self.log, 17, 1'000'000, 3, sequences_);
    });
    run_life(world_, node_, life);
    if (round % 3 == 0) print("segments", round, costs[round] = open_again());
  }
  // The open segment is read whole, however full it is; what is closed costs nothing.
  EXPECT_LE(costs[12].operations, costs[3].operations + 16);
  EXPECT_LE(costs[12].reads, costs[3].reads + 16);
  EXPECT_LE(costs[12].bytes, costs[3].bytes + 17 * MiB);
}

/// Twice the table may cost twice as much, and a little, not more; and a row costs at most `row_bytes_max`.
void expect_linear(const std::map<std::uint64_t, Cost>& costs, std::uint64_t row_bytes_max) {
  const Cost& least = costs.at(2'500);
  const Cost& middle = costs.at(5'000);
  const Cost& most = costs.at(10'000);
  EXPECT_GT(most.bytes, least.bytes + 7'500 * 24) << "the rows are not read at all";
  EXPECT_LE(most.bytes - least.bytes, 7'500 * row_bytes_max);
  EXPECT_LE(most.bytes, least.bytes * 4 + 32 * MiB);
  EXPECT_LE(most.reads, middle.reads * 2 + 32);
  EXPECT_LE(most.operations, middle.operations * 2 + 64);
}

TEST_F(RecoveryCost, IsInProportionToStreams) {
  std::map<std::uint64_t, Cost> costs;
  for (std::uint64_t wanted : {2'500, 5'000, 10'000}) {
    LogLife life = life_with([this, wanted](Reactor& reactor, LogLife& self) {
      return use_streams(reactor, *self.log, wanted, sequences_);
    });
    run_life(world_, node_, life);
    print("streams", wanted, costs[wanted] = open_again());
  }
  expect_linear(costs, 1024);
}

TEST_F(RecoveryCost, IsInProportionToProducers) {
  std::map<std::uint64_t, Cost> costs;
  std::uint64_t known = 0;
  for (std::uint64_t wanted : {2'500, 5'000, 10'000}) {
    LogLife life = life_with([this, more = wanted - known](Reactor& reactor, LogLife& self) {
      return use_producers(reactor, *self.log, more, sequences_);
    });
    run_life(world_, node_, life);
    known = wanted;
    print("producers", wanted, costs[wanted] = open_again());
  }
  expect_linear(costs, 1024);
}

}  // namespace
}  // namespace millrace::test
