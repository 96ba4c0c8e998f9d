#include "protocol/messages.hpp"

#include <gtest/gtest.h>

#include <string>

#include "protocol/credit.hpp"
#include "protocol/utf8.hpp"
#include "tests/protocol/frames.hpp"

namespace millrace::wire {
namespace {

template <class Message>
FrameOutput encoded(const Message& message) {
  FrameOutput output;
  encode(output, message);
  return output;
}

TEST(Messages, StreamNames) {
  for (const char* good : {"demo", "a", "logs/web-1", "données", "日志/一", "a.b", "...", "a b", ".hidden"})
    EXPECT_TRUE(is_stream_name(good)) << good;
  for (const char* bad : {"",
                          "/",
                          "/a",
                          "a/",
                          "a//b",
                          ".",
                          "..",
                          "../etc/passwd",
                          "a/../b",
                          "a/./b",
                          "a/..",
                          "a\nb",
                          "a\tb",
                          "\x7f",
                          "\xc2\x85",
                          "\xff",
                          "\xc0\xaf",
                          "\xed\xa0\x80",
                          "\xf4\x90\x80\x80",
                          "a\xe2\x82"})
    EXPECT_FALSE(is_stream_name(bad)) << bad;
  EXPECT_FALSE(is_stream_name(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_stream_name(std::string(255, 'x')));
  EXPECT_FALSE(is_stream_name(std::string(256, 'x')));
}

TEST(Messages, Utf8TakesEveryCodePointAndNothingElse) {
  EXPECT_TRUE(is_utf8("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"));
  EXPECT_FALSE(is_utf8("\x80"));
  EXPECT_FALSE(is_utf8("\xe0\x80\x80"));
  EXPECT_FALSE(is_utf8("\xf8\x88\x80\x80\x80"));
}

TEST(Messages, OpenStream) {
  auto bytes = encoded(OpenStream{7, "demo", true});
  auto back = decode_open_stream(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->name, "demo");
  EXPECT_TRUE(back->create);
  bytes = encoded(OpenStream{7, "../x", true});
  EXPECT_EQ(decode_open_stream(frame_in(bytes)).error(), Error::invalid_argument);
}

TEST(Messages, SmallRequests) {
  auto bytes = encoded(RegisterProducer{1, ProducerId{99}});
  EXPECT_EQ(decode_register_producer(frame_in(bytes))->producer, ProducerId{99});
  bytes = encoded(ReadCredit{2, 1u << 20});
  EXPECT_EQ(decode_read_credit(frame_in(bytes))->granted, 1u << 20);
  bytes = encoded(CancelRead{3});
  EXPECT_EQ(decode_cancel_read(frame_in(bytes))->request_id, 3u);
  bytes = encoded(Stat{4, StreamId{5}, 6});
  EXPECT_EQ(decode_stat(frame_in(bytes))->after, StreamId{5});
  EXPECT_EQ(decode_stat(frame_in(bytes))->streams_max, 6u);
  bytes = encoded(Stat{4, StreamId{5}, stat_streams_max + 1});
  EXPECT_EQ(decode_stat(frame_in(bytes)).error(), Error::too_large);
  bytes = encoded(Ping{5, 77});
  EXPECT_EQ(decode_ping(frame_in(bytes))->token, 77u);
}

TEST(Messages, ReadPositions) {
  Read read;
  read.request_id = 11;
  read.stream = StreamId{123};
  read.from = Position::at_day(Day{20778}, RecordId{5});
  read.until = Position::at_time(-7);
  read.follow = true;
  read.filter_type = true;
  read.type = 65535;
  read.credit = 1 << 20;
  auto bytes = encoded(read);
  auto back = decode_read(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->from, read.from);
  EXPECT_EQ(back->until, read.until);
  EXPECT_TRUE(back->follow && back->filter_type);
  EXPECT_EQ(back->type, 65535);
  EXPECT_EQ(back->stream, StreamId{123});
  EXPECT_EQ(back->credit, 1u << 20);
}

TEST(Messages, ReadRefusals) {
  auto refusal = [](Read read) {
    auto bytes = encoded(read);
    auto got = decode_read(frame_in(bytes));
    return got ? Error::internal : got.error();
  };
  Read read;
  read.request_id = 1;
  read.from = {};
  EXPECT_EQ(refusal(read), Error::invalid_argument);
  read.from = Position::earliest();
  read.request_id = 0;
  EXPECT_EQ(refusal(read), Error::invalid_argument);
  read.request_id = 1;
  read.until.kind = static_cast<PositionKind>(6);
  EXPECT_EQ(refusal(read), Error::invalid_argument);
}

TEST(Messages, AppendChecksItsLength) {
  std::vector<std::byte> batch(batch_header_bytes + 100);
  BatchHeader header;
  header.body_bytes = 100;
  store(batch, 0, header);
  auto bytes = encoded(Append{1, batch});
  auto back = decode_append(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->batch.size(), batch.size());
  for (std::uint32_t claim : {0u, 99u, 101u, 0xffff'ffffu}) {
    header.body_bytes = claim;
    store(batch, 0, header);
    bytes = encoded(Append{1, batch});
    EXPECT_EQ(decode_append(frame_in(bytes)).error(), Error::bad_body) << claim;
  }
  batch.resize(batch_header_bytes);
  bytes = encoded(Append{1, batch});
  EXPECT_EQ(decode_append(frame_in(bytes)).error(), Error::bad_body);
  batch.resize(batch_bytes_max + 1);
  bytes = encoded(Append{1, batch});
  EXPECT_EQ(decode_append(frame_in(bytes)).error(), Error::too_large);
}

TEST(Messages, Acks) {
  std::vector<AckEntry> entries(3);
  for (std::size_t i = 0; i < entries.size(); i++)
    entries[i] = {.request_id = i, .first_offset = 10 * i, .lsn = 5 + i, .day = 20778, .level = Level::local};
  entries[2].error = static_cast<std::uint16_t>(Error::no_space);
  entries[2].detail = 4096;
  entries[2].flags = ack_flag_repeat;
  FrameOutput bytes;
  encode_acks(bytes, 777, entries);
  auto back = decode_acks(frame_in(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->granted, 777u);
  ASSERT_EQ(back->count(), 3u);
  EXPECT_EQ(back->entry(1).first_offset, 10u);
  EXPECT_EQ(back->entry(2).error, static_cast<std::uint16_t>(Error::no_space));
  EXPECT_EQ(back->entry(2).detail, 4096u);
  EXPECT_EQ(back->entry(2).flags, ack_flag_repeat);
  Frame cut = frame_in(bytes);
  cut.body = cut.body.first(cut.body.size() - 16);
  EXPECT_EQ(decode_acks(cut).error(), Error::bad_frame);
}

TEST(Messages, Answers) {
  auto bytes = encoded(Refused{4, Error::wrong_shard, 3, true, "the other one"});
  auto refused = decode_refused(frame_in(bytes));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->error, Error::wrong_shard);
  EXPECT_EQ(refused->detail, 3u);
  EXPECT_TRUE(refused->closing);
  EXPECT_EQ(refused->text, "the other one");
  bytes = encoded(StreamOpened{5, StreamId{9}, ShardIndex{1}, Offset{2}, Offset{30}, true});
  auto opened = decode_stream_opened(frame_in(bytes));
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->next, Offset{30});
  EXPECT_TRUE(opened->created);
  bytes = encoded(ProducerRegistered{6, ProducerId{1}, 2});
  EXPECT_EQ(decode_producer_registered(frame_in(bytes))->epoch, 2u);
  bytes = encoded(ReadBegin{7, Offset{1}, Offset{2}, Offset{3}});
  EXPECT_EQ(decode_read_begin(frame_in(bytes))->first, Offset{3});
  bytes = encoded(Notice{8, NoticeKind::data_loss, 10, 20});
  EXPECT_EQ(decode_notice(frame_in(bytes))->next, 20u);
  bytes = encoded(ReadEnd{9, static_cast<std::uint16_t>(Error::cancelled), Offset{5}, 6});
  EXPECT_EQ(decode_read_end(frame_in(bytes))->next, Offset{5});
  bytes = encoded(StatText{10, "{}"});
  EXPECT_EQ(decode_stat_text(frame_in(bytes))->json, "{}");
  bytes = encoded(Pong{11, 12});
  EXPECT_EQ(decode_pong(frame_in(bytes))->token, 12u);
  std::vector<std::byte> two(416);
  bytes = encoded(Batches{12, Offset{1}, Offset{4}, Offset{9}, two});
  auto batches = decode_batches(frame_in(bytes));
  ASSERT_TRUE(batches);
  EXPECT_EQ(batches->batches.size(), 416u);
  EXPECT_EQ(batches->next, Offset{4});
}

TEST(Messages, DecodersTakeOnlyTheirOwnType) {
  auto bytes = encoded(Ping{1, 0});
  Frame frame = frame_in(bytes);
  EXPECT_EQ(decode_pong(frame).error(), Error::bad_frame);
  EXPECT_EQ(decode_cancel_read(frame).error(), Error::bad_frame);
  EXPECT_EQ(decode_acks(frame).error(), Error::bad_frame);
  frame.header.flags = 4;
  EXPECT_EQ(decode_ping(frame).error(), Error::bad_frame);
  frame.header.flags = 0;
  frame.header.words[3] = 1;
  EXPECT_EQ(decode_ping(frame).error(), Error::bad_frame);
}

TEST(Credit, GrantsAreCumulativeAndKept) {
  CreditGrant grant(1000);
  CreditUse use(1000);
  EXPECT_TRUE(use.allows(1000));
  use.spend(600);
  EXPECT_TRUE(grant.take(600));
  EXPECT_FALSE(use.allows(401));
  grant.answer(600);
  use.raise(grant.announce());
  EXPECT_EQ(use.left(), 1000u);
  use.raise(5);
  EXPECT_EQ(use.left(), 1000u);
  EXPECT_TRUE(grant.take(1000));
  EXPECT_EQ(grant.in_flight(), 1000u);
  EXPECT_FALSE(grant.take(1));
}

}  // namespace
}  // namespace millrace::wire
