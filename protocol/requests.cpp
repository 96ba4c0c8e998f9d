#include "protocol/requests.hpp"

#include "protocol/utf8.hpp"

namespace millrace::wire {

namespace {

constexpr std::uint16_t flag_create = 1;
constexpr std::uint16_t flag_follow = 1;
constexpr std::uint16_t flag_filter_type = 2;

struct PositionBytes {
  std::uint8_t kind;
  std::uint8_t zeros[3];
  std::uint32_t day;
  std::uint64_t value;
};
static_assert(sizeof(PositionBytes) == 16);

PositionBytes packed(const Position& position) {
  return {static_cast<std::uint8_t>(position.kind), {}, position.day.value, position.value};
}

Result<Position> unpacked(const PositionBytes& bytes) {
  if (bytes.kind > static_cast<std::uint8_t>(PositionKind::day)) return fail(Error::invalid_argument);
  if (bytes.zeros[0] != 0 || bytes.zeros[1] != 0 || bytes.zeros[2] != 0) return fail(Error::bad_frame);
  return Position{static_cast<PositionKind>(bytes.kind), Day{bytes.day}, bytes.value};
}

bool bare(const Frame& frame, FrameType type, std::size_t used) {
  return shaped(frame.header, type, used) && frame.body.empty();
}

bool is_plain_part(std::string_view part) { return !part.empty() && part != "." && part != ".."; }

}  // namespace

bool is_stream_name(std::string_view name) {
  if (name.empty() || name.size() > stream_name_bytes_max || !is_printable_utf8(name)) return false;
  while (true) {
    std::size_t slash = name.find('/');
    if (!is_plain_part(name.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

void encode(FrameOutput& output, const OpenStream& message) {
  FrameHeader header{.type = FrameType::open_stream, .request_id = message.request_id};
  if (message.create) header.flags = flag_create;
  put_frame(output, header, bytes_of(message.name));
}

void encode(FrameOutput& output, const RegisterProducer& message) {
  FrameHeader header{.type = FrameType::register_producer, .request_id = message.request_id};
  header.words[0] = message.producer.value;
  put_frame(output, header);
}

void encode(FrameOutput& output, const Append& message) {
  put_frame(output, FrameHeader{.type = FrameType::append, .request_id = message.request_id}, message.batch);
}

void encode(FrameOutput& output, const Read& message) {
  FrameHeader header{.type = FrameType::read, .request_id = message.request_id};
  header.flags =
      static_cast<std::uint16_t>((message.follow ? flag_follow : 0) | (message.filter_type ? flag_filter_type : 0));
  header.words = {message.stream.value, message.credit, message.type, 0};
  PositionBytes positions[2] = {packed(message.from), packed(message.until)};
  put_frame(output, header, as_bytes(positions, sizeof(positions)));
}

void encode(FrameOutput& output, const ReadCredit& message) {
  FrameHeader header{.type = FrameType::read_credit, .request_id = message.request_id};
  header.words[0] = message.granted;
  put_frame(output, header);
}

void encode(FrameOutput& output, const CancelRead& message) {
  put_frame(output, FrameHeader{.type = FrameType::cancel_read, .request_id = message.request_id});
}

void encode(FrameOutput& output, const Stat& message) {
  FrameHeader header{.type = FrameType::stat, .request_id = message.request_id};
  header.words[0] = message.after.value;
  header.words[1] = message.streams_max;
  put_frame(output, header);
}

void encode(FrameOutput& output, const Ping& message) {
  FrameHeader header{.type = FrameType::ping, .request_id = message.request_id};
  header.words[0] = message.token;
  put_frame(output, header);
}

Result<OpenStream> decode_open_stream(const Frame& frame) {
  if (!shaped(frame.header, FrameType::open_stream, 0, flag_create)) return fail(Error::bad_frame);
  OpenStream message;
  message.request_id = frame.header.request_id;
  message.name = {reinterpret_cast<const char*>(frame.body.data()), frame.body.size()};
  message.create = (frame.header.flags & flag_create) != 0;
  if (!is_stream_name(message.name)) return fail(Error::invalid_argument);
  return message;
}

Result<RegisterProducer> decode_register_producer(const Frame& frame) {
  if (!bare(frame, FrameType::register_producer, 1)) return fail(Error::bad_frame);
  return RegisterProducer{frame.header.request_id, ProducerId{frame.header.words[0]}};
}

Result<Append> decode_append(const Frame& frame) {
  if (!shaped(frame.header, FrameType::append, 0)) return fail(Error::bad_frame);
  if (frame.body.size() > batch_bytes_max) return fail(Error::too_large);
  if (frame.body.size() <= batch_header_bytes) return fail(Error::bad_body);
  auto body_bytes = load<BatchHeader>(frame.body).body_bytes;
  if (frame.body.size() != batch_header_bytes + std::size_t{body_bytes}) return fail(Error::bad_body);
  return Append{frame.header.request_id, frame.body};
}

Result<Read> decode_read(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::read, 3, flag_follow | flag_filter_type)) return fail(Error::bad_frame);
  if (frame.body.size() != 2 * sizeof(PositionBytes)) return fail(Error::bad_frame);
  auto from = unpacked(load<PositionBytes>(frame.body, 0));
  if (!from) return fail(from.error());
  auto until = unpacked(load<PositionBytes>(frame.body, sizeof(PositionBytes)));
  if (!until) return fail(until.error());
  Read message;
  message.request_id = header.request_id;
  message.stream = StreamId{header.words[0]};
  message.from = *from;
  message.until = *until;
  message.follow = (header.flags & flag_follow) != 0;
  message.filter_type = (header.flags & flag_filter_type) != 0;
  message.type = static_cast<std::uint16_t>(header.words[2]);
  message.credit = header.words[1];
  bool sound = message.from.kind != PositionKind::none && message.request_id != 0 && header.words[2] <= 0xffff &&
               (message.filter_type || message.type == 0);
  if (!sound) return fail(Error::invalid_argument);
  return message;
}

Result<ReadCredit> decode_read_credit(const Frame& frame) {
  if (!bare(frame, FrameType::read_credit, 1)) return fail(Error::bad_frame);
  return ReadCredit{frame.header.request_id, frame.header.words[0]};
}

Result<CancelRead> decode_cancel_read(const Frame& frame) {
  if (!bare(frame, FrameType::cancel_read, 0)) return fail(Error::bad_frame);
  return CancelRead{frame.header.request_id};
}

Result<Stat> decode_stat(const Frame& frame) {
  if (!bare(frame, FrameType::stat, 2)) return fail(Error::bad_frame);
  std::uint64_t count = frame.header.words[1];
  if (count > stat_streams_max) return fail(Error::too_large);
  return Stat{frame.header.request_id, StreamId{frame.header.words[0]}, static_cast<std::uint32_t>(count)};
}

Result<Ping> decode_ping(const Frame& frame) {
  if (!bare(frame, FrameType::ping, 1)) return fail(Error::bad_frame);
  return Ping{frame.header.request_id, frame.header.words[0]};
}

}  // namespace millrace::wire
