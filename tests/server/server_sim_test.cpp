// The shipped server on simulated kernels, spoken to frame by frame: what it answers, what it refuses, and that nobody's
// mistakes cost others their service.
#include <gtest/gtest.h>

#include <functional>

#include "tests/server/server_program.hpp"

namespace millrace {
namespace {

using namespace millrace::test;
using sim::CoroutineProgram;
using sim::FaultPlan;
using sim::SimNode;
using sim::SimProcess;
using sim::SimWorld;

constexpr std::uint16_t port = 7070;
constexpr Nanos patience = 60 * nanos_per_second;

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

void append(WireClient& client, std::uint64_t id, const std::vector<std::byte>& batch) {
  client.send(wire::Append{id, batch});
}

Task<> append_and_read(WireClient& client) {
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

/// One last frame with this error and the flag closing, then the end of the connection.
Task<> expect_refusal(WireClient& client, Error error) {
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

Task<> send_garbage(WireClient& client) {
  client.send_bytes(
      bytes_of(std::string("GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: somebody/1.0\r\nAccept: */*\r\n\r\n")));
  auto refusal = expect_refusal(client, Error::bad_frame);
  co_return co_await refusal;
}

Task<> claim_four_gib(WireClient& client) {
  GREET(wire::any_shard);
  FrameOutput bytes(frame_header_bytes);
  write_frame_header(bytes, FrameHeader{.type = FrameType::append, .request_id = 2, .body_bytes = 0xffff'ffff});
  client.send_bytes(bytes);
  auto refusal = expect_refusal(client, Error::too_large);
  co_return co_await refusal;
}

Task<> large_before_hello(WireClient& client) {
  FrameOutput bytes;
  std::vector<std::byte> body(hello_frame_bytes_max);
  put_frame(bytes, FrameHeader{.type = FrameType::hello}, body);
  client.send_bytes(bytes);
  auto refusal = expect_refusal(client, Error::too_large);
  co_return co_await refusal;
}

Task<> no_hello_first(WireClient& client) {
  client.send(wire::Ping{1, 2});
  auto refusal = expect_refusal(client, Error::bad_frame);
  co_return co_await refusal;
}

Task<> unknown_shard(WireClient& client) {
  wire::Hello hello;
  hello.shard = ShardIndex{5};
  client.send(hello);
  auto refusal = expect_refusal(client, Error::wrong_shard);
  co_return co_await refusal;
}

Task<> future_version(WireClient& client) {
  wire::Hello hello;
  hello.oldest_version = 9;
  client.send(hello);
  auto refusal = expect_refusal(client, Error::unsupported_version);
  co_return co_await refusal;
}

Task<> answer_to_the_server(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::Pong{1, 2});
  auto refusal = expect_refusal(client, Error::bad_frame);
  co_return co_await refusal;
}

Task<> say_nothing(WireClient& client) {
  Nanos began = client.reactor().now();
  auto refusal = expect_refusal(client, Error::timed_out);
  (void)co_await refusal;
  EXPECT_GE(client.reactor().now() - began, hello_wait_max);
  co_return Result<>();
}

TEST_F(ServerTest, EachKindOfNonsenseGetsOneClearErrorAndOthersTheirService) {
  start();
  for (Talk talk : {send_garbage, claim_four_gib, large_before_hello, no_hello_first, unknown_shard, future_version,
                    answer_to_the_server, say_nothing})
    run(talk);
  run(append_and_read);
  stop();
}

Task<> pass_the_credit(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "demo", true});
  RECEIVE(opened);
  std::vector<std::byte> batch = batch_of("demo", 1, std::string(3 * MiB, 'x'));
  for (std::uint64_t i = 0; i < 4; i++) append(client, 10 + i, batch);
  bool closed = false;
  while (!closed) {
    auto receiving = client.receive();
    auto frame = co_await receiving;
    if (!frame) break;
    if (frame->type() != FrameType::refused) continue;
    auto refused = wire::decode_refused(frame->frame());
    EXPECT_EQ(refused->error, Error::over_credit);
    closed = true;
  }
  EXPECT_TRUE(closed);
  co_return Result<>();
}

Task<> ping(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::Ping{8, 99});
  RECEIVE(pong);
  auto answer = wire::decode_pong(pong->frame());
  EXPECT_TRUE(answer && answer->request_id == 8 && answer->token == 99);
  co_return Result<>();
}

TEST_F(ServerTest, MoreThanTheCreditEndsTheConnection) {
  start();
  run(pass_the_credit);
  run(ping);
  stop();
}

/// Sends one append and gives back its entry.
Task<wire::AckEntry> answer_of(WireClient& client, std::vector<std::byte> batch) {
  append(client, 50, batch);
  RECEIVE(frame);
  auto acks = wire::decode_acks(frame->frame());
  EXPECT_TRUE(acks && acks->count() == 1);
  if (!acks) co_return fail(acks.error());
  co_return acks->entry(0);
}

/// Changes the header and seals it again.
template <class Change>
std::vector<std::byte> changed(std::vector<std::byte> batch, Change change) {
  auto header = load<BatchHeader>(batch);
  change(header);
  header.checksum = header_checksum(header);
  store(batch, 0, header);
  return batch;
}

struct BadBatch {
  const char* what;
  std::vector<std::byte> batch;
  Error error;
};

std::vector<BadBatch> bad_batches() {
  std::vector<std::byte> good = batch_of("demo", 3, "record");
  std::vector<BadBatch> all;
  auto flipped = good;
  flipped.back() ^= std::byte{1};
  all.push_back({"a flipped bit in the body", flipped, Error::bad_body});
  flipped = good;
  flipped[20] ^= std::byte{1};
  all.push_back({"a flipped bit in the header", flipped, Error::bad_body});
  all.push_back({"an lsn", changed(good, [](BatchHeader& header) { header.lsn = 7; }), Error::invalid_argument});
  all.push_back({"a day", changed(good, [](BatchHeader& header) { header.day = 7; }), Error::invalid_argument});
  all.push_back(
      {"an offset", changed(good, [](BatchHeader& header) { header.first_offset = 7; }), Error::invalid_argument});
  all.push_back(
      {"a control batch", changed(good, [](BatchHeader& header) { header.kind = BatchKind::trim; }), Error::bad_body});
  all.push_back(
      {"one record more", changed(good, [](BatchHeader& header) { header.record_count++; }), Error::bad_body});
  // The body's ends run backwards, everything hashed as it stands.
  auto backwards = changed(good, [](BatchHeader&) {});
  auto header = load<BatchHeader>(backwards);
  for (std::size_t at = batch_header_bytes; at + 12 <= backwards.size(); at += 4) {
    if (load<std::uint32_t>(backwards, at) != 8 || load<std::uint32_t>(backwards, at + 4) != 16) continue;
    store<std::uint32_t>(backwards, at, 16);
    store<std::uint32_t>(backwards, at + 4, 8);
  }
  header.body_hash = hash128(Bytes(backwards).subspan(batch_header_bytes, header.body_bytes));
  header.checksum = header_checksum(header);
  store(backwards, 0, header);
  all.push_back({"ends that run backwards", backwards, Error::bad_body});
  all.push_back({"a stream nobody opened", batch_of("never-opened", 1, "x"), Error::unknown_stream});
  all.push_back({"a producer nobody registered", batch_of("demo", 1, "x", 12345, 1, 0), Error::unknown_producer});
  return all;
}

Task<> append_badly(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "demo", true});
  RECEIVE(opened);
  for (const BadBatch& bad : bad_batches()) {
    auto asking = answer_of(client, bad.batch);
    auto entry = co_await asking;
    EXPECT_TRUE(entry);
    if (!entry) co_return fail(entry.error());
    EXPECT_EQ(entry->error, static_cast<std::uint16_t>(bad.error)) << bad.what;
    EXPECT_EQ(entry->level, wire::Level::none);
  }
  auto asking = answer_of(client, batch_of("demo", 3, "record"));
  auto entry = co_await asking;
  EXPECT_TRUE(entry && entry->error == 0 && entry->first_offset == 0) << "nothing bad was stored";
  co_return Result<>();
}

TEST_F(ServerTest, EachBadBatchIsRefusedAndNothingOfItIsStored) {
  start();
  run(append_badly);
  stop();
}

Task<> open_badly(WireClient& client) {
  GREET(wire::any_shard);
  for (const char* name : {"", "../etc/passwd", "a/../b", "line\nbreak", "\xff", "/"}) {
    client.send(wire::OpenStream{5, name, true});
    RECEIVE(frame);
    auto refused = wire::decode_refused(frame->frame());
    EXPECT_TRUE(refused && refused->error == Error::invalid_argument && !refused->closing) << name;
    EXPECT_EQ(refused->request_id, 5u);
  }
  client.send(wire::OpenStream{6, "not-there", false});
  RECEIVE(frame);
  auto refused = wire::decode_refused(frame->frame());
  EXPECT_TRUE(refused && refused->error == Error::unknown_stream && !refused->closing);
  wire::Read read;
  read.request_id = 7;
  read.stream = stream_id_of("not-there");
  read.credit = 1000;
  client.send(read);
  RECEIVE(ended);
  auto end = wire::decode_read_end(ended->frame());
  EXPECT_TRUE(end && end->error == static_cast<std::uint16_t>(Error::unknown_stream));
  co_return Result<>();
}

TEST_F(ServerTest, BadNamesAreRefusedAndTheConnectionGoesOn) {
  start();
  run(open_badly);
  stop();
}

Task<> append_large(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "large", true});
  RECEIVE(opened);
  std::vector<std::byte> largest = batch_of("large", 1, std::string(batch_bytes_max - 1024, 'y'));
  EXPECT_GT(largest.size(), batch_bytes_max - 2048);
  auto asking = answer_of(client, largest);
  auto entry = co_await asking;
  EXPECT_TRUE(entry);
  if (!entry) co_return fail(entry.error());
  EXPECT_EQ(entry->error, 0);
  wire::Read read;
  read.request_id = 9;
  read.stream = stream_id_of("large");
  read.credit = 1;
  client.send(read);
  RECEIVE(begun);
  RECEIVE(piece);
  auto batches = wire::decode_batches(piece->frame());
  EXPECT_TRUE(batches && batches->batches.size() == batch_span(load<BatchHeader>(largest).body_bytes));
  co_return Result<>();
}

TEST_F(ServerTest, TheLargestBatchGoesThrough) {
  start();
  run(append_large);
  stop();
}

Task<> fill(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "filled", true});
  RECEIVE(opened);
  for (std::uint64_t i = 0; i < 64; i++) {
    auto asking = answer_of(client, batch_of("filled", 1, std::string(60'000, static_cast<char>('a' + i % 26))));
    auto entry = co_await asking;
    EXPECT_TRUE(entry && entry->error == 0);
    if (!entry) co_return fail(entry.error());
  }
  co_return Result<>();
}

/// Grants a little at a time and counts what comes.
Task<> read_by_credit(WireClient& client) {
  GREET(wire::any_shard);
  wire::Read read;
  read.request_id = 4;
  read.stream = stream_id_of("filled");
  read.credit = 1;
  client.send(read);
  RECEIVE(begun);
  std::uint64_t granted = 1, received = 0, offset = 0;
  while (true) {
    RECEIVE(piece);
    if (piece->type() == FrameType::read_end) break;
    auto batches = wire::decode_batches(piece->frame());
    EXPECT_TRUE(batches && batches->first == Offset{offset});
    offset = batches->next.value;
    EXPECT_LT(received, granted) << "sent without credit";
    received += batches->batches.size();
    Sleep pause(client.reactor(), client.reactor().now() + 50 * nanos_per_milli);
    co_await pause;
    granted = received + 100'000;
    client.send(wire::ReadCredit{4, granted});
  }
  EXPECT_EQ(offset, 64u);
  co_return Result<>();
}

Task<> follow(WireClient& client) {
  GREET(wire::any_shard);
  wire::Read read;
  read.request_id = 4;
  read.stream = stream_id_of("filled");
  read.from = wire::Position::at(Offset{62});
  read.until = wire::Position::at(Offset{66});
  read.follow = true;
  read.credit = MiB;
  client.send(read);
  RECEIVE(begun);
  EXPECT_EQ(wire::decode_read_begin(begun->frame())->from, Offset{62});
  std::uint64_t next = 62;
  while (next < 64) {
    RECEIVE(piece);
    auto batches = wire::decode_batches(piece->frame());
    EXPECT_TRUE(batches && batches->first == Offset{next});
    next = batches->next.value;
  }
  for (int i = 0; i < 3; i++) append(client, 10, batch_of("filled", 1, "late"));
  bool ended = false;
  while (!ended) {
    RECEIVE(piece);
    if (piece->type() == FrameType::acks) continue;
    if (piece->type() == FrameType::read_end) {
      auto end = wire::decode_read_end(piece->frame());
      EXPECT_TRUE(end && end->error == 0 && end->next == Offset{66}) << end->next.value;
      ended = true;
      continue;
    }
    auto batches = wire::decode_batches(piece->frame());
    EXPECT_TRUE(batches && batches->first == Offset{next});
    next = batches->next.value;
  }
  EXPECT_EQ(next, 66u);
  read.request_id = 5;
  read.until = {};
  read.from = wire::Position::latest();
  client.send(read);
  client.send(wire::CancelRead{5});
  while (true) {
    RECEIVE(piece);
    if (piece->type() != FrameType::read_end) continue;
    EXPECT_EQ(wire::decode_read_end(piece->frame())->error, static_cast<std::uint16_t>(Error::cancelled));
    break;
  }
  co_return Result<>();
}

TEST_F(ServerTest, ReadsKeepToTheirCreditAndFollow) {
  start();
  run(fill);
  run(read_by_credit);
  run(follow);
  stop();
}

Task<> expect_room(WireClient& client) {
  client.send(wire::OpenStream{60, "filled", false});
  RECEIVE(opened);
  auto asking = answer_of(client, batch_of("filled", 1, "meanwhile"));
  auto entry = co_await asking;
  EXPECT_TRUE(entry && entry->error == 0);
  co_return Result<>();
}

/// Asks for everything many times over and reads none of it, while another client works.
Task<> do_not_read(WireClient& client) {
  GREET(wire::any_shard);
  for (std::uint64_t i = 0; i < wire::connection_reads_max + 8; i++) {
    wire::Read read;
    read.request_id = 100 + i;
    read.stream = stream_id_of("filled");
    read.credit = read_credit_bytes_max;
    client.send(read);
  }
  client.socket().pause();
  WireClient other(client.reactor());
  auto connecting = other.connect("10.0.0.1", port);
  (void)co_await connecting;
  auto pinging = ping(other);
  auto pinged = co_await pinging;
  EXPECT_TRUE(pinged);
  auto filling = expect_room(other);
  auto filled = co_await filling;
  EXPECT_TRUE(filled);
  auto closing = other.close();
  (void)co_await closing;
  co_return Result<>();
}

TEST_F(ServerTest, ASlowReaderCostsNobodyElse) {
  start();
  run(fill);
  run(do_not_read);
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
}  // namespace millrace
