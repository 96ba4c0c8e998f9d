#include "sdk/core/producer_core.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/sdk/link.hpp"

namespace millrace::test {
namespace {

constexpr Nanos milli = 1'000'000;
constexpr Nanos second = 1'000 * milli;

struct Recorder final : ProducerListener, BatchRingListener {
  std::vector<BatchResult> results;
  std::optional<Error> failed;
  std::uint64_t failed_detail = 0;
  bool ready = false;
  void producer_ready(ProducerId, std::uint32_t) override { ready = true; }
  void producer_result(const BatchResult& result) override { results.push_back(result); }
  void producer_failed(Error error, std::uint64_t detail) override {
    failed = error;
    failed_detail = detail;
  }
  void ring_has_work() override {}
};

struct ProducerCoreTest : testing::Test {
  BufferPool pool{8 * MiB, BufferShape::of(4 * KiB, 256)};
  Recorder seen;
  BatchRing ring{pool, {4 * KiB, 1, 40}, seen};  // one record a batch
  Link link;
  ProducerSettings settings = {.stream = "s", .in_flight = 8};
  std::optional<ProducerCore> core;
  int next = 0;

  void begin() {
    core.emplace(link.session, ring, settings, seen);
    link.work = [this](Nanos now) { core->advance(now); };
    core->start(link.now);
    link.settle();
  }
  void append(int count = 1) {
    std::uint64_t ticket = 0;
    for (; count > 0; --count) {
      const std::string text = "record " + std::to_string(next++);
      ASSERT_EQ(ring.append({0, 1, bytes_of(text), {}, {}}, ticket), BatchRing::Outcome::accepted);
    }
  }
  /// Every record appended so far is stored once and in order, and every result tells its place.
  void expect_exactly_once() {
    const auto& batches = link.server.streams[stream_id_of("s").value].batches;
    ASSERT_EQ(batches.size(), static_cast<std::size_t>(next));
    ASSERT_EQ(seen.results.size(), batches.size());
    for (int i = 0; i < next; ++i) {
      const auto view = BodyView::parse(batches[i].body, batches[i].header);
      ASSERT_TRUE(view.has_value());
      const Bytes payload = view->payload(0);
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(payload.data()), payload.size()),
                "record " + std::to_string(i));
      EXPECT_FALSE(seen.results[i].error.has_value());
      EXPECT_EQ(seen.results[i].first_ticket, static_cast<std::uint64_t>(i));
      EXPECT_EQ(seen.results[i].first_offset.value, static_cast<std::uint64_t>(i));
      EXPECT_EQ(seen.results[i].lsn.value, batches[i].header.lsn);
    }
  }
};

TEST_F(ProducerCoreTest, AppendsAndTellsWhere) {
  begin();
  EXPECT_TRUE(seen.ready);
  append(20);
  link.settle();
  expect_exactly_once();
  EXPECT_EQ(pool.free_count(), pool.count());
}

TEST_F(ProducerCoreTest, RecordsBeforeTheConnectionAreKept) {
  append(3);
  begin();
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, NeverMoreInFlightThanAsked) {
  begin();
  link.server.hold_acks = true;
  append(20);
  link.settle();
  EXPECT_EQ(link.server.appends_seen, 8u);
  EXPECT_EQ(core->in_flight(), 8u);
  link.server.hold_acks = false;
  link.server.release_acks();
  link.settle();
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, NeverMoreBytesThanGranted) {
  link.server.append_window = 1'000;  // two or three of these batches
  begin();
  link.server.hold_acks = true;
  append(8);
  link.settle();
  EXPECT_GE(link.server.appends_seen, 1u);
  EXPECT_LE(link.server.appends_seen, 3u);
  link.server.hold_acks = false;
  link.server.release_acks();
  link.settle();
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, AnswersInPiecesOfOneByte) {
  link.cut = 1;
  begin();
  append(5);
  link.settle();
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, LostBeforeStoringSendsAgain) {
  begin();
  append(5);
  core->advance(link.now);  // in the outbox
  link.cut_connection();
  EXPECT_TRUE(seen.results.empty());
  link.pass(second);
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, LostAfterStoringIsARepeatAtTheSamePlace) {
  begin();
  append(2);
  link.settle();
  link.server.hold_acks = true;
  append(5);
  link.settle();
  EXPECT_EQ(seen.results.size(), 2u);
  link.cut_connection();
  link.server.hold_acks = false;
  link.pass(second);
  expect_exactly_once();
  EXPECT_FALSE(seen.results[1].repeat);
  EXPECT_TRUE(seen.results[2].repeat);
  EXPECT_EQ(link.server.producer_epochs.begin()->second, 1u) << "a reconnect does not register anew";
}

TEST_F(ProducerCoreTest, UnknownOutcomeIsAskedAgainWithTheSameSequence) {
  begin();
  link.server.store_but_answer_unknown = true;
  append(6);
  link.settle();
  link.pass(second);
  expect_exactly_once();
  EXPECT_TRUE(seen.results[0].repeat);
}

TEST_F(ProducerCoreTest, RefusedInTheMiddleKeepsTheOrder) {
  begin();
  for (const Error error : {Error::retry_later, Error::not_ready, Error::no_space}) {
    link.server.refuse_appends = {error, error};  // what follows is out of order and comes again behind
    append(6);
    link.settle();
    EXPECT_LT(seen.results.size(), static_cast<std::size_t>(next));
    for (int i = 0; i < 5; ++i) link.pass(100 * milli);
    expect_exactly_once();
  }
}

TEST_F(ProducerCoreTest, AnUnknownStreamIsOpenedAgain) {
  begin();
  link.server.refuse_appends = {Error::unknown_stream};
  append(2);
  link.settle();
  link.pass(second);
  expect_exactly_once();
  EXPECT_EQ(link.server.opens_seen, 2u);
}

TEST_F(ProducerCoreTest, FencedIsFinal) {
  settings.id = ProducerId{77};
  begin();
  append(1);
  link.settle();
  link.server.producer_epochs[77] += 1;
  append(3);
  link.settle();
  ASSERT_EQ(seen.results.size(), 4u);
  EXPECT_FALSE(seen.results[0].error.has_value());
  for (int i = 1; i < 4; ++i) EXPECT_EQ(seen.results[i].error, Error::fenced);
  EXPECT_EQ(seen.failed, Error::fenced);
  append(1);
  link.settle();
  EXPECT_EQ(seen.results.back().error, Error::fenced) << "later records end too";
  EXPECT_EQ(pool.free_count(), pool.count());
}

TEST_F(ProducerCoreTest, AServerThatForgotWhatItAcknowledgedIsAnError) {
  begin();
  append(3);
  link.settle();
  link.server.windows.clear();
  append(1);
  link.settle();
  EXPECT_EQ(seen.failed, Error::out_of_order);
}

TEST_F(ProducerCoreTest, GivesUpAfterTheRetryTime) {
  begin();
  append(1);
  link.settle();
  link.reachable = false;
  link.cut_connection();
  for (int i = 0; i < 100; ++i) link.pass(second);
  EXPECT_FALSE(seen.failed.has_value()) << "nothing waits: no reason to give up";
  append(2);
  for (int i = 0; i < 29; ++i) link.pass(second);
  EXPECT_FALSE(seen.failed.has_value());
  for (int i = 0; i < 3; ++i) link.pass(second);
  EXPECT_EQ(seen.failed, Error::connection_refused);
  ASSERT_EQ(seen.results.size(), 3u);
  EXPECT_EQ(seen.results[2].error, Error::connection_refused);
}

TEST_F(ProducerCoreTest, WithoutRetriesItTriesOnce) {
  settings.retry = 0;
  begin();
  append(3);
  link.settle();
  expect_exactly_once();
  link.cut_connection();
  link.settle();
  EXPECT_EQ(seen.failed, Error::connection_lost);
}

TEST_F(ProducerCoreTest, FullDiskEndsWithItsOwnError) {
  begin();
  link.server.refuse_appends.assign(100'000, Error::no_space);
  append(1);
  for (int i = 0; i < 320; ++i) link.pass(100 * milli);
  EXPECT_EQ(seen.failed, Error::no_space);
  EXPECT_EQ(seen.failed_detail, 1u);
}

TEST_F(ProducerCoreTest, AcknowledgingWhatWasNeverWrittenDropsTheConnection) {
  begin();
  append(1);
  core->advance(link.now);  // in the outbox, not sent
  FrameOutput lie;
  wire::AckEntry entry;
  entry.request_id = Session::request_id(1u << 20, 0);
  wire::encode_acks(lie, 1 << 20, std::span(&entry, 1));
  link.session.received(lie, link.now);
  EXPECT_FALSE(link.session.up());
  EXPECT_TRUE(seen.results.empty());
  link.pass(second);
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, LingerWaitsForMoreUntilItsTime) {
  BatchRing wide(pool, {4 * KiB, 100, 8}, seen);
  settings.linger = 5 * milli;
  core.emplace(link.session, wide, settings, seen);
  link.work = [this](Nanos now) { core->advance(now); };
  core->start(link.now);
  link.settle();
  std::uint64_t ticket = 0;
  wide.append({0, 1, bytes_of(std::string("a")), {}, {}}, ticket);
  link.settle();
  EXPECT_EQ(core->deadline(), link.now + 5 * milli);
  wide.append({0, 1, bytes_of(std::string("b")), {}, {}}, ticket);
  link.pass(4 * milli);
  EXPECT_TRUE(seen.results.empty());
  link.pass(milli);
  ASSERT_EQ(seen.results.size(), 1u);
  EXPECT_EQ(seen.results[0].records, 2u);
  core.reset();
}

TEST_F(ProducerCoreTest, ThousandCuts) {
  begin();
  std::uint64_t random = 42;
  for (int round = 0; round < 1000; ++round) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    link.server.hold_acks = (random >> 33) % 2 == 0;
    append(static_cast<int>((random >> 40) % 4));
    if ((random >> 50) % 7 == 0) link.server.refuse_appends = {Error::retry_later};
    if ((random >> 55) % 5 == 0) link.server.store_but_answer_unknown = true;
    core->advance(link.now);
    if ((random >> 60) % 2 == 0) link.settle();
    link.cut_connection();
    link.server.hold_acks = false;
    link.pass(2 * second);
    link.pass(2 * second);
  }
  link.server.refuse_appends.clear();
  link.pass(10 * second);
  expect_exactly_once();
}

TEST_F(ProducerCoreTest, AFollowerIsLeftForTheNextServerOfAList) {
  SessionSettings list;
  list.look_elsewhere();
  Link servers(list);
  core.emplace(servers.session, ring, settings, seen);
  servers.work = [this](Nanos now) { core->advance(now); };
  core->start(servers.now);
  servers.settle();
  append(2);
  servers.settle();
  // The leader was deposed: what it refuses goes to the next server, in order and once.
  servers.server.refuse_appends = {Error::not_leader, Error::not_leader, Error::not_leader};
  append(5);
  for (int i = 0; i < 40; ++i) servers.pass(100 * milli);
  EXPECT_GT(servers.session.attempt(), 1u);
  EXPECT_FALSE(seen.failed.has_value());
  ASSERT_EQ(seen.results.size(), 7u);
  for (const BatchResult& result : seen.results) EXPECT_FALSE(result.error.has_value());
  EXPECT_EQ(servers.server.streams[stream_id_of("s").value].batches.size(), 7u);
  core.reset();  // before the session it sits on
}

TEST_F(ProducerCoreTest, AFollowerAloneIsAnError) {
  begin();
  link.server.refuse_appends = {Error::not_leader};
  append();
  link.settle();
  EXPECT_EQ(seen.failed, Error::not_leader);
  EXPECT_EQ(link.session.attempt(), 1u);
}

}  // namespace
}  // namespace millrace::test
