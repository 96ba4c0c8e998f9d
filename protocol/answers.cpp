#include "protocol/answers.hpp"

namespace millrace::wire {

namespace {

constexpr std::uint16_t flag_closing = 1;
constexpr std::uint16_t flag_created = 1;

bool bare(const Frame& frame, FrameType type, std::size_t used, std::uint16_t flags = 0) {
  return shaped(frame.header, type, used, flags) && frame.body.empty();
}

std::string_view text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

void encode(FrameOutput& output, const Refused& message) {
  FrameHeader header{.type = FrameType::refused, .request_id = message.request_id};
  if (message.closing) header.flags = flag_closing;
  header.words[0] = static_cast<std::uint16_t>(message.error);
  header.words[1] = message.detail;
  put_frame(output, header, bytes_of(message.text));
}

void encode(FrameOutput& output, const StreamOpened& message) {
  FrameHeader header{.type = FrameType::stream_opened, .request_id = message.request_id};
  if (message.created) header.flags = flag_created;
  header.words = {message.stream.value, message.shard.value, message.first.value, message.next.value};
  put_frame(output, header);
}

void encode(FrameOutput& output, const ProducerRegistered& message) {
  FrameHeader header{.type = FrameType::producer_registered, .request_id = message.request_id};
  header.words = {message.producer.value, message.epoch, 0, 0};
  put_frame(output, header);
}

void encode_acks(FrameOutput& output, std::uint64_t granted, std::span<const AckEntry> entries) {
  MR_ASSERT(entries.size() <= acks_entries_max);
  FrameHeader header{.type = FrameType::acks};
  header.words = {granted, entries.size(), 0, 0};
  put_frame(output, header, as_bytes(entries.data(), entries.size_bytes()));
}

void encode(FrameOutput& output, const ReadBegin& message) {
  FrameHeader header{.type = FrameType::read_begin, .request_id = message.request_id};
  header.words = {message.from.value, message.end.value, message.first.value, 0};
  put_frame(output, header);
}

FrameHeader batches_header(const Batches& message) {
  FrameHeader header{.type = FrameType::batches, .request_id = message.request_id};
  header.body_bytes = static_cast<std::uint32_t>(message.batches.size());
  header.words = {message.first.value, message.next.value, message.end.value, 0};
  return header;
}

void encode(FrameOutput& output, const Batches& message) {
  put_frame(output, batches_header(message), message.batches);
}

void encode(FrameOutput& output, const Notice& message) {
  FrameHeader header{.type = FrameType::notice, .request_id = message.request_id};
  header.words = {static_cast<std::uint64_t>(message.kind), message.first, message.next, 0};
  put_frame(output, header);
}

void encode(FrameOutput& output, const ReadEnd& message) {
  FrameHeader header{.type = FrameType::read_end, .request_id = message.request_id};
  header.words = {message.error, message.next.value, message.detail, 0};
  put_frame(output, header);
}

void encode(FrameOutput& output, const StatText& message) {
  put_frame(output, FrameHeader{.type = FrameType::stat_text, .request_id = message.request_id},
            bytes_of(message.json));
}

void encode(FrameOutput& output, const Pong& message) {
  FrameHeader header{.type = FrameType::pong, .request_id = message.request_id};
  header.words[0] = message.token;
  put_frame(output, header);
}

Result<Refused> decode_refused(const Frame& frame) {
  if (!shaped(frame.header, FrameType::refused, 2, flag_closing)) return fail(Error::bad_frame);
  if (frame.header.words[0] == 0 || frame.header.words[0] > 0xffff) return fail(Error::bad_frame);
  Refused message;
  message.request_id = frame.header.request_id;
  message.error = static_cast<Error>(frame.header.words[0]);
  message.detail = frame.header.words[1];
  message.closing = (frame.header.flags & flag_closing) != 0;
  message.text = text_of(frame.body);
  return message;
}

Result<StreamOpened> decode_stream_opened(const Frame& frame) {
  if (!bare(frame, FrameType::stream_opened, 4, flag_created)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (words[1] > 0xffff'ffff) return fail(Error::bad_frame);
  return StreamOpened{frame.header.request_id, StreamId{words[0]}, ShardIndex{static_cast<std::uint32_t>(words[1])},
                      Offset{words[2]},        Offset{words[3]},   (frame.header.flags & flag_created) != 0};
}

Result<ProducerRegistered> decode_producer_registered(const Frame& frame) {
  if (!bare(frame, FrameType::producer_registered, 2)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (words[0] == 0 || words[1] > 0xffff'ffff) return fail(Error::bad_frame);
  return ProducerRegistered{frame.header.request_id, ProducerId{words[0]}, static_cast<std::uint32_t>(words[1])};
}

Result<Acks> decode_acks(const Frame& frame) {
  if (!shaped(frame.header, FrameType::acks, 2)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (words[1] > acks_entries_max || frame.body.size() != words[1] * sizeof(AckEntry)) return fail(Error::bad_frame);
  return Acks{words[0], frame.body};
}

Result<ReadBegin> decode_read_begin(const Frame& frame) {
  if (!bare(frame, FrameType::read_begin, 3)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  return ReadBegin{frame.header.request_id, Offset{words[0]}, Offset{words[1]}, Offset{words[2]}};
}

Result<Batches> decode_batches(const Frame& frame) {
  if (!shaped(frame.header, FrameType::batches, 3)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (!is_aligned(frame.body.size(), batch_align)) return fail(Error::bad_frame);
  return Batches{frame.header.request_id, Offset{words[0]}, Offset{words[1]}, Offset{words[2]}, frame.body};
}

Result<Notice> decode_notice(const Frame& frame) {
  if (!bare(frame, FrameType::notice, 3)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (words[0] < 1 || words[0] > static_cast<std::uint64_t>(NoticeKind::out_of_range)) return fail(Error::bad_frame);
  return Notice{frame.header.request_id, static_cast<NoticeKind>(words[0]), words[1], words[2]};
}

Result<ReadEnd> decode_read_end(const Frame& frame) {
  if (!bare(frame, FrameType::read_end, 3)) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  if (words[0] > 0xffff) return fail(Error::bad_frame);
  return ReadEnd{frame.header.request_id, static_cast<std::uint16_t>(words[0]), Offset{words[1]}, words[2]};
}

Result<StatText> decode_stat_text(const Frame& frame) {
  if (!shaped(frame.header, FrameType::stat_text, 0)) return fail(Error::bad_frame);
  return StatText{frame.header.request_id, text_of(frame.body)};
}

Result<Pong> decode_pong(const Frame& frame) {
  if (!bare(frame, FrameType::pong, 1)) return fail(Error::bad_frame);
  return Pong{frame.header.request_id, frame.header.words[0]};
}

}  // namespace millrace::wire
