// A log whose next segment cannot be opened, as under a limit on open files: what it took before it knew is answered, never
// left waiting, and becomes durable when there is a file again.
#include <gtest/gtest.h>

#include "storage/log.hpp"
#include "tests/storage/log_fixture.hpp"

namespace millrace {
namespace {

using namespace log_test;

struct Stalls final : LogListener {
  void log_durable(Lsn) override {}
  void log_failed() override { ADD_FAILURE() << "no write failed"; }
  void log_reopened() override {}
  void log_stalled(Lsn first) override {
    from = first;
    ++told;
  }
  Lsn from{};
  int told = 0;
};

Task<> pause(Reactor& reactor, Nanos duration) {
  const Nanos again = reactor.now() + duration;
  co_await Sleep(reactor, again);
  co_return Result<>{};
}

void no_more_files(Life& life, bool none) {
  sim::FaultPlan plan;
  plan[sim::FaultClass::too_many_files] = none ? 1'000'000 : 0;
  life.world->faults().set_plan(plan);
}

constexpr std::size_t body_bytes = 1 * MiB - 4096;

/// Appends in one turn until the log refuses; the positions.
std::vector<AppendPosition> burst(Log& log, BatchSpec spec, Error& refused) {
  std::vector<AppendPosition> taken;
  for (;; ++spec.sequence) {
    const auto body = body_of(spec.sequence, body_bytes);
    auto at = log.append(header_of(spec, body), body);
    if (!at) {
      refused = at.error().error;
      return taken;
    }
    taken.push_back(*at);
  }
}

Task<> run_out_of_files(Reactor& reactor, Life& life) {
  Log& log = *life.log;
  Stalls stalls;
  log.add_listener(stalls);
  auto registering = log.register_producer(ProducerId{});
  auto producer = co_await registering;
  if (!producer) co_return fail(producer.error());
  auto stream = log.declare_stream("bulk");
  if (!stream) co_return fail(stream.error());
  auto settling = pause(reactor, nanos_per_second);
  (void)co_await settling;
  no_more_files(life, true);
  // More than the open segment and the one named ahead, before the log can know that there is no third.
  BatchSpec spec{.stream = *stream, .producer = producer->id.value, .epoch = producer->epoch};
  Error refused{};
  const auto taken = burst(log, spec, refused);
  EXPECT_EQ(refused, Error::retry_later) << "memory is full";
  EXPECT_GT(taken.size(), 30u) << "two segments hold thirty of them";
  auto waiting = pause(reactor, 3 * nanos_per_second);
  (void)co_await waiting;
  EXPECT_GE(stalls.told, 2) << "after each try";
  EXPECT_EQ(log.watermarks().durable, stalls.from) << "what has a file is durable, what has none is stalled";
  EXPECT_LE(stalls.from, taken.back().lsn);

  // Asked again, the answer is the cause, for what is new and for what was taken.
  spec.sequence = taken.size() - 1;
  const auto body = body_of(spec.sequence, body_bytes);
  auto repeat = log.append(header_of(spec, body), body);
  EXPECT_TRUE(!repeat && repeat.error().error == Error::too_many_files);
  auto another = log.register_producer(ProducerId{});
  auto unregistered = co_await another;
  EXPECT_TRUE(!unregistered && unregistered.error() == Error::too_many_files);

  no_more_files(life, false);
  auto opening = pause(reactor, 2 * nanos_per_second);
  (void)co_await opening;
  EXPECT_GT(log.watermarks().durable, taken.back().lsn) << "nothing of it is lost";
  repeat = log.append(header_of(spec, body), body);
  EXPECT_TRUE(repeat && repeat->repeat && repeat->lsn == taken.back().lsn);
  log.remove_listener(stalls);
  co_return Result<>{};
}

TEST_F(LogTest, WhatWaitsForAFileThatCannotBeOpenedIsAnswered) {
  Life life;
  life.options.memory_bytes = 256 * MiB;
  life.work = run_out_of_files;
  run(life);
}

/// A registration that is under way when the files run out.
Task<> register_without_files(Reactor& reactor, Life& life) {
  Log& log = *life.log;
  auto stream = log.declare_stream("bulk");
  if (!stream) co_return fail(stream.error());
  BatchSpec spec{.stream = *stream};
  const auto body = body_of(1, body_bytes);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(log.append(header_of(spec, body), body));
  auto settling = pause(reactor, nanos_per_second);
  (void)co_await settling;
  no_more_files(life, true);
  for (int i = 0; i < 28; ++i) EXPECT_TRUE(log.append(header_of(spec, body), body));
  auto registering = log.register_producer(ProducerId{});
  auto registered = co_await registering;
  EXPECT_TRUE(!registered && registered.error() == Error::too_many_files);
  no_more_files(life, false);
  auto opening = pause(reactor, 2 * nanos_per_second);
  (void)co_await opening;
  co_return Result<>{};
}

TEST_F(LogTest, ARegistrationThatWaitsForAFileIsAnswered) {
  Life life;
  life.options.memory_bytes = 256 * MiB;
  life.work = register_without_files;
  run(life);
}

}  // namespace
}  // namespace millrace
