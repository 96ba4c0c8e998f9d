#include "protocol/frame.hpp"

#include <cstring>

#include "base/hash.hpp"

namespace millrace {

namespace {

struct TypeName {
  FrameType type;
  std::string_view name;
};

constexpr std::array type_names{
    TypeName{FrameType::hello, "hello"},
    TypeName{FrameType::open_stream, "open_stream"},
    TypeName{FrameType::register_producer, "register_producer"},
    TypeName{FrameType::append, "append"},
    TypeName{FrameType::read, "read"},
    TypeName{FrameType::read_credit, "read_credit"},
    TypeName{FrameType::cancel_read, "cancel_read"},
    TypeName{FrameType::stat, "stat"},
    TypeName{FrameType::ping, "ping"},
    TypeName{FrameType::follow, "follow"},
    TypeName{FrameType::durable, "durable"},
    TypeName{FrameType::sums, "sums"},
    TypeName{FrameType::range, "range"},
    TypeName{FrameType::fence, "fence"},
    TypeName{FrameType::promote, "promote"},
    TypeName{FrameType::welcome, "welcome"},
    TypeName{FrameType::refused, "refused"},
    TypeName{FrameType::stream_opened, "stream_opened"},
    TypeName{FrameType::producer_registered, "producer_registered"},
    TypeName{FrameType::acks, "acks"},
    TypeName{FrameType::read_begin, "read_begin"},
    TypeName{FrameType::batches, "batches"},
    TypeName{FrameType::notice, "notice"},
    TypeName{FrameType::read_end, "read_end"},
    TypeName{FrameType::stat_text, "stat_text"},
    TypeName{FrameType::pong, "pong"},
    TypeName{FrameType::follow_begin, "follow_begin"},
    TypeName{FrameType::segment, "segment"},
    TypeName{FrameType::placed, "placed"},
    TypeName{FrameType::marks, "marks"},
    TypeName{FrameType::sums_are, "sums_are"},
    TypeName{FrameType::range_is, "range_is"},
    TypeName{FrameType::fenced, "fenced"},
    TypeName{FrameType::promoted, "promoted"},
};

constexpr std::array<bool, 256> known_types = [] {
  std::array<bool, 256> known{};
  for (const TypeName& entry : type_names) known[static_cast<std::uint8_t>(entry.type)] = true;
  return known;
}();

}  // namespace

std::string_view frame_type_name(FrameType type) {
  for (const TypeName& entry : type_names)
    if (entry.type == type) return entry.name;
  return "unknown";
}

bool is_frame_type(std::uint8_t number) { return known_types[number]; }

bool shaped(const FrameHeader& header, FrameType type, std::size_t used, std::uint16_t flags) {
  if (header.type != type || (header.flags & ~flags) != 0) return false;
  for (std::size_t i = used; i < header.words.size(); i++)
    if (header.words[i] != 0) return false;
  return true;
}

std::uint64_t frame_checksum(const FrameHeader& header) {
  FrameHeader zeroed = header;
  zeroed.checksum = 0;
  return hash64(as_bytes(&zeroed, sizeof(zeroed)));
}

Result<FrameHeader> read_frame_header(Bytes bytes, std::size_t bytes_max) {
  auto header = load<FrameHeader>(bytes);
  if (header.magic != frame_magic) return fail(Error::bad_frame);
  if (header.checksum != frame_checksum(header)) return fail(Error::bad_frame);
  if (header.version != protocol_version) return fail(Error::unsupported_version);
  if (!is_frame_type(static_cast<std::uint8_t>(header.type)) || header.reserved != 0) return fail(Error::bad_frame);
  if (frame_span(header.body_bytes) > bytes_max) return fail(Error::too_large);
  return header;
}

void write_frame_header(MutableBytes target, FrameHeader header) {
  header.checksum = frame_checksum(header);
  store(target, 0, header);
}

void put_frame(FrameOutput& output, FrameHeader header, Bytes body) {
  MR_ASSERT(frame_span(body.size()) <= frame_bytes_max);
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.checksum = frame_checksum(header);
  Bytes front = as_bytes(&header, sizeof(header));
  output.insert(output.end(), front.begin(), front.end());
  output.insert(output.end(), body.begin(), body.end());
  output.resize(output.size() + (align_up(body.size(), frame_align) - body.size()));
}

}  // namespace millrace
