// A server in the simulated world, clients that talk to it from a node of their own, and the conversations several tests need.
#pragma once

#include <gtest/gtest.h>

#include "tests/server/server_program.hpp"

namespace millrace::test {

using sim::FaultPlan;
using sim::SimNode;
using sim::SimProcess;
using sim::SimWorld;

inline constexpr std::uint16_t port = 7070;
inline constexpr Nanos patience = 60 * nanos_per_second;

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() : world(1, FaultPlan{}), node(world.add_node("server")) { config.port = port; }

  void start(std::uint32_t cores = 1) {
    process = &world.start(node, cores, [&](std::span<Kernel* const> kernels) {
      return std::make_unique<ServerProgram>(kernels, config, said);
    });
    ASSERT_TRUE(
        world.run_until([&] { return server().phase() == ServerPhase::serving || !process->running(); }, patience));
    ASSERT_TRUE(process->running()) << (said.errors.empty() ? "no error said" : said.errors[0]);
  }
  Server& server() { return static_cast<ServerProgram&>(process->program()).server; }
  void stop() {
    server().stop();
    ASSERT_TRUE(world.run_until([&] { return !process->running(); }, 5 * nanos_per_second))
        << "slower than five seconds";
  }
  using Talk = Task<> (*)(WireClient& client);
  static Task<> talk_to_server(Reactor& reactor, Talk talk) {
    WireClient client(reactor);
    auto connecting = client.connect("10.0.0.1", port);
    auto connected = co_await connecting;
    EXPECT_TRUE(connected);
    if (!connected) co_return Result<>();
    auto talking = talk(client);
    auto talked = co_await talking;
    EXPECT_TRUE(talked) << error_name(talked.error());
    auto closing = client.close();
    (void)co_await closing;
    co_return Result<>();
  }
  /// Runs `talk` in a process of its own, to its end.
  void run(Talk talk) {
    if (clients == nullptr) clients = &world.add_node("clients");
    auto body = [talk](Reactor& reactor, std::size_t) { return talk_to_server(reactor, talk); };
    // A buffer ring is the process's own business; the program gives it before its first receive.
    auto giving = [body](Reactor& reactor, std::size_t shard) {
      (void)reactor.kernel().provide_buffers(16, 64 * KiB);
      return body(reactor, shard);
    };
    ASSERT_TRUE(sim::run_program(world, *clients, giving, patience)) << "the client did not end";
  }

  KeptDiagnostics said;
  SimWorld world;
  SimNode& node;
  SimNode* clients = nullptr;
  ServerConfig config = small_config();
  SimProcess* process = nullptr;
};

#define RECEIVE(name)                       \
  auto receiving_##name = client.receive(); \
  auto name = co_await receiving_##name;    \
  EXPECT_TRUE(name) << #name;               \
  if (!name) co_return fail(name.error())

#define GREET(shard)                   \
  auto greeting = client.greet(shard); \
  auto welcome = co_await greeting;    \
  EXPECT_TRUE(welcome);                \
  if (!welcome) co_return fail(welcome.error())

inline void append(WireClient& client, std::uint64_t id, const std::vector<std::byte>& batch) {
  client.send(wire::Append{id, batch});
}

/// Sends one append and gives back its entry.
inline Task<wire::AckEntry> answer_of(WireClient& client, std::vector<std::byte> batch) {
  append(client, 50, batch);
  RECEIVE(frame);
  auto acks = wire::decode_acks(frame->frame());
  EXPECT_TRUE(acks && acks->count() == 1);
  if (!acks) co_return fail(acks.error());
  co_return acks->entry(0);
}

/// One last frame with this error and the flag closing, then the end of the connection.
inline Task<> expect_refusal(WireClient& client, Error error) {
  RECEIVE(frame);
  auto refused = wire::decode_refused(frame->frame());
  EXPECT_TRUE(refused);
  if (!refused) co_return Result<>();
  EXPECT_EQ(refused->error, error) << error_name(refused->error);
  EXPECT_TRUE(refused->closing);
  EXPECT_FALSE(refused->text.empty());
  auto last = client.receive();
  auto end = co_await last;
  EXPECT_FALSE(end);
  co_return Result<>();
}

inline Task<> ping(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::Ping{8, 99});
  RECEIVE(pong);
  auto answer = wire::decode_pong(pong->frame());
  EXPECT_TRUE(answer && answer->request_id == 8 && answer->token == 99);
  co_return Result<>();
}

inline Task<> append_and_read(WireClient& client) {
  GREET(wire::any_shard);
  EXPECT_EQ(welcome->shard_count, 1u);
  EXPECT_EQ(welcome->server, "millrace 0.1.0");
  client.send(wire::OpenStream{2, "demo", true});
  RECEIVE(opened);
  auto stream = wire::decode_stream_opened(opened->frame());
  EXPECT_TRUE(stream && stream->created && stream->next == Offset{0});
  client.send(wire::RegisterProducer{3, ProducerId{}});
  RECEIVE(registered);
  auto producer = wire::decode_producer_registered(registered->frame());
  EXPECT_TRUE(producer && producer->producer.value != 0);
  for (std::uint64_t i = 0; i < 5; i++)
    append(client, 100 + i, batch_of("demo", 3, "record", producer->producer.value, producer->epoch, i));
  std::uint64_t answered = 0;
  while (answered < 5) {
    RECEIVE(frame);
    auto acks = wire::decode_acks(frame->frame());
    EXPECT_TRUE(acks);
    for (std::size_t i = 0; acks && i < acks->count(); i++, answered++) {
      wire::AckEntry entry = acks->entry(i);
      EXPECT_EQ(entry.request_id, 100 + answered);
      EXPECT_EQ(entry.error, 0);
      EXPECT_EQ(entry.first_offset, 3 * answered);
      EXPECT_EQ(entry.level, wire::Level::local);
    }
    EXPECT_GT(acks->granted, welcome->append_granted);
  }
  append(client, 200, batch_of("demo", 3, "record", producer->producer.value, producer->epoch, 2));
  RECEIVE(again);
  auto repeated = wire::decode_acks(again->frame());
  EXPECT_TRUE(repeated && repeated->count() == 1 && repeated->entry(0).first_offset == 6);
  EXPECT_EQ(repeated->entry(0).flags, wire::ack_flag_repeat);

  wire::Read read;
  read.request_id = 300;
  read.stream = stream->stream;
  read.credit = MiB;
  client.send(read);
  RECEIVE(begun);
  EXPECT_EQ(begun->type(), FrameType::read_begin);
  std::uint64_t records = 0;
  while (true) {
    RECEIVE(piece);
    if (piece->type() == FrameType::read_end) {
      auto end = wire::decode_read_end(piece->frame());
      EXPECT_TRUE(end && end->error == 0 && end->next == Offset{15}) << end->error << " " << end->next.value;
      break;
    }
    auto batches = wire::decode_batches(piece->frame());
    EXPECT_TRUE(batches);
    if (!batches) break;
    for (std::size_t at = 0; at < batches->batches.size();) {
      auto header = read_batch_header(batches->batches.subspan(at));
      EXPECT_TRUE(header);
      EXPECT_EQ(header->first_offset, records);
      auto body = BodyView::parse(batches->batches.subspan(at + batch_header_bytes, header->body_bytes), *header);
      EXPECT_TRUE(body);
      Bytes payload = body->payload(1);
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(payload.data()), payload.size()), "record-1");
      records += header->record_count;
      at += batch_span(header->body_bytes);
    }
  }
  EXPECT_EQ(records, 15u);
  co_return Result<>();
}

}  // namespace millrace::test
