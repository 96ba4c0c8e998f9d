#include "protocol/ranges.hpp"

namespace millrace::wire {

namespace {

std::uint64_t body_bytes(RangeKind kind, std::uint64_t range) {
  if (kind == RangeKind::bytes) return range;
  return (range + sums_piece_bytes - 1) / sums_piece_bytes * sizeof(std::uint64_t);
}

/// The kind is the type's: sums or sums_are speak of hashes, range and range_is of bytes.
RangeKind kind_of(FrameType type) {
  return type == FrameType::sums || type == FrameType::sums_are ? RangeKind::sums : RangeKind::bytes;
}

FrameType asks(RangeKind kind) { return kind == RangeKind::sums ? FrameType::sums : FrameType::range; }
FrameType gives(RangeKind kind) { return kind == RangeKind::sums ? FrameType::sums_are : FrameType::range_is; }

}  // namespace

void encode(FrameOutput& output, const RangeAsked& message) {
  FrameHeader header{.type = asks(message.kind), .request_id = message.request_id};
  header.words = {message.day.value + (std::uint64_t{message.number} << 32), message.begin, message.end, 0};
  put_frame(output, header, as_bytes(&message.segment_id, sizeof(message.segment_id)));
}

void encode(FrameOutput& output, const RangeGiven& message) {
  MR_ASSERT(message.body.size() == body_bytes(message.kind, message.end - message.begin));
  FrameHeader header{.type = gives(message.kind), .request_id = message.request_id};
  header.words = {message.begin, message.end, 0, 0};
  put_frame(output, header, message.body);
}

Result<RangeAsked> decode_range_asked(const Frame& frame) {
  const FrameHeader& header = frame.header;
  RangeAsked message;
  message.kind = kind_of(header.type);
  if (!shaped(header, asks(message.kind), 3) || frame.body.size() != sizeof(Id128)) return fail(Error::bad_frame);
  message.request_id = header.request_id;
  message.day = Day{static_cast<std::uint32_t>(header.words[0])};
  message.number = static_cast<std::uint32_t>(header.words[0] >> 32);
  message.segment_id = load<Id128>(frame.body);
  message.begin = header.words[1];
  message.end = header.words[2];
  if (message.end < message.begin || message.end - message.begin > range_max(message.kind))
    return fail(Error::too_large);
  return message;
}

Result<RangeGiven> decode_range_given(const Frame& frame) {
  const FrameHeader& header = frame.header;
  RangeGiven message;
  message.kind = kind_of(header.type);
  if (!shaped(header, gives(message.kind), 2)) return fail(Error::bad_frame);
  message.request_id = header.request_id;
  message.begin = header.words[0];
  message.end = header.words[1];
  message.body = frame.body;
  if (message.end < message.begin || message.end - message.begin > range_max(message.kind))
    return fail(Error::too_large);
  if (frame.body.size() != body_bytes(message.kind, message.end - message.begin)) return fail(Error::bad_frame);
  return message;
}

}  // namespace millrace::wire
