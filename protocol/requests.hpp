// What a client says after the handshake, as plain values, and how it becomes frames. Meaning: protocol/FORMAT.md.
//
// Everything here is in namespace wire, as names such as Read are too short for the whole house. Pure; any thread.
// Encoders append one whole frame; decoders check type and shape and give bad_frame (not that message) or
// invalid_argument (a value that is never right). Views point into the frame.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

inline constexpr std::size_t stream_name_bytes_max = 255;
inline constexpr std::uint32_t stat_streams_default = 1000;
inline constexpr std::uint32_t stat_streams_max = 10'000;

/// 1..255 bytes of UTF-8, no control characters, not beginning or ending with '/', no "//", no part "." or "..". Names
/// never become paths; the rule keeps them harmless for those who make paths of them.
bool is_stream_name(std::string_view name);
/// That rule, for people.
inline constexpr std::string_view stream_name_rule =
    "a stream name is 1 to 255 bytes of UTF-8 without control characters, and what stands between its slashes is not "
    "empty, . or ..";

struct OpenStream {
  std::uint64_t request_id = 0;
  std::string_view name;
  bool create = false;
};

struct RegisterProducer {
  std::uint64_t request_id = 0;
  ProducerId producer{};  // 0 = a new one
};

/// The body is the batch header with the leader's fields zero, then the batch body.
struct Append {
  std::uint64_t request_id = 0;
  Bytes batch;
};

enum class PositionKind : std::uint8_t { none = 0, earliest = 1, latest = 2, offset = 3, time = 4, day = 5 };

/// Where a read begins or ends.
struct Position {
  PositionKind kind = PositionKind::none;
  Day day{};                // with PositionKind::day
  std::uint64_t value = 0;  // offset; leader time in ns since 1970; id within the day

  bool operator==(const Position&) const = default;
  static constexpr Position earliest() { return {PositionKind::earliest, {}, 0}; }
  static constexpr Position latest() { return {PositionKind::latest, {}, 0}; }
  static constexpr Position at(Offset offset) { return {PositionKind::offset, {}, offset.value}; }
  static constexpr Position at_time(Nanos wall) { return {PositionKind::time, {}, static_cast<std::uint64_t>(wall)}; }
  static constexpr Position at_day(Day day, RecordId id = {}) { return {PositionKind::day, day, id.value}; }
};

struct Read {
  std::uint64_t request_id = 0;  // names the read in every later frame of it
  StreamId stream{};
  Position from = Position::earliest();
  Position until{};
  bool follow = false;
  bool filter_type = false;
  std::uint16_t type = 0;
  std::uint64_t credit = 0;  // body bytes of `batches` granted; cumulative with ReadCredit
};

struct ReadCredit {
  std::uint64_t request_id = 0;
  std::uint64_t granted = 0;  // cumulative over the read
};

struct CancelRead {
  std::uint64_t request_id = 0;
};

struct Stat {
  std::uint64_t request_id = 0;
  StreamId after{};               // streams with a larger id are listed, in order of id
  std::uint32_t streams_max = 0;  // 0 = stat_streams_default
};

struct Ping {
  std::uint64_t request_id = 0;
  std::uint64_t token = 0;
};

void encode(FrameOutput& output, const OpenStream& message);
void encode(FrameOutput& output, const RegisterProducer& message);
void encode(FrameOutput& output, const Append& message);
void encode(FrameOutput& output, const Read& message);
void encode(FrameOutput& output, const ReadCredit& message);
void encode(FrameOutput& output, const CancelRead& message);
void encode(FrameOutput& output, const Stat& message);
void encode(FrameOutput& output, const Ping& message);

/// invalid_argument: a name that breaks the rule.
Result<OpenStream> decode_open_stream(const Frame& frame);
Result<RegisterProducer> decode_register_producer(const Frame& frame);
/// Checks only that a batch header fits and the length is right for it; header and body are verified by read_batch_header
/// and BodyView::parse. bad_body, too_large.
Result<Append> decode_append(const Frame& frame);
Result<Read> decode_read(const Frame& frame);
Result<ReadCredit> decode_read_credit(const Frame& frame);
Result<CancelRead> decode_cancel_read(const Frame& frame);
Result<Stat> decode_stat(const Frame& frame);
Result<Ping> decode_ping(const Frame& frame);

}  // namespace millrace::wire
