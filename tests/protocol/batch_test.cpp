// The batch: header, body view and builder. The builder lays the flatbuffer out by hand, so flatc's own verifier and
// accessors are asked whether they read the same; a body that flatc's builder made must be read too.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "protocol/batch_builder.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "protocol/batch_generated.h"
#pragma GCC diagnostic pop

namespace millrace {
namespace {

struct Sample {
  std::string payload;
  std::uint16_t type = 0;
  Nanos event_time = 0;
  bool keyed = false;
  std::string key = {};
  std::string headers = {};

  RecordInput input() const {
    return {bytes_of(payload), type, event_time, keyed, keyed, bytes_of(key), bytes_of(headers)};
  }
};

std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

BatchHeader producer_header() {
  BatchHeader header;
  header.stream_id = 7;
  header.producer_id = 9;
  header.producer_epoch = 2;
  header.producer_sequence = 41;
  return header;
}

std::vector<Sample> random_samples(std::mt19937_64& random, bool keyed) {
  std::vector<Sample> samples(1 + random() % 40);
  bool typed = random() % 2 == 0, timed = random() % 2 == 0;
  for (Sample& sample : samples) {
    sample.payload.resize(random() % 300);
    for (char& c : sample.payload) c = static_cast<char>(random());
    if (typed) sample.type = static_cast<std::uint16_t>(random());
    sample.event_time = timed ? static_cast<Nanos>(random() % 1000) - 500 : 5;
    sample.keyed = keyed;
    if (keyed) {
      sample.key = std::string(random() % 20, 'k');
      sample.headers = std::string(random() % 20, 'h');
    }
  }
  return samples;
}

void expect_same(const BodyView& view, const std::vector<Sample>& samples) {
  ASSERT_EQ(view.count(), samples.size());
  for (std::uint32_t i = 0; i < view.count(); ++i) {
    EXPECT_EQ(text(view.payload(i)), samples[i].payload);
    EXPECT_EQ(view.type(i), samples[i].type);
    EXPECT_EQ(view.event_time(i), samples[i].event_time);
    ASSERT_EQ(view.has_keys(), samples[i].keyed);
    if (!view.has_keys()) continue;
    EXPECT_EQ(text(view.key(i)), samples[i].key);
    EXPECT_EQ(text(view.headers(i)), samples[i].headers);
  }
}

TEST(BatchBuilder, FlatcReadsTheSame) {
  std::mt19937_64 random(1);
  BatchBuilder builder({.bytes_max = batch_bytes_max});
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<Sample> samples = random_samples(random, trial % 3 == 0);
    builder.begin();
    for (const Sample& sample : samples) ASSERT_TRUE(builder.add(sample.input()));
    std::size_t expected = builder.bytes();
    BatchHeader header = producer_header();
    Bytes batch = builder.finish(header);
    ASSERT_EQ(batch.size(), expected);
    ASSERT_EQ(batch.size(), batch_span(header.body_bytes));

    Bytes body = builder.body();
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
    ASSERT_TRUE(fbs::VerifyBodyBuffer(verifier));
    const fbs::Body* root = fbs::GetBody(body.data());
    ASSERT_EQ(root->ends()->size(), samples.size());
    std::uint32_t end = 0;
    for (std::uint32_t i = 0; i < samples.size(); ++i) {
      end += static_cast<std::uint32_t>(samples[i].payload.size());
      ASSERT_EQ(root->ends()->Get(i), end);
    }
    ASSERT_EQ(root->payload()->size(), end);

    Result<BatchHeader> read = read_batch_header(batch);
    ASSERT_TRUE(read);
    Result<BodyView> view = BodyView::parse(body, *read);
    ASSERT_TRUE(view);
    expect_same(*view, samples);
  }
}

TEST(BatchBuilder, OverheadIsSmall) {
  BatchBuilder builder;
  std::string payload(200, 'x');
  ASSERT_TRUE(builder.add({.payload = bytes_of(payload), .type = 3, .event_time = 77, .key = {}, .headers = {}}));
  BatchHeader header = producer_header();
  builder.finish(header);
  EXPECT_LE(header.body_bytes, 288u);
  builder.begin();
  std::uint32_t records = 0;
  while (builder.add({.payload = bytes_of(payload), .type = 3, .event_time = records, .key = {}, .headers = {}}))
    ++records;
  EXPECT_GE(records, 300u);  // 14 bytes a record beside the payload in a 64 KiB batch
  EXPECT_LE(builder.bytes(), 64 * KiB);
}

TEST(BatchBuilder, KeepsItsLimits) {
  BatchBuilder builder({.bytes_max = 1000, .records_max = 2});
  std::string big(2000, 'x'), small(10, 'y');
  ASSERT_TRUE(builder.add({.payload = bytes_of(big), .key = {}, .headers = {}}));  // alone it may be larger
  EXPECT_FALSE(builder.add({.payload = bytes_of(small), .key = {}, .headers = {}}));
  builder.begin();
  ASSERT_TRUE(builder.add({.payload = bytes_of(small), .key = {}, .headers = {}}));
  EXPECT_FALSE(builder.add({.payload = bytes_of(small), .has_key = true, .key = {}, .headers = {}}));
  ASSERT_TRUE(builder.add({.payload = bytes_of(small), .key = {}, .headers = {}}));
  EXPECT_FALSE(builder.add({.payload = bytes_of(small), .key = {}, .headers = {}}));
  builder.begin();
  std::string too_big(batch_bytes_max, 'z');
  EXPECT_FALSE(builder.add({.payload = bytes_of(too_big), .key = {}, .headers = {}}));
}

std::vector<std::byte> flatc_body(const std::vector<std::uint32_t>& ends, std::size_t payload, BatchHeader& header,
                                  const std::vector<std::int64_t>* times = nullptr) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<std::uint8_t> bytes(payload, 1);
  builder.Finish(fbs::CreateBodyDirect(builder, &ends, nullptr, times, &bytes), fbs::BodyIdentifier());
  Bytes made = as_bytes(builder.GetBufferPointer(), builder.GetSize());
  header = producer_header();
  header.record_count = static_cast<std::uint32_t>(ends.size());
  header.body_bytes = static_cast<std::uint32_t>(made.size());
  header.raw_bytes = made.size();
  header.body_hash = hash128(made);
  return {made.begin(), made.end()};
}

TEST(BodyView, ReadsWhatFlatcBuilt) {
  BatchHeader header;
  std::vector<std::byte> body = flatc_body({1, 1, 5}, 5, header);
  Result<BodyView> view = BodyView::parse(body, header);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->payload(0).size(), 1u);
  EXPECT_EQ(view->payload(1).size(), 0u);
  EXPECT_EQ(view->payload(2).size(), 4u);
}

TEST(BodyView, RefusesWhatDoesNotFit) {
  auto parse = [](const std::vector<std::uint32_t>& ends, std::size_t payload) {
    BatchHeader header;
    std::vector<std::byte> body = flatc_body(ends, payload, header);
    return BodyView::parse(body, header).has_value();
  };
  EXPECT_TRUE(parse({2, 4}, 4));
  EXPECT_FALSE(parse({4, 2}, 4));  // ends run backwards
  EXPECT_FALSE(parse({5, 4}, 4));  // and past the payload in between
  EXPECT_FALSE(parse({2, 3}, 4));  // bytes that belong to nobody
  EXPECT_FALSE(parse({2, 5}, 4));  // past the end
  EXPECT_FALSE(parse({0xffffffffu, 4}, 4));

  BatchHeader header;
  std::vector<std::byte> body = flatc_body({2, 4}, 4, header);
  BatchHeader other = header;
  other.record_count = 3;
  EXPECT_FALSE(BodyView::parse(body, other));
  other = header;
  other.event_time_max = 1;  // without event times all are the smallest
  EXPECT_FALSE(BodyView::parse(body, other));
  other = header;
  other.body_hash.low ^= 1;
  EXPECT_FALSE(BodyView::parse(body, other));
  std::vector<std::byte> shifted(body.size() + 1);
  std::ranges::copy(body, shifted.begin() + 1);
  EXPECT_FALSE(BodyView::parse(Bytes(shifted).subspan(1), header));

  std::vector<std::int64_t> times{5, 9};
  body = flatc_body({2, 4}, 4, header, &times);
  header.event_time_min = 5;
  header.event_time_max = 9;
  EXPECT_TRUE(BodyView::parse(body, header));
  header.event_time_max = 8;
  EXPECT_FALSE(BodyView::parse(body, header));
}

TEST(BodyView, EveryFlippedBitIsSeen) {
  BatchHeader header;
  std::vector<std::byte> body = flatc_body({2, 4}, 4, header);
  for (std::size_t bit = 0; bit < body.size() * 8; ++bit) {
    body[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(BodyView::parse(body, header)) << bit;
    // With a hash that fits it may be refused or read, but it stays inside its bytes (ASan and UBSan watch).
    BatchHeader rehashed = header;
    rehashed.body_hash = hash128(body);
    if (Result<BodyView> view = BodyView::parse(body, rehashed)) {
      for (std::uint32_t i = 0; i < view->count(); ++i) EXPECT_LE(view->payload(i).size(), body.size());
    }
    body[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(BatchHeader, EveryFlippedBitIsSeen) {
  BatchHeader header = producer_header();
  header.record_count = 1;
  seal_header(header, Chain{5});
  std::vector<std::byte> bytes(batch_header_bytes);
  store(MutableBytes(bytes), 0, header);
  ASSERT_TRUE(read_batch_header(bytes));
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(read_batch_header(bytes)) << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(BatchHeader, LimitsHoldBehindAGoodChecksum) {
  auto accepted = [](auto change) {
    BatchHeader header = producer_header();
    header.record_count = 1;
    change(header);
    header.checksum = header_checksum(header);
    return read_batch_header(as_bytes(&header, sizeof(header))).has_value();
  };
  EXPECT_TRUE(accepted([](BatchHeader&) {}));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.kind = static_cast<BatchKind>(6); }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.codec = 1; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.flags = 1; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.reserved[6] = 1; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) {
    h.body_bytes = 0xffffffffu;
    h.raw_bytes = h.body_bytes;
  }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.raw_bytes = 1; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.record_count = 0; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.record_count = batch_records_max + 1; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.stream_id = 0; }));
  EXPECT_FALSE(accepted([](BatchHeader& h) { h.event_time_min = 1; }));
}

TEST(BatchHeader, ChainCoversTheHeaderAndWhatCameBefore) {
  BatchHeader header = producer_header();
  Chain one = chain_after(Chain{1}, header);
  EXPECT_NE(one, chain_after(Chain{2}, header));
  header.chain = 99;
  header.checksum = 98;
  EXPECT_EQ(one, chain_after(Chain{1}, header));  // both count as zero
  header.lsn = 1;
  EXPECT_NE(one, chain_after(Chain{1}, header));
}

}  // namespace
}  // namespace millrace
