// The shipped server on simulated kernels: what it stores it gives back, after restarts and kills too, on whatever shard.
#include "tests/server/server_fixture.hpp"

namespace millrace::test {
namespace {

TEST_F(ServerTest, AppendsAreAcknowledgedAndReadBack) {
  start();
  run(append_and_read);
  stop();
  EXPECT_TRUE(said.errors.empty());
}

Task<> expect_fifteen(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "demo", false});
  RECEIVE(opened);
  auto stream = wire::decode_stream_opened(opened->frame());
  EXPECT_TRUE(stream && !stream->created && stream->next == Offset{15});
  co_return Result<>();
}

TEST_F(ServerTest, AnswersTheSameAfterARestartAndAKill) {
  start();
  run(append_and_read);
  stop();
  start();
  run(expect_fifteen);
  world.kill(*process);
  start();
  run(expect_fifteen);
  stop();
}

Task<> two_shards(WireClient& client) {
  GREET(ShardIndex{1});
  EXPECT_EQ(welcome->shard, ShardIndex{1});
  EXPECT_EQ(welcome->shard_count, 2u);
  bool here = false, there = false;
  for (int i = 0; !here || !there; i++) {
    std::string name = "stream-" + std::to_string(i);
    client.send(wire::OpenStream{10, name, true});
    RECEIVE(frame);
    if (wire::shard_of(stream_id_of(name), 2) == ShardIndex{1}) {
      EXPECT_EQ(frame->type(), FrameType::stream_opened);
      append(client, 11, batch_of(name, 1, "x"));
      RECEIVE(acked);
      EXPECT_EQ(wire::decode_acks(acked->frame())->entry(0).error, 0);
      here = true;
    } else {
      auto refused = wire::decode_refused(frame->frame());
      EXPECT_TRUE(refused && refused->error == Error::wrong_shard && refused->detail == 0);
      append(client, 12, batch_of(name, 1, "x"));
      RECEIVE(acked);
      auto entry = wire::decode_acks(acked->frame())->entry(0);
      EXPECT_EQ(entry.error, static_cast<std::uint16_t>(Error::wrong_shard));
      EXPECT_EQ(entry.detail, 0u);
      there = true;
    }
  }
  client.send(wire::Stat{20, StreamId{}, 0});
  RECEIVE(stat);
  auto text = wire::decode_stat_text(stat->frame());
  EXPECT_TRUE(text);
  EXPECT_NE(text->json.find("\"name\":\"stream-"), std::string_view::npos) << text->json;
  EXPECT_NE(text->json.find("\"shard\":1"), std::string_view::npos);
  co_return Result<>();
}

TEST_F(ServerTest, ConnectionsAreHandedToTheShardTheyWant) {
  config.shards = 2;
  start(2);
  run(two_shards);
  stop();
}

TEST_F(ServerTest, MoreShardsThanCores) {
  config.shards = 2;
  start(1);
  run(two_shards);
  stop();
}

Task<> refused_at_once(WireClient& client) {
  auto refusal = expect_refusal(client, Error::retry_later);
  co_return co_await refusal;
}

Task<> hold_one_and_try_another(WireClient& client) {
  GREET(wire::any_shard);
  WireClient other(client.reactor());
  auto connecting = other.connect("10.0.0.1", port);
  (void)co_await connecting;
  auto trying = refused_at_once(other);
  (void)co_await trying;
  auto closing = other.close();
  (void)co_await closing;
  co_return Result<>();
}

constexpr int many_streams = 3000;

/// One record each, many to an acknowledgement.
Task<> fill_streams(WireClient& client) {
  GREET(wire::any_shard);
  for (int i = 0; i < many_streams; i++) {
    const std::string name = "stream " + std::to_string(i);
    client.send(wire::OpenStream{2, name, true});
    append(client, 3, batch_of(name, 1, "x"));
  }
  for (int answers = 0; answers < many_streams;) {
    RECEIVE(frame);
    if (frame->type() != FrameType::acks) continue;
    auto acks = wire::decode_acks(frame->frame());
    for (std::size_t i = 0; acks && i < acks->count(); i++, answers++) EXPECT_EQ(acks->entry(i).error, 0);
  }
  co_return Result<>();
}

std::uint64_t number_behind(std::string_view json, std::string_view key) {
  const std::size_t at = json.find("\"" + std::string(key) + "\":");
  return at == std::string_view::npos ? 0 : std::stoull(std::string(json.substr(at + key.size() + 3, 20)));
}

Task<> ask_for_all(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::Stat{20, StreamId{}, 10'000});
  RECEIVE(stat);
  auto text = wire::decode_stat_text(stat->frame());
  EXPECT_TRUE(text);
  if (!text) co_return fail(text.error());
  EXPECT_EQ(number_behind(text->json, "streams_total"), std::uint64_t{many_streams});
  std::size_t rows = 0;
  for (std::size_t at = 0; (at = text->json.find("\"name\":", at)) != std::string_view::npos; at++) rows++;
  EXPECT_EQ(rows, std::size_t{many_streams});
  EXPECT_EQ(number_behind(text->json, "segments"), 1u);
  EXPECT_GT(number_behind(text->json, "log_bytes"), std::uint64_t{many_streams});
  EXPECT_LE(number_behind(text->json, "log_bytes"), 16 * MiB);
  // Bytes that went to files, those of segments prepared ahead among them, and rounds that answered.
  EXPECT_GE(number_behind(text->json, "written_bytes") + number_behind(text->json, "zeroed_bytes"), 16 * MiB);
  const std::uint64_t rounds = number_behind(text->json, "acknowledgement_rounds");
  EXPECT_GT(rounds, 0u);
  EXPECT_LE(rounds, number_behind(text->json, "durable_writes"));
  co_return Result<>();
}

TEST_F(ServerTest, StatShowsEveryStreamAndTakesSeveralTurns) {
  start();
  run(fill_streams);
  Reactor& reactor = *process->program().reactors()[0];
  const std::uint64_t before = reactor.stats().turns;
  run(ask_for_all);
  // 512 streams a turn, looked at once and written down once.
  EXPECT_GE(reactor.stats().turns - before, std::uint64_t{2 * many_streams / 512});
  stop();
}

TEST_F(ServerTest, ConnectionsBeyondTheLimitAreToldToComeBack) {
  config.connections_max = 1;
  start();
  run(hold_one_and_try_another);
  run(ping);
  stop();
}

TEST_F(ServerTest, ADirectoryThatIsInUseIsRefusedByName) {
  start();
  KeptDiagnostics second;
  ServerConfig other = config;
  other.port = 7071;
  SimProcess& late = world.start(node, 1, [&](std::span<Kernel* const> kernels) {
    return std::make_unique<ServerProgram>(kernels, other, second);
  });
  ASSERT_TRUE(world.run_until([&] { return !late.running(); }, 10 * nanos_per_second));
  ASSERT_EQ(second.errors.size(), 1u);
  EXPECT_NE(second.errors[0].find("another process has data open"), std::string::npos) << second.errors[0];
  run(ping);
  stop();
}

Task<> append_much(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "bulk", true});
  RECEIVE(opened);
  // Small batches that fit a busy connection's memory many times, and each tenth larger than that.
  std::uint64_t records = 0;
  for (std::uint64_t i = 0; i < 60; i++) {
    const std::uint32_t count = i % 10 == 9 ? 14'000 : 1'000;
    append(client, 100 + i, batch_of("bulk", count, "a record of a busy connection"));
    records += count;
  }
  std::uint64_t answered = 0, next_offset = 0;
  while (answered < 60) {
    RECEIVE(frame);
    auto acks = wire::decode_acks(frame->frame());
    EXPECT_TRUE(acks);
    if (!acks) co_return fail(acks.error());
    for (std::size_t i = 0; i < acks->count(); i++, answered++) {
      const auto entry = acks->entry(i);
      EXPECT_EQ(entry.error, 0);
      EXPECT_EQ(entry.request_id, 100 + answered);
      EXPECT_EQ(entry.first_offset, next_offset);
      next_offset += answered % 10 == 9 ? 14'000 : 1'000;
    }
  }
  EXPECT_EQ(next_offset, records);
  // Quiet for longer than a busy connection keeps its memory; what comes then goes the common way.
  Sleep pause(client.reactor(), client.reactor().now() + 3 * nanos_per_second);
  co_await pause;
  append(client, 7, batch_of("bulk", 3, "after the pause"));
  RECEIVE(acked);
  EXPECT_EQ(wire::decode_acks(acked->frame())->entry(0).first_offset, records);
  co_return Result<>();
}

TEST_F(ServerTest, ABusyConnectionGetsMemoryOfItsOwnAndGivesItBack) {
  start();
  run(append_much);
  run(ping);
  stop();
  EXPECT_TRUE(said.errors.empty());
}

TEST_F(ServerTest, APortInUseIsRefusedByName) {
  start();
  KeptDiagnostics second;
  ServerConfig other = config;
  other.data = "elsewhere";
  SimProcess& late = world.start(node, 1, [&](std::span<Kernel* const> kernels) {
    return std::make_unique<ServerProgram>(kernels, other, second);
  });
  ASSERT_TRUE(world.run_until([&] { return !late.running(); }, 60 * nanos_per_second));
  ASSERT_EQ(second.errors.size(), 1u);
  EXPECT_NE(second.errors[0].find("7070"), std::string::npos) << second.errors[0];
  EXPECT_NE(second.errors[0].find("another program listens"), std::string::npos);
  run(ping);
  stop();
}

TEST_F(ServerTest, WhatWasFixedAtCreationIsNotChangedSilently) {
  start();
  stop();
  ServerConfig other = config;
  other.shards = 2;
  SimProcess& wrong = world.start(
      node, 1, [&](std::span<Kernel* const> kernels) { return std::make_unique<ServerProgram>(kernels, other, said); });
  ASSERT_TRUE(world.run_until([&] { return !wrong.running(); }, 10 * nanos_per_second));
  ASSERT_EQ(said.errors.size(), 1u);
  EXPECT_NE(said.errors[0].find("has 1 shards and --shards says 2"), std::string::npos) << said.errors[0];
}

}  // namespace
}  // namespace millrace::test
