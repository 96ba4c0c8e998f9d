#include "sdk/core/consumer_core.hpp"

#include <gtest/gtest.h>

#include "protocol/batch_builder.hpp"
#include "tests/sdk/link.hpp"

namespace millrace::test {
namespace {

constexpr Nanos second = 1'000'000'000;

struct Reader final : ConsumerListener {
  std::vector<ReadEventCore> events;
  std::vector<std::uint64_t> offsets;
  void consumer_event(ReadEventCore&& event) override {
    if (event.kind == ReadEventCore::Kind::batches)
      for (Bytes rest = event.bytes; !rest.empty();) {
        const BatchHeader header = load<BatchHeader>(rest);
        for (std::uint64_t o = header.first_offset; o < header.first_offset + header.record_count; ++o)
          if (o >= event.first) offsets.push_back(o);
        rest = rest.subspan(batch_span(header.body_bytes));
      }
    events.push_back(std::move(event));
  }
};

struct ConsumerCoreTest : testing::Test {
  Link link;
  Reader reader;
  ConsumerSettings settings = {.stream = "s"};
  std::optional<ConsumerCore> core;

  void store(int batches, int records = 3) {
    auto& stream = link.server.streams[stream_id_of("s").value];
    for (int b = 0; b < batches; ++b) {
      BatchBuilder builder;
      const std::string text = "some text to damage, " + std::to_string(stream.next_offset);
      RecordInput record;
      record.payload = bytes_of(text);
      for (int r = 0; r < records; ++r) ASSERT_TRUE(builder.add(record));
      BatchHeader header;
      header.stream_id = stream_id_of("s").value;
      builder.finish(header);
      header.first_offset = stream.next_offset;
      header.lsn = ++link.server.lsn;
      seal_header(header, {});
      stream.next_offset += header.record_count;
      const Bytes body = builder.body();
      stream.batches.push_back({header, {body.begin(), body.end()}});
    }
  }
  void begin() {
    core.emplace(link.session, settings, reader);
    link.work = [this](Nanos now) { core->advance(now); };
    core->start(link.now);
    link.settle();
  }
  void expect_offsets(std::uint64_t first, std::uint64_t end) {
    ASSERT_EQ(reader.offsets.size(), end - first);
    for (std::uint64_t i = first; i < end; ++i) EXPECT_EQ(reader.offsets[i - first], i);
  }
};

TEST_F(ConsumerCoreTest, ReadsToTheEnd) {
  store(4);
  begin();
  expect_offsets(0, 12);
  EXPECT_EQ(reader.events.back().kind, ReadEventCore::Kind::end);
  EXPECT_TRUE(core->done());
}

TEST_F(ConsumerCoreTest, BeginsInsideABatch) {
  store(4);
  settings.from = wire::Position::at(Offset{4});
  begin();
  expect_offsets(4, 12);
}

TEST_F(ConsumerCoreTest, GoesOnWhereItWasAfterALostConnection) {
  store(4);
  settings.follow = true;
  begin();
  expect_offsets(0, 12);
  link.cut_connection();
  store(2);
  link.pass(2 * second);
  expect_offsets(0, 18);
  EXPECT_FALSE(core->done());
}

TEST_F(ConsumerCoreTest, TheEndIsTheEndOfTheFirstAsking) {
  store(2);
  link.server.keep_reads_open = true;
  begin();
  link.cut_connection();
  store(2);
  link.server.keep_reads_open = false;
  link.pass(2 * second);
  expect_offsets(0, 6);
  EXPECT_EQ(reader.events.back().kind, ReadEventCore::Kind::end);
}

TEST_F(ConsumerCoreTest, DamageOnTheWayIsAskedForAgain) {
  store(4);
  link.server.damage_next_batch = true;
  begin();
  link.pass(2 * second);
  expect_offsets(0, 12);
  EXPECT_EQ(link.session.attempt(), 2u);
}

TEST_F(ConsumerCoreTest, DamageThatStaysIsAnError) {
  store(4);
  link.server.damage_all_batches = true;
  begin();
  link.pass(2 * second);
  expect_offsets(0, 0);
  EXPECT_EQ(reader.events.back().kind, ReadEventCore::Kind::failed);
  EXPECT_EQ(reader.events.back().error, Error::corrupt);
}

TEST_F(ConsumerCoreTest, AGapWithoutANoticeIsDamage) {
  store(4);
  auto& batches = link.server.streams[stream_id_of("s").value].batches;
  batches.erase(batches.begin() + 1);
  begin();
  link.pass(2 * second);
  expect_offsets(0, 3);
  EXPECT_EQ(reader.events.back().error, Error::corrupt);
}

TEST_F(ConsumerCoreTest, ANamedLossIsToldAndPassed) {
  store(1);
  link.server.keep_reads_open = true;
  settings.follow = true;
  begin();
  ASSERT_EQ(link.server.reads.size(), 1u);
  const std::uint64_t id = link.server.reads.begin()->first;
  wire::encode(link.server.out, wire::Notice{id, wire::NoticeKind::data_loss, 3, 7});
  wire::encode(link.server.out, wire::Notice{id, wire::NoticeKind::day_finished, 20'000, 7});
  link.settle();
  ASSERT_EQ(reader.events.size(), 3u);
  EXPECT_EQ(reader.events[1].kind, ReadEventCore::Kind::data_loss);
  EXPECT_EQ(reader.events[1].first, 3u);
  EXPECT_EQ(reader.events[1].next, 7u);
  EXPECT_EQ(reader.events[2].kind, ReadEventCore::Kind::day_finished);
  EXPECT_EQ(core->next_offset(), 7u);
}

TEST_F(ConsumerCoreTest, CreditGrowsOnlyWithWhatWasConsumed) {
  settings.follow = true;
  settings.credit_bytes = 16 * KiB;
  store(8, 10);
  begin();
  ASSERT_EQ(link.server.read_granted.size(), 1u);
  const std::uint64_t id = link.server.read_granted.begin()->first;
  EXPECT_EQ(link.server.read_granted[id], 16 * KiB);
  std::uint64_t bytes = 0;
  for (const auto& event : reader.events) bytes += event.bytes.size();
  ASSERT_GT(bytes, 4 * KiB);
  core->consumed(100);
  link.settle();
  EXPECT_EQ(link.server.read_granted[id], 16 * KiB) << "not worth a frame";
  core->consumed(bytes - 100);
  link.settle();
  EXPECT_EQ(link.server.read_granted[id], 16 * KiB + bytes);
}

TEST_F(ConsumerCoreTest, UnknownStreamIsAnErrorAndNotReadyIsNot) {
  begin();
  EXPECT_EQ(reader.events.back().error, Error::unknown_stream);
  core.reset();
  reader.events.clear();
  store(1);
  link.server.refuse_reads = Error::not_ready;
  begin();
  EXPECT_TRUE(reader.events.empty());
  link.server.refuse_reads.reset();
  link.pass(second);
  expect_offsets(0, 3);
}

TEST_F(ConsumerCoreTest, GivesUpAfterTheRetryTime) {
  store(1);
  settings.follow = true;
  begin();
  link.reachable = false;
  link.pass(100 * second);
  link.cut_connection();
  for (int i = 0; i < 29; ++i) link.pass(second);
  EXPECT_FALSE(core->done());
  for (int i = 0; i < 3; ++i) link.pass(second);
  EXPECT_EQ(reader.events.back().error, Error::connection_refused);
}

TEST_F(ConsumerCoreTest, WithoutRetriesItTriesOnce) {
  settings.retry = 0;
  store(2);
  begin();
  expect_offsets(0, 6);
  EXPECT_EQ(reader.events.back().kind, ReadEventCore::Kind::end);
  core.reset();
  link.server.refuse_reads = Error::not_ready;
  begin();
  EXPECT_EQ(reader.events.back().error, Error::not_ready);
  core.reset();
  link.server.refuse_reads.reset();
  settings.follow = true;
  begin();
  EXPECT_FALSE(core->done());
  link.cut_connection();
  link.settle();
  EXPECT_EQ(reader.events.back().error, Error::connection_lost);
}

}  // namespace
}  // namespace millrace::test
