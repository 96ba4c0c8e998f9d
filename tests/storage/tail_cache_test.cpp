#include "storage/tail_cache.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "reactor/random.hpp"

namespace millrace {
namespace {

struct Kept {
  BatchHeader header;
  std::vector<std::byte> bytes;
};

/// Batches of random streams and sizes into a cache and into a list; what the cache still holds must be the list's end.
class TailCacheModel {
 public:
  TailCacheModel(std::uint64_t seed, const TailCacheOptions& options, std::uint64_t streams)
      : cache_(options), random_(seed), streams_(streams) {}

  void append() {
    Kept kept;
    kept.header.stream_id = 1 + random_.next() % streams_;
    kept.header.lsn = ++lsn_;
    kept.header.record_count = static_cast<std::uint32_t>(1 + random_.next() % 5);
    kept.header.first_offset = next_[kept.header.stream_id];
    next_[kept.header.stream_id] += kept.header.record_count;
    kept.header.body_bytes = static_cast<std::uint32_t>(random_.next() % 700);
    kept.bytes.resize(batch_span(kept.header.body_bytes));
    for (std::byte& byte : kept.bytes) byte = static_cast<std::byte>(random_.next());
    cache_.append(kept.header, kept.bytes, {Day{1}, 2}, lsn_ * 16);
    all_.push_back(std::move(kept));
  }

  void check() {
    ASSERT_EQ(cache_.end().value, lsn_ + 1);
    std::map<std::uint64_t, std::uint64_t> newest;
    std::size_t used = 0;
    for (std::uint64_t lsn = cache_.first().value; lsn <= lsn_; ++lsn) {
      const auto* entry = cache_.find(Lsn{lsn});
      ASSERT_NE(entry, nullptr);
      const Kept& kept = all_[lsn - 1];
      ASSERT_TRUE(std::equal(entry->bytes.begin(), entry->bytes.end(), kept.bytes.begin(), kept.bytes.end()));
      const std::uint64_t stream = kept.header.stream_id;
      ASSERT_EQ(entry->previous_in_stream.value, newest[stream]);
      if (newest[stream] != 0) {
        ASSERT_EQ(cache_.find(Lsn{newest[stream]})->next_in_stream.value, lsn);
      }
      newest[stream] = lsn;
      used += kept.bytes.size();
    }
    ASSERT_EQ(cache_.bytes_used(), used);
    for (std::uint64_t stream = 1; stream <= streams_; ++stream) {
      const auto* entry = cache_.newest(StreamId{stream});
      ASSERT_EQ(entry == nullptr ? 0 : entry->lsn.value, newest[stream]);
      check_seek(stream);
    }
  }

 private:
  void check_seek(std::uint64_t stream) {
    const std::uint64_t offset = random_.next() % (next_[stream] + 2);
    const auto* found = cache_.seek(StreamId{stream}, Offset{offset});
    std::uint64_t wanted = 0;
    for (const Kept& kept : all_) {
      if (kept.header.stream_id != stream || kept.header.first_offset + kept.header.record_count <= offset) continue;
      wanted = kept.header.lsn;
      break;
    }
    if (wanted < cache_.first().value) wanted = 0;
    ASSERT_EQ(found == nullptr ? 0 : found->lsn.value, wanted) << "stream " << stream << " offset " << offset;
  }

  TailCache cache_;
  Random random_;
  std::uint64_t streams_;
  std::uint64_t lsn_ = 0;
  std::map<std::uint64_t, std::uint64_t> next_;
  std::deque<Kept> all_;
};

TEST(tail_cache, holds_the_end_of_the_log) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    TailCacheModel model(seed, {.ring_bytes = 1024 * (2 + seed), .batches_max = seed % 2 ? 16U : 256U}, 1 + seed % 30);
    for (int i = 0; i < 300; ++i) {
      model.append();
      model.check();
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << " step " << i;
    }
  }
}

TEST(tail_cache, ten_thousand_streams_and_no_allocation) {
  TailCache cache({.ring_bytes = 8 * MiB, .batches_max = 32 * 1024});
  const std::size_t memory = cache.memory_bytes();
  BatchHeader header;
  const std::vector<std::byte> bytes(batch_span(200));
  header.body_bytes = 200;
  header.record_count = 1;
  for (std::uint64_t round = 0; round < 8; ++round) {
    for (std::uint64_t stream = 1; stream <= 10'000; ++stream) {
      header.stream_id = hash64(bytes_of(std::to_string(stream)));
      header.first_offset = round;
      ++header.lsn;
      cache.append(header, bytes, {Day{1}, 0}, 0);
    }
  }
  EXPECT_EQ(cache.memory_bytes(), memory);
  // Each of them is found by its own chain, not by walking over the others.
  for (std::uint64_t stream = 1; stream <= 10'000; ++stream) {
    const auto* entry = cache.newest(StreamId{hash64(bytes_of(std::to_string(stream)))});
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->first_offset.value, 7);
    EXPECT_EQ(entry->previous_in_stream.value, entry->lsn.value - 10'000);
  }
}

TEST(tail_cache, in_place_refers_and_forgets) {
  TailCache cache({.ring_bytes = 0, .batches_max = 8});
  std::vector<std::byte> bytes(batch_span(10));
  BatchHeader header;
  header.body_bytes = 10;
  header.record_count = 1;
  header.stream_id = 5;
  for (header.lsn = 1; header.lsn <= 4; ++header.lsn) {
    header.first_offset = header.lsn - 1;
    cache.append_in_place(header, bytes, {}, 0);
  }
  EXPECT_EQ(cache.find(Lsn{2})->bytes.data(), bytes.data());
  cache.forget_before(Lsn{3});
  EXPECT_EQ(cache.first(), Lsn{3});
  EXPECT_EQ(cache.find(Lsn{2}), nullptr);
  EXPECT_EQ(cache.seek(StreamId{5}, Offset{1}), nullptr) << "an earlier batch that fits is gone";
  EXPECT_EQ(cache.seek(StreamId{5}, Offset{2})->lsn, Lsn{3});
  cache.clear(Lsn{100});
  EXPECT_EQ(cache.newest(StreamId{5}), nullptr);
  EXPECT_EQ(cache.end(), Lsn{100});
}

TEST(tail_cache, memory_that_is_used_again_takes_its_batches_along) {
  TailCache cache({.ring_bytes = 0, .batches_max = 16});
  BatchHeader header;
  header.body_bytes = 16;
  header.record_count = 1;
  header.stream_id = 5;
  const std::size_t span = batch_span(16);
  std::vector<std::byte> ring(8 * span);
  for (header.lsn = 1; header.lsn <= 8; ++header.lsn) {
    header.first_offset = header.lsn - 1;
    cache.append_in_place(header, Bytes(ring).subspan((header.lsn - 1) * span, span), {}, 0);
  }
  cache.forget_in(Bytes(ring).subspan(2 * span, span));
  EXPECT_EQ(cache.first(), Lsn{1}) << "the oldest do not stand there";
  cache.forget_in(Bytes(ring).first(2 * span + 1));
  EXPECT_EQ(cache.first(), Lsn{4}) << "a batch of which one byte goes is gone";
  EXPECT_EQ(cache.seek(StreamId{5}, Offset{3})->lsn, Lsn{4});
  cache.forget_in(ring);
  EXPECT_EQ(cache.first(), cache.end());
}

TEST(tail_cache, a_batch_larger_than_the_ring_is_not_kept) {
  TailCache cache({.ring_bytes = 1024, .batches_max = 8});
  BatchHeader header;
  header.lsn = 1;
  header.stream_id = 1;
  header.body_bytes = 16;
  header.record_count = 1;
  cache.append(header, std::vector<std::byte>(batch_span(16)), {}, 0);
  header.lsn = 2;
  header.body_bytes = 4096;
  cache.append(header, std::vector<std::byte>(batch_span(4096)), {}, 0);
  EXPECT_EQ(cache.first(), Lsn{3});
  EXPECT_EQ(cache.end(), Lsn{3});
  EXPECT_EQ(cache.newest(StreamId{1}), nullptr);
}

}  // namespace
}  // namespace millrace
