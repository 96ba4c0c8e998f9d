#include "storage/reader.hpp"

#include <gtest/gtest.h>

#include "tests/storage/mini_log.hpp"

namespace millrace::test {
namespace {

using sim::FaultPlan;
using sim::run_program;
using sim::SimWorld;

StreamId stream_number(std::uint64_t number) { return stream_id_of("stream " + std::to_string(number)); }

/// Runs `body` on a simulated machine without faults.
void on_a_machine(std::uint64_t seed, Task<> (*body)(Reactor& reactor, std::uint64_t seed)) {
  SimWorld world(seed, FaultPlan{});
  auto& node = world.add_node("a");
  const bool ended = run_program(
      world, node, [body, seed](Reactor& reactor, std::size_t) { return body(reactor, seed); },
      3600 * nanos_per_second);
  ASSERT_TRUE(ended) << "seed " << seed;
}

Task<> random_log(MiniLog& log, Random& random, int steps, std::uint64_t streams, bool days) {
  for (int step = 0; step < steps; ++step) {
    const auto choice = random.next() % 100;
    if (choice < 70) {
      const auto body = static_cast<std::uint32_t>(random.next() % (random.next() % 8 == 0 ? 9000 : 300));
      log.append(stream_number(random.next() % streams), static_cast<std::uint32_t>(1 + random.next() % 4), body);
    } else if (choice < 73) {
      log.append_control();
    } else if (choice < 83) {
      log.flush_to_tail();
    } else if (choice < 95) {
      auto flushing = log.flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    } else {
      auto rolling = log.roll(days && random.next() % 3 == 0);
      auto rolled = co_await rolling;
      if (!rolled) co_return fail(rolled.error());
    }
    // The ring holds what is pending, as the log promises.
    if (log.pending() > 20 * KiB) {
      auto flushing = log.flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    }
  }
  co_return {};
}

// Every stream read from the start, and the whole log, is what was appended; then from every kind of place.
Task<> read_everything(Reactor& reactor, std::uint64_t seed) {
  Random random(seed);
  MiniLog log(reactor, {.ring_bytes = 32 * KiB << (seed % 3), .batches_max = 256});
  auto opening = log.open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  const std::uint64_t streams = 1 + random.next() % 12;
  auto filling = random_log(log, random, 600, streams, true);
  auto filled = co_await filling;
  EXPECT_TRUE(filled);
  auto flushing = log.flush();
  auto flushed = co_await flushing;
  EXPECT_TRUE(flushed);
  if (seed % 2 == 0) {
    auto settling = log.settle();
    (void)co_await settling;
  }
  for (std::uint64_t number = 0; number < streams; ++number) {
    const StreamId stream = stream_number(number);
    const auto batches = log.of(stream);
    if (batches.empty()) continue;
    auto reading = read_to_end(log.view(), {.stream = stream}, 16 * KiB);
    auto back = co_await reading;
    EXPECT_TRUE(back->ended) << error_name(back->ended.error());
    EXPECT_EQ(difference(*back, batches), "") << "seed " << seed << " stream " << number;
    // From an offset in the middle of a batch: that whole batch and what follows.
    for (int i = 0; i < 4; ++i) {
      const std::size_t from = random.next() % batches.size();
      const BatchHeader& header = batches[from]->header;
      const std::vector<const ModelBatch*> rest(batches.begin() + static_cast<std::ptrdiff_t>(from), batches.end());
      ReadRequest request{.stream = stream};
      const std::uint64_t inside = random.next() % header.record_count;
      if (i == 0) request.from = Seek::at_offset(Offset{header.first_offset + inside});
      if (i == 1) request.from = Seek::at_id(Day{header.day}, RecordId{header.first_id + inside});
      if (i == 2) request.from = Seek::at_time(header.leader_time);
      if (i == 3) request.from = Seek::at_time(header.leader_time - 1);
      auto seeking = read_to_end(log.view(), request, 64 * KiB);
      auto found = co_await seeking;
      EXPECT_TRUE(found->ended);
      if (i == 3 && from > 0 && batches[from - 1]->header.leader_time == header.leader_time - 1) continue;
      EXPECT_EQ(difference(*found, rest), "") << "seed " << seed << " stream " << number << " kind " << i;
    }
  }
  std::vector<const ModelBatch*> all;
  for (const ModelBatch& batch : log.batches())
    if (batch.header.kind == BatchKind::data) all.push_back(&batch);
  auto reading = read_to_end(log.view(), {}, 16 * KiB);
  auto back = co_await reading;
  EXPECT_TRUE(back->ended) << error_name(back->ended.error());
  EXPECT_EQ(difference(*back, all), "") << "seed " << seed << ", all streams";
  // Every finished day that has records is told once, in order.
  std::vector<std::string> days;
  for (const ModelBatch* batch : all) {
    const std::string day = "day " + std::to_string(batch->header.day);
    if (batch->header.day < log.segment().day.value && (days.empty() || days.back() != day)) days.push_back(day);
  }
  const bool same_begin =
      back->notices.size() >= days.size() && std::equal(days.begin(), days.end(), back->notices.begin());
  EXPECT_TRUE(same_begin && back->notices.size() <= days.size() + 1) << "seed " << seed;
  auto stopping = log.view().stop();
  (void)co_await stopping;
  co_return {};
}

TEST(reader, reads_every_stream_from_everywhere) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    on_a_machine(seed, read_everything);
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

Task<> read_an_empty_body(Reactor& reactor, std::uint64_t) {
  MiniLog log(reactor, {});
  auto opening = log.open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  const StreamId stream = stream_number(1);
  for (std::uint32_t body : {0U, 100U, 0U}) log.append(stream, 1, body);
  auto flushing = log.flush();
  auto flushed = co_await flushing;
  EXPECT_TRUE(flushed);
  auto reading = read_to_end(log.view(), {.stream = stream}, 16 * KiB);
  auto back = co_await reading;
  EXPECT_TRUE(back->ended) << error_name(back->ended.error());
  EXPECT_EQ(difference(*back, log.of(stream)), "");
  auto stopping = log.view().stop();
  (void)co_await stopping;
  co_return {};
}

// A body of no bytes may have no memory: nothing on its way may hand that to memcpy (UBSan sees it).
TEST(reader, a_batch_without_body_bytes_is_read) { on_a_machine(1, read_an_empty_body); }

struct Follower {
  ReadBack back;
  std::unique_ptr<Reader> reader;
  bool ended = false;
};

Task<> follow(MiniLog& log, Follower& follower, std::size_t target_bytes) {
  std::vector<std::byte> target(target_bytes);
  while (true) {
    auto reading = follower.reader->next(target);
    auto chunk = co_await reading;
    if (!chunk) {
      follower.back.ended = fail(chunk.error());
      break;
    }
    for (std::size_t at = 0; at < chunk->bytes;) {
      auto header = read_batch_header(Bytes(target).subspan(at));
      EXPECT_TRUE(header);
      EXPECT_LT(header->lsn, log.durable().value) << "given before it was durable";
      at += batch_span(header->body_bytes);
    }
    take_chunk(follower.back, *chunk, target);
  }
  follower.ended = true;
  co_return {};
}

// Followers that begin at random moments and places see every durable batch once, in order, while segments close under them.
Task<> follow_everything(Reactor& reactor, std::uint64_t seed) {
  Random random(seed);
  MiniLog log(reactor, {.ring_bytes = 32 * KiB, .batches_max = 128});
  auto opening = log.open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  const std::uint64_t streams = 1 + random.next() % 6;
  std::vector<std::unique_ptr<Follower>> followers;
  std::vector<std::size_t> begun;                // batches appended when the follower began
  std::vector<std::optional<StreamId>> subject;  // none = all streams
  for (int round = 0; round < 12; ++round) {
    auto filling = random_log(log, random, 40, streams, true);
    auto filled = co_await filling;
    EXPECT_TRUE(filled);
    auto follower = std::make_unique<Follower>();
    ReadRequest request{.follow = true};
    const bool latest = random.next() % 2 == 0;
    const StreamId stream = stream_number(random.next() % streams);
    if (random.next() % 3 != 0 && !log.of(stream).empty()) request.stream = stream;
    if (latest) request.from = Seek::latest();
    follower->reader = std::make_unique<Reader>(log.view(), request);
    begun.push_back(latest ? log.durable().value - 1 : 0);
    subject.push_back(request.stream);
    followers.push_back(std::move(follower));
    reactor.spawn(follow(log, *followers.back(), 20 * KiB));
    co_await Yield{};
    co_await Yield{};
  }
  auto flushing = log.flush();
  auto flushed = co_await flushing;
  EXPECT_TRUE(flushed);
  co_await Sleep(reactor, reactor.now() + 10 * nanos_per_second);
  for (std::size_t i = 0; i < followers.size(); ++i) {
    std::vector<const ModelBatch*> expected;
    for (const ModelBatch& batch : log.batches())
      if (batch.header.kind == BatchKind::data && batch.header.lsn > begun[i] &&
          (!subject[i] || subject[i]->value == batch.header.stream_id))
        expected.push_back(&batch);
    EXPECT_EQ(difference(followers[i]->back, expected), "")
        << "seed " << seed << " follower " << i << (subject[i] ? " of one stream" : " of all")
        << (followers[i]->ended ? " ended " : "")
        << (followers[i]->ended ? error_name(followers[i]->back.ended.error()) : "");
    followers[i]->reader->cancel();
  }
  co_await Sleep(reactor, reactor.now() + nanos_per_second);
  for (auto& follower : followers) EXPECT_TRUE(follower->ended);
  auto stopping = log.view().stop();
  (void)co_await stopping;
  co_return {};
}

TEST(reader, followers_see_every_durable_batch_once) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    on_a_machine(seed, follow_everything);
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace millrace::test
