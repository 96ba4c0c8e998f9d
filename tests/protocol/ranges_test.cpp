#include "protocol/ranges.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/protocol/frames.hpp"

namespace millrace {
namespace {

using wire::RangeKind;

wire::RangeAsked asked(RangeKind kind) {
  wire::RangeAsked message;
  message.kind = kind;
  message.request_id = 7;
  message.day = Day{20778};
  message.number = 5;
  message.segment_id = {3, 4};
  message.begin = 100;
  message.end = 100 + wire::range_max(kind);
  return message;
}

TEST(Ranges, AQuestionComesBackAsItWent) {
  for (const RangeKind kind : {RangeKind::sums, RangeKind::bytes}) {
    const wire::RangeAsked sent = asked(kind);
    FrameOutput output;
    encode(output, sent);
    const auto got = wire::decode_range_asked(frame_in(output));
    ASSERT_TRUE(got);
    EXPECT_EQ(got->kind, kind);
    EXPECT_EQ(got->request_id, 7u);
    EXPECT_EQ(got->day, Day{20778});
    EXPECT_EQ(got->number, 5u);
    EXPECT_EQ(got->segment_id, sent.segment_id);
    EXPECT_EQ(got->begin, 100u);
    EXPECT_EQ(got->end, sent.end);
  }
}

TEST(Ranges, TooLongOrBackwardsIsRefused) {
  for (const RangeKind kind : {RangeKind::sums, RangeKind::bytes}) {
    wire::RangeAsked wrong = asked(kind);
    ++wrong.end;
    FrameOutput output;
    encode(output, wrong);
    EXPECT_EQ(wire::decode_range_asked(frame_in(output)).error(), Error::too_large);
    wrong.end = wrong.begin - 1;
    output.clear();
    encode(output, wrong);
    EXPECT_EQ(wire::decode_range_asked(frame_in(output)).error(), Error::too_large);
  }
}

TEST(Ranges, AnAnswerHasAHashAPieceOrTheBytes) {
  const std::vector<std::byte> bytes(wire::sums_piece_bytes + 1, std::byte{9});
  const std::uint64_t sums[2] = {11, 12};
  for (const RangeKind kind : {RangeKind::sums, RangeKind::bytes}) {
    wire::RangeGiven sent;
    sent.kind = kind;
    sent.begin = 4096;
    sent.end = 4096 + bytes.size();
    sent.body = kind == RangeKind::sums ? as_bytes(sums, sizeof(sums)) : Bytes(bytes);
    FrameOutput output;
    encode(output, sent);
    const auto got = wire::decode_range_given(frame_in(output));
    ASSERT_TRUE(got);
    EXPECT_EQ(got->kind, kind);
    EXPECT_EQ(got->end, sent.end);
    if (kind == RangeKind::sums) {
      ASSERT_EQ(got->sums(), 2u);
      EXPECT_EQ(got->sum(1), 12u);
    } else {
      EXPECT_TRUE(std::ranges::equal(got->body, bytes));
    }
    // A body that does not fit its range is no answer.
    Frame wrong = frame_in(output);
    wrong.header.words[1] += wire::sums_piece_bytes;
    EXPECT_EQ(wire::decode_range_given(wrong).error(), Error::bad_frame);
  }
}

}  // namespace
}  // namespace millrace
