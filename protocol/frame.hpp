// A frame: what goes over the wire in one piece. 64-byte header with its own hash, body, zeros to 16. Layout and the
// meaning of every type: protocol/FORMAT.md.
//
// Pure values; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"

namespace millrace {

inline constexpr std::uint32_t frame_magic = 0x3157524d;  // "MRW1"
inline constexpr std::uint8_t protocol_version = 1;
inline constexpr std::uint8_t protocol_version_oldest = 1;  // the oldest version this program still speaks
inline constexpr std::size_t frame_align = 16;
/// A whole frame: header, body and padding.
inline constexpr std::size_t frame_bytes_max = batch_bytes_max + 64 * KiB;
/// The same before the handshake is done.
inline constexpr std::size_t hello_frame_bytes_max = 4 * KiB;

enum class FrameType : std::uint8_t {
  // client to server
  hello = 1,
  open_stream = 2,
  register_producer = 3,
  append = 4,
  read = 5,
  read_credit = 6,
  cancel_read = 7,
  stat = 8,
  ping = 9,
  follow = 10,
  durable = 11,
  fence = 12,
  sums = 13,
  range = 14,
  promote = 15,
  // server to client
  welcome = 129,
  refused = 130,
  stream_opened = 131,
  producer_registered = 132,
  acks = 133,
  read_begin = 134,
  batches = 135,
  notice = 136,
  read_end = 137,
  stat_text = 138,
  pong = 139,
  follow_begin = 140,
  segment = 141,
  placed = 142,
  marks = 143,
  fenced = 145,
  sums_are = 146,
  range_is = 147,
  promoted = 148,
};

/// "open_stream"; "unknown" for a number that is no type.
std::string_view frame_type_name(FrameType type);
/// True for a number of the list above.
bool is_frame_type(std::uint8_t number);

struct FrameHeader {
  std::uint32_t magic = frame_magic;
  std::uint8_t version = protocol_version;
  FrameType type{};
  std::uint16_t flags = 0;
  std::uint64_t checksum = 0;  // XXH3-64 of the 64 bytes with this field zero
  std::uint64_t request_id = 0;
  std::uint32_t body_bytes = 0;  // without padding
  std::uint32_t reserved = 0;
  std::array<std::uint64_t, 4> words{};
};
static_assert(sizeof(FrameHeader) == 64 && std::is_trivially_copyable_v<FrameHeader>);

inline constexpr std::size_t frame_header_bytes = sizeof(FrameHeader);

/// Bytes a frame takes on the wire: header, body, padding.
constexpr std::size_t frame_span(std::size_t body_bytes) {
  return frame_header_bytes + align_up(body_bytes, frame_align);
}

/// A received frame; the body lies 16-byte aligned in memory of whoever handed it out.
struct Frame {
  FrameHeader header;
  Bytes body;
};

/// The checksum `header` should carry.
std::uint64_t frame_checksum(const FrameHeader& header);

/// True when type and flags fit, and the words from `used` on are zero.
bool shaped(const FrameHeader& header, FrameType type, std::size_t used, std::uint16_t flags = 0);

/// Checks the 64 bytes at the front of `bytes` (at least 64): magic, checksum, then version, type, reserved field and
/// that the whole frame is at most `bytes_max`. Nothing but the checksum is believed before it fits.
/// Errors: bad_frame; unsupported_version; too_large.
Result<FrameHeader> read_frame_header(Bytes bytes, std::size_t bytes_max);

/// Sets the checksum and writes the header to the front of `target` (at least 64 bytes).
void write_frame_header(MutableBytes target, FrameHeader header);

/// Where encoders put frames, one after the other; the owner bounds it, sends it and clears it (keeping its capacity).
using FrameOutput = std::vector<std::byte>;

/// Appends header (body length and checksum filled in), body and padding.
void put_frame(FrameOutput& output, FrameHeader header, Bytes body = {});

}  // namespace millrace
