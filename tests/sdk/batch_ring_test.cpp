#include "sdk/core/batch_ring.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

namespace millrace {
namespace {

struct Counting final : BatchRingListener {
  std::atomic<int> calls{0};
  void ring_has_work() override { calls.fetch_add(1); }
};

constexpr std::uint32_t small_bytes = 256;

struct BatchRingTest : testing::Test {
  BufferPool pool{0, BufferShape::of(small_bytes, 8)};  // two buffers, the least there is
  Counting listener;
  std::uint64_t ticket = 99;
  std::vector<std::byte> payload = std::vector<std::byte>(100, std::byte{7});

  BatchRing::Outcome put(BatchRing& ring, std::size_t bytes = 100) {
    return ring.append({0, 0, Bytes(payload).first(bytes), {}, {}}, ticket);
  }
};

TEST_F(BatchRingTest, RefusesWhenEveryBatchIsInUse) {
  BatchRing ring(pool, {small_bytes, 8, 4}, listener);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(put(ring), BatchRing::Outcome::accepted);  // two a batch
  EXPECT_EQ(ticket, 3u);
  EXPECT_EQ(put(ring), BatchRing::Outcome::no_room);
  EXPECT_EQ(pool.free_count(), 0u);
  BatchRing::Taken taken;
  ASSERT_TRUE(ring.take(taken));
  EXPECT_EQ(taken.records, 2u);
  EXPECT_EQ(put(ring), BatchRing::Outcome::no_room) << "taken is not released";
  ring.release(taken.number);
  EXPECT_EQ(put(ring), BatchRing::Outcome::accepted);
  EXPECT_EQ(ticket, 4u);
  EXPECT_EQ(ring.tickets(), 5u);
}

TEST_F(BatchRingTest, TakesOpenBatchesAndClosesThem) {
  BatchRing ring(pool, {small_bytes, 8, 4}, listener);
  EXPECT_EQ(ring.next(), BatchRing::Readiness::nothing);
  put(ring, 10);
  EXPECT_EQ(listener.calls.load(), 1);
  EXPECT_EQ(ring.next(), BatchRing::Readiness::filling);
  put(ring, 10);
  EXPECT_EQ(listener.calls.load(), 1) << "only the first record of a batch is news";
  BatchRing::Taken taken;
  ASSERT_TRUE(ring.take(taken));
  EXPECT_EQ(taken.records, 2u);
  put(ring, 10);
  EXPECT_EQ(ticket, 2u);
  ring.close_open();
  EXPECT_EQ(ring.next(), BatchRing::Readiness::ready);
  ASSERT_TRUE(ring.take(taken));
  EXPECT_EQ(taken.first_ticket, 2u);
}

TEST_F(BatchRingTest, ClosesByCountAndRefusesWhatNeverFits) {
  BatchRing ring(pool, {small_bytes, 2, 4}, listener);
  EXPECT_EQ(ring.append({0, 0, Bytes(payload), Bytes(payload), Bytes(payload)}, ticket), BatchRing::Outcome::too_large);
  put(ring, 1);
  put(ring, 1);
  EXPECT_EQ(ring.next(), BatchRing::Readiness::ready);
}

TEST_F(BatchRingTest, ARecordOverTheLimitIsABatchOfItsOwn) {
  BatchRing ring(pool, {40, 8, 4}, listener);
  put(ring, 10);
  EXPECT_EQ(put(ring, 100), BatchRing::Outcome::accepted);
  BatchRing::Taken taken;
  ASSERT_TRUE(ring.take(taken));
  EXPECT_EQ(taken.records, 1u);
  EXPECT_EQ(ring.next(), BatchRing::Readiness::ready);
  ASSERT_TRUE(ring.take(taken));
  EXPECT_EQ(taken.records, 1u);
  EXPECT_EQ(taken.buffer.notes[0].end, 100u);
}

TEST_F(BatchRingTest, GivesMemoryBackAtItsEnd) {
  {
    BatchRing ring(pool, {small_bytes, 8, 4}, listener);
    put(ring);
    EXPECT_EQ(pool.free_count(), 1u);
  }
  EXPECT_EQ(pool.free_count(), 2u);
}

/// Threads append, one thread takes at random moments: every record arrives once, whole, under its ticket, and each thread's
/// records in its order.
TEST(BatchRingThreads, ManyAppendersOneTaker) {
  constexpr int appenders = 3;
  constexpr std::uint64_t each = 60'000;
  BufferPool pool(0, BufferShape::of(4 * KiB, 64));
  Counting listener;
  BatchRing ring(pool, {4 * KiB, 64, 2}, listener);
  std::atomic<int> running{appenders};
  std::vector<std::vector<std::uint64_t>> tickets(appenders);
  std::vector<std::thread> threads;
  for (int t = 0; t < appenders; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < each;) {
        std::uint64_t words[3] = {static_cast<std::uint64_t>(t), i, i * 31 + static_cast<std::uint64_t>(t)};
        std::uint64_t ticket = 0;
        if (ring.append({static_cast<std::uint16_t>(t), static_cast<std::int64_t>(i), as_bytes(words, 24), {}, {}},
                        ticket) == BatchRing::Outcome::accepted) {
          tickets[t].push_back(ticket);
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
      running.fetch_sub(1);
    });
  std::map<std::uint64_t, std::pair<int, std::uint64_t>> seen;
  std::vector<std::uint64_t> next(appenders, 0);
  std::uint64_t expected_ticket = 0;
  while (running.load() > 0 || expected_ticket < ring.tickets()) {
    BatchRing::Taken taken;
    if (!ring.take(taken)) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(taken.first_ticket, expected_ticket);
    expected_ticket += taken.records;
    for (std::uint32_t i = 0; i < taken.records; ++i) {
      const std::uint32_t begin = i == 0 ? 0 : taken.buffer.notes[i - 1].end;
      ASSERT_EQ(taken.buffer.notes[i].end - begin, 24u);
      std::uint64_t words[3];
      std::memcpy(words, taken.buffer.arena + begin, 24);
      ASSERT_LT(words[0], static_cast<std::uint64_t>(appenders));
      ASSERT_EQ(words[2], words[1] * 31 + words[0]) << "a torn record";
      ASSERT_EQ(words[1], next[words[0]]++) << "a thread's records out of order";
      ASSERT_EQ(taken.buffer.notes[i].type, words[0]);
      seen[taken.first_ticket + i] = {static_cast<int>(words[0]), words[1]};
    }
    ring.release(taken.number);
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(seen.size(), appenders * each);
  for (int t = 0; t < appenders; ++t)
    for (std::uint64_t i = 0; i < each; ++i) ASSERT_EQ(seen[tickets[t][i]], std::make_pair(t, i));
}

}  // namespace
}  // namespace millrace
