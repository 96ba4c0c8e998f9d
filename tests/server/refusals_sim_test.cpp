// Nonsense from the network: one clear error each, nothing of it stored, and others keep their service.
#include "tests/server/server_fixture.hpp"

namespace millrace::test {
namespace {

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

TEST_F(ServerTest, MoreThanTheCreditEndsTheConnection) {
  start();
  run(pass_the_credit);
  run(ping);
  stop();
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

}  // namespace
}  // namespace millrace::test
