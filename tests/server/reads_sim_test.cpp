// Reads over the network: credit, following, the largest batch, readers that do not read.
#include "tests/server/server_fixture.hpp"

namespace millrace::test {
namespace {

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

/// Reads the filled stream: all but what the unreadable block takes, which is told once.
Task<> read_around_a_block(WireClient& client) {
  GREET(wire::any_shard);
  wire::Read read;
  read.request_id = 4;
  read.stream = stream_id_of("filled");
  read.credit = 16 * MiB;
  client.send(read);
  RECEIVE(begun);
  std::uint64_t offset = 0, received = 0, losses = 0;
  while (true) {
    RECEIVE(piece);
    if (piece->type() == FrameType::read_end) {
      auto end = wire::decode_read_end(piece->frame());
      EXPECT_TRUE(end && end->error == 0 && end->next == Offset{64}) << end->error;
      break;
    }
    if (piece->type() == FrameType::notice) {
      auto notice = wire::decode_notice(piece->frame());
      EXPECT_TRUE(notice && notice->kind == wire::NoticeKind::data_loss);
      EXPECT_EQ(notice->first, offset);
      offset = notice->next;
      ++losses;
      continue;
    }
    auto batches = wire::decode_batches(piece->frame());
    EXPECT_TRUE(batches && batches->first == Offset{offset});
    received += batches->next.value - batches->first.value;
    offset = batches->next.value;
  }
  EXPECT_EQ(received, 63u);
  EXPECT_EQ(losses, 1u);
  co_return Result<>();
}

TEST_F(ServerTest, P18AnUnreadableBlockCostsAReadWhatStandsInIt) {
  start();
  run(fill);
  stop();
  start();
  node.disk.for_each_file([](const std::string& path, sim::SimInode& inode) {
    if (path.ends_with("data000000")) inode.bad_sectors.insert((1 * MiB + 10'000) / 512);
  });
  run(read_around_a_block);
  stop();
}

/// A batch of one large record for each type.
std::vector<std::byte> batch_of_types(std::initializer_list<std::uint16_t> types) {
  BatchBuilder builder(BatchBuilderOptions{.bytes_max = batch_bytes_max});
  builder.begin();
  const std::string payload(15'000, 't');
  for (std::uint16_t type : types) {
    RecordInput record;
    record.payload = bytes_of(payload);
    record.type = type;
    EXPECT_TRUE(builder.add(record));
  }
  BatchHeader header;
  header.stream_id = stream_id_of("typed").value;
  Bytes batch = builder.finish(header);
  return {batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(batch_header_bytes + header.body_bytes)};
}

/// Every fifth batch has a record of type 7 among its three.
Task<> fill_types(WireClient& client) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "typed", true});
  RECEIVE(opened);
  for (int i = 0; i < 40; i++) {
    auto asking = answer_of(client, i % 5 == 3 ? batch_of_types({0, 7, 2}) : batch_of_types({0, 1, 0}));
    auto entry = co_await asking;
    EXPECT_TRUE(entry && entry->error == 0);
    if (!entry) co_return fail(entry.error());
  }
  co_return Result<>();
}

/// Credit for one batch more than can come shows that what is left out costs none.
Task<> read_one_type(WireClient& client, std::uint16_t type, std::size_t expected) {
  wire::Read read;
  read.request_id = 4 + type;
  read.stream = stream_id_of("typed");
  read.from = wire::Position::at(Offset{4});
  read.filter_type = true;
  read.type = type;
  read.credit = 47'000 * std::max<std::size_t>(expected, 1);
  client.send(read);
  RECEIVE(begun);
  EXPECT_EQ(wire::decode_read_begin(begun->frame())->from, Offset{4});
  std::size_t batches = 0;
  std::uint64_t next = 3;
  while (true) {
    RECEIVE(piece);
    if (piece->type() == FrameType::read_end) break;
    auto message = wire::decode_batches(piece->frame());
    EXPECT_TRUE(message && message->first == Offset{next}) << next;
    if (!message) co_return fail(Error::bad_frame);
    for (Bytes rest = message->batches; !rest.empty(); batches++) {
      auto header = read_batch_header(rest);
      EXPECT_TRUE(header && header->first_offset / 3 % 5 == 3 && header->first_offset < message->next.value);
      if (!header) co_return fail(Error::bad_frame);
      EXPECT_TRUE(BodyView::parse(rest.subspan(batch_header_bytes, header->body_bytes), *header));
      rest = rest.subspan(batch_span(header->body_bytes));
    }
    next = message->next.value;
  }
  EXPECT_EQ(next, 120u);
  EXPECT_EQ(batches, expected);
  co_return Result<>();
}

Task<> read_types(WireClient& client) {
  GREET(wire::any_shard);
  for (auto [type, expected] : {std::pair{7, 8}, std::pair{2, 8}, std::pair{9, 0}}) {
    auto reading = read_one_type(client, static_cast<std::uint16_t>(type), static_cast<std::size_t>(expected));
    auto done = co_await reading;
    EXPECT_TRUE(done) << "type " << type;
  }
  co_return Result<>();
}

TEST_F(ServerTest, BatchesWithoutAWantedTypeStayAtTheServer) {
  start();
  run(fill_types);
  run(read_types);
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

}  // namespace
}  // namespace millrace::test
