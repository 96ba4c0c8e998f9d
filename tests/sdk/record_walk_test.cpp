#include "sdk/record_walk.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "protocol/batch_builder.hpp"

namespace millrace {
namespace {

/// Three batches of four records: offsets 0..11, days 10, 10, 11, ids 0..7 and 0..3, types 0, 1, 0, 1, leader times 100, 200, 300.
ReadEventCore three_batches() {
  ReadEventCore event;
  event.kind = ReadEventCore::Kind::batches;
  event.next = 12;
  std::vector<std::size_t> at;
  std::vector<BatchHeader> headers;
  for (std::uint64_t b = 0; b < 3; ++b) {
    BatchBuilder builder;
    for (std::uint64_t r = 0; r < 4; ++r) {
      const std::string text = "record " + std::to_string(b * 4 + r);
      RecordInput record;
      record.payload = bytes_of(text);
      record.type = static_cast<std::uint16_t>(r % 2);
      EXPECT_TRUE(builder.add(record));
    }
    BatchHeader header;
    const Bytes whole = builder.finish(header);
    header.first_offset = b * 4;
    header.day = b < 2 ? 10 : 11;
    header.first_id = b < 2 ? b * 4 : 0;
    header.leader_time = static_cast<std::int64_t>(b + 1) * 100;
    at.push_back(event.bytes.size());
    headers.push_back(header);
    event.bytes.insert(event.bytes.end(), whole.begin(), whole.end());
  }
  for (std::size_t b = 0; b < 3; ++b)
    event.batches.push_back(
        {headers[b],
         *BodyView::parse(Bytes(event.bytes).subspan(at[b] + batch_header_bytes, headers[b].body_bytes), headers[b])});
  return event;
}

struct Walked {
  std::vector<std::uint64_t> offsets;
  bool finished = false;
  std::uint64_t next = 0;
};

Walked walk(const ConsumerOptions& options, std::uint64_t first = 0) {
  RecordWalk walk(options);
  ReadEventCore event = three_batches();
  event.first = first;
  walk.enter(std::move(event));
  Walked walked;
  ReadResult result;
  for (;;) {
    const RecordWalk::Step step = walk.next(result);
    if (step == RecordWalk::Step::record) {
      EXPECT_EQ(text_view(result.record.payload), "record " + std::to_string(result.record.offset));
      walked.offsets.push_back(result.record.offset);
      continue;
    }
    walked.finished = step == RecordWalk::Step::finished;
    walked.next = walk.next_offset();
    return walked;
  }
}

using Offsets = std::vector<std::uint64_t>;

TEST(RecordWalk, AllOfThem) {
  const Walked walked = walk({});
  EXPECT_EQ(walked.offsets, (Offsets{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_FALSE(walked.finished);
  EXPECT_EQ(walked.next, 12u);
}

TEST(RecordWalk, BeginsInsideABatchByOffsetAndById) {
  ConsumerOptions options;
  options.from = Place::at_offset(6);
  EXPECT_EQ(walk(options).offsets, (Offsets{6, 7, 8, 9, 10, 11}));
  options.from = Place::at_day(10, 6);
  EXPECT_EQ(walk(options).offsets, (Offsets{6, 7, 8, 9, 10, 11}));
  options.from = Place::at_day(11, 2);
  EXPECT_EQ(walk(options).offsets, (Offsets{10, 11}));
  options.from = Place::earliest();
  EXPECT_EQ(walk(options, 9).offsets, (Offsets{9, 10, 11})) << "what was handed out before a reconnect";
}

TEST(RecordWalk, EndsInsideABatch) {
  ConsumerOptions options;
  options.until = Place::at_offset(2);
  EXPECT_EQ(walk(options).offsets, (Offsets{0, 1}));
  EXPECT_TRUE(walk(options).finished);
  options.until = Place::at_day(10, 5);
  EXPECT_EQ(walk(options).offsets, (Offsets{0, 1, 2, 3, 4}));
  options.until = Place::at_day(11);
  EXPECT_EQ(walk(options).offsets, (Offsets{0, 1, 2, 3, 4, 5, 6, 7}));
  options.until = Place::at_time(200);
  EXPECT_EQ(walk(options).offsets, (Offsets{0, 1, 2, 3})) << "a time is that of a whole batch";
}

TEST(RecordWalk, TypeAndCount) {
  ConsumerOptions options;
  options.type = 1;
  EXPECT_EQ(walk(options).offsets, (Offsets{1, 3, 5, 7, 9, 11}));
  options.count = 2;
  const Walked walked = walk(options);
  EXPECT_EQ(walked.offsets, (Offsets{1, 3}));
  EXPECT_TRUE(walked.finished);
  EXPECT_EQ(walked.next, 4u) << "a reader that goes on loses nothing";
}

}  // namespace
}  // namespace millrace
