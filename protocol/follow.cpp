#include "protocol/follow.hpp"

namespace millrace::wire {

namespace {

constexpr std::uint16_t flag_probe = 1;
constexpr std::uint16_t flag_differs = 1;
constexpr std::uint16_t flag_pending_differs = 2;
constexpr std::uint16_t flag_closes = 1;

}  // namespace

void encode(FrameOutput& output, const Follow& message) {
  FrameHeader header{.type = FrameType::follow, .request_id = message.request_id};
  header.flags = message.probe ? flag_probe : 0;
  header.words = {message.epoch.value, message.history_days, message.next_lsn.value, 0};
  put_frame(output, header, as_bytes(&message.statement, sizeof(message.statement)));
}

void encode(FrameOutput& output, const Durable& message) {
  FrameHeader header{.type = FrameType::durable, .request_id = message.request_id};
  header.words = {message.lsn.value, message.group_lsn.value, message.group_chain.value, 0};
  put_frame(output, header);
}

void encode(FrameOutput& output, const FollowBegin& message) {
  FrameHeader header{.type = FrameType::follow_begin, .request_id = message.request_id};
  header.flags = static_cast<std::uint16_t>((message.differs ? flag_differs : 0) |
                                            (message.pending_differs ? flag_pending_differs : 0));
  header.words = {message.epoch.value, message.durable.value, message.first.value, message.offset};
  put_frame(output, header, as_bytes(&message.identity, sizeof(message.identity)));
}

void encode(FrameOutput& output, const SegmentBegun& message) {
  MR_ASSERT(message.block.size() == segment_block_bytes);
  FrameHeader header{.type = FrameType::segment, .request_id = message.request_id};
  header.words[0] = message.day.value + (std::uint64_t{message.number} << 32);
  put_frame(output, header, message.block);
}

void encode(FrameOutput& output, const Placed& message) {
  MR_ASSERT(message.header.size() == (message.closes ? placed_header_bytes : 0));
  const std::size_t body = message.header.size() + message.batches.size();
  MR_ASSERT(frame_span(body) <= frame_bytes_max);
  FrameHeader header{.type = FrameType::placed, .request_id = message.request_id};
  header.flags = message.closes ? flag_closes : 0;
  header.words = {message.group, message.from, message.end.value, message.durable.value};
  header.body_bytes = static_cast<std::uint32_t>(body);
  header.checksum = frame_checksum(header);
  output.reserve(output.size() + frame_span(body));
  const Bytes front = as_bytes(&header, sizeof(header));
  for (const Bytes part : {front, message.header, message.batches})
    output.insert(output.end(), part.begin(), part.end());
  output.resize(output.size() + align_up(body, frame_align) - body);
}

void encode(FrameOutput& output, const Marks& message) {
  FrameHeader header{.type = FrameType::marks, .request_id = message.request_id};
  header.words = {message.durable.value, message.group_lsn.value, message.group_chain.value,
                  static_cast<std::uint64_t>(message.wall_time)};
  put_frame(output, header);
}

Result<Follow> decode_follow(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::follow, 3, flag_probe) || frame.body.size() != sizeof(Statement))
    return fail(Error::bad_frame);
  Follow message;
  message.request_id = header.request_id;
  message.epoch = Epoch{header.words[0]};
  message.probe = (header.flags & flag_probe) != 0;
  message.history_days = header.words[1];
  message.next_lsn = Lsn{header.words[2]};
  message.statement = load<Statement>(frame.body);
  return message;
}

Result<Durable> decode_durable(const Frame& frame) {
  if (!shaped(frame.header, FrameType::durable, 3) || !frame.body.empty()) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  return Durable{frame.header.request_id, Lsn{words[0]}, Lsn{words[1]}, Chain{words[2]}};
}

Result<FollowBegin> decode_follow_begin(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::follow_begin, 4, flag_differs | flag_pending_differs)) return fail(Error::bad_frame);
  if (frame.body.size() != sizeof(Identity)) return fail(Error::bad_frame);
  FollowBegin message;
  message.request_id = header.request_id;
  message.differs = (header.flags & flag_differs) != 0;
  message.pending_differs = (header.flags & flag_pending_differs) != 0;
  message.epoch = Epoch{header.words[0]};
  message.durable = Lsn{header.words[1]};
  message.first = Lsn{header.words[2]};
  message.offset = header.words[3];
  message.identity = load<Identity>(frame.body);
  if (message.identity.reserved != 0) return fail(Error::bad_frame);
  return message;
}

Result<SegmentBegun> decode_segment(const Frame& frame) {
  if (!shaped(frame.header, FrameType::segment, 1)) return fail(Error::bad_frame);
  if (frame.body.size() != segment_block_bytes) return fail(Error::bad_frame);
  const std::uint64_t place = frame.header.words[0];
  return SegmentBegun{frame.header.request_id, Day{static_cast<std::uint32_t>(place)},
                      static_cast<std::uint32_t>(place >> 32), frame.body};
}

Result<Placed> decode_placed(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::placed, 4, flag_closes)) return fail(Error::bad_frame);
  Placed message;
  message.closes = (header.flags & flag_closes) != 0;
  const std::size_t front = message.closes ? placed_header_bytes : 0;
  if (frame.body.size() < front || (!message.closes && frame.body.empty())) return fail(Error::bad_frame);
  message.request_id = header.request_id;
  message.group = header.words[0];
  message.from = header.words[1];
  message.end = Lsn{header.words[2]};
  message.durable = Lsn{header.words[3]};
  message.header = frame.body.first(front);
  message.batches = frame.body.subspan(front);
  return message;
}

Result<Marks> decode_marks(const Frame& frame) {
  if (!shaped(frame.header, FrameType::marks, 4) || !frame.body.empty()) return fail(Error::bad_frame);
  const auto& words = frame.header.words;
  return Marks{frame.header.request_id, Lsn{words[0]}, Lsn{words[1]}, Chain{words[2]}, static_cast<Nanos>(words[3])};
}

}  // namespace millrace::wire
