#include "sdk/core/body_packer.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "sdk/core/batch_ring.hpp"

namespace millrace {
namespace {

struct Quiet final : BatchRingListener {
  void ring_has_work() override {}
};

struct Made {
  std::uint16_t type;
  std::int64_t time;
  std::string payload, key, headers;
};

/// Appends, takes, packs, and reads back with the reader of the protocol.
void round_trip(const std::vector<Made>& records) {
  BufferPool pool(1, BufferShape::of(64 * KiB, 4096));
  Quiet quiet;
  BatchRing ring(pool, {64 * KiB, 4096, 2}, quiet);
  std::uint64_t ticket = 0;
  for (const Made& made : records)
    ASSERT_EQ(
        ring.append({made.type, made.time, bytes_of(made.payload), bytes_of(made.key), bytes_of(made.headers)}, ticket),
        BatchRing::Outcome::accepted);
  BatchRing::Taken taken;
  ASSERT_TRUE(ring.take(taken));
  ASSERT_EQ(taken.records, records.size());
  PackScratch scratch;
  const PackedBody packed = pack_body(taken.buffer, taken.records, scratch);
  EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(packed.body.data()), 16));
  BatchHeader header;
  header.record_count = packed.record_count;
  header.body_bytes = static_cast<std::uint32_t>(packed.body.size());
  header.raw_bytes = header.body_bytes;
  header.body_hash = hash128(packed.body);
  header.event_time_min = packed.event_time_min;
  header.event_time_max = packed.event_time_max;
  const auto view = BodyView::parse(packed.body, header);
  ASSERT_TRUE(view.has_value());
  ASSERT_EQ(view->count(), records.size());
  const auto text = [](Bytes b) { return std::string(reinterpret_cast<const char*>(b.data()), b.size()); };
  for (std::uint32_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(text(view->payload(i)), records[i].payload);
    EXPECT_EQ(view->type(i), records[i].type);
    EXPECT_EQ(view->event_time(i), records[i].time);
    EXPECT_EQ(view->has_keys() ? text(view->key(i)) : "", records[i].key);
    EXPECT_EQ(view->has_headers() ? text(view->headers(i)) : "", records[i].headers);
  }
}

TEST(BodyPacker, OneRecordOfNothing) { round_trip({{0, 0, "", "", ""}}); }
TEST(BodyPacker, PlainRecords) { round_trip({{0, 5, "a", "", ""}, {0, 5, "", "", ""}, {0, 5, "ccc", "", ""}}); }
TEST(BodyPacker, TypesAndTimes) { round_trip({{7, 5, "a", "", ""}, {0, -6, "bb", "", ""}, {65535, 9, "c", "", ""}}); }
TEST(BodyPacker, KeysOnSomeRecords) {
  round_trip({{0, 1, "payload one", "key", ""}, {0, 2, "two", "", ""}, {1, 3, "", "k3", ""}});
}
TEST(BodyPacker, KeysAndHeaders) {
  round_trip({{0, 1, "payload", "key", "h: 1"}, {0, 1, "p", "k", ""}, {0, 1, "", "", "only headers"}});
}

TEST(BodyPacker, ManyShapes) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<Made> records(1 + random() % 40);
    const bool types = random() % 2, times = random() % 2, keys = random() % 2, headers = random() % 2;
    for (Made& made : records) {
      made.type = types ? static_cast<std::uint16_t>(random()) : 0;
      made.time = times ? static_cast<std::int64_t>(random()) : 42;
      made.payload.assign(random() % 70, static_cast<char>('a' + random() % 26));
      if (keys) made.key.assign(random() % 9, 'k');
      if (headers) made.headers.assign(random() % 9, 'h');
    }
    round_trip(records);
  }
}

TEST(BodyPacker, FullOfTinyRecords) {
  std::vector<Made> records;
  for (int i = 0; i < 4096; ++i) records.push_back({static_cast<std::uint16_t>(i), i, "x", i % 2 ? "k" : "", "hh"});
  round_trip(records);
}

}  // namespace
}  // namespace millrace
