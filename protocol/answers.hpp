// What a server answers, as plain values, and how it becomes frames. Meaning: protocol/FORMAT.md.
//
// Everything here is in namespace wire, as names such as Read are too short for the whole house. Pure; any thread.
// Encoders append one whole frame; decoders check type and shape and give bad_frame (not that message) or
// invalid_argument (a value that is never right). Views point into the frame.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

/// A request that failed, or the connection's last word.
struct Refused {
  std::uint64_t request_id = 0;
  Error error{};
  std::uint64_t detail = 0;  // see FORMAT.md, "Frame"
  bool closing = false;      // the server closes the connection after this frame
  std::string_view text;     // one sentence for a person
};

struct StreamOpened {
  std::uint64_t request_id = 0;
  StreamId stream{};
  ShardIndex shard{};
  Offset first{};  // first offset readable
  Offset next{};   // offset the next record gets; what is durable may end before it
  bool created = false;
};

struct ProducerRegistered {
  std::uint64_t request_id = 0;
  ProducerId producer{};
  std::uint32_t epoch = 0;
};

enum class Level : std::uint8_t { none = 0, local = 1, quorum = 2 };
inline constexpr std::uint8_t ack_flag_repeat = 1;

/// One append's fate. 48 bytes, as on the wire.
struct AckEntry {
  std::uint64_t request_id = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t lsn = 0;
  std::uint64_t first_id = 0;
  std::uint64_t detail = 0;
  std::uint32_t day = 0;
  std::uint16_t error = 0;  // 0 = acknowledged, else an Error
  Level level = Level::none;
  std::uint8_t flags = 0;
};
static_assert(sizeof(AckEntry) == 48 && std::is_trivially_copyable_v<AckEntry>);
/// Entries in one acks frame; more go into another frame.
inline constexpr std::size_t acks_entries_max = 1024;

/// A decoded acks frame; entries are copied out one by one because they lie in the frame.
struct Acks {
  std::uint64_t granted = 0;  // append bytes, cumulative
  Bytes entries;
  std::size_t count() const { return entries.size() / sizeof(AckEntry); }
  AckEntry entry(std::size_t index) const { return load<AckEntry>(entries, index * sizeof(AckEntry)); }
};

struct ReadBegin {
  std::uint64_t request_id = 0;
  Offset from{};   // the first record that will come
  Offset end{};    // durable end when the read began
  Offset first{};  // first offset readable here
};

struct Batches {
  std::uint64_t request_id = 0;
  Offset first{};
  Offset next{};  // after the last record in this frame
  Offset end{};   // durable end
  Bytes batches;  // whole stored batches, each padded to 16
};

enum class NoticeKind : std::uint64_t { day_finished = 1, data_loss = 2, out_of_range = 3 };

struct Notice {
  std::uint64_t request_id = 0;
  NoticeKind kind{};
  std::uint64_t first = 0;  // day_finished: the day; data_loss: first lost offset; out_of_range: offset asked
  std::uint64_t next = 0;   // the offset at which the read goes on
};

struct ReadEnd {
  std::uint64_t request_id = 0;
  std::uint16_t error = 0;  // 0 = done
  Offset next{};
  std::uint64_t detail = 0;
};

struct StatText {
  std::uint64_t request_id = 0;
  std::string_view json;
};

struct Pong {
  std::uint64_t request_id = 0;
  std::uint64_t token = 0;
};

void encode(FrameOutput& output, const Refused& message);
void encode(FrameOutput& output, const StreamOpened& message);
void encode(FrameOutput& output, const ProducerRegistered& message);
/// At most acks_entries_max entries.
void encode_acks(FrameOutput& output, std::uint64_t granted, std::span<const AckEntry> entries);
void encode(FrameOutput& output, const ReadBegin& message);
void encode(FrameOutput& output, const Batches& message);
void encode(FrameOutput& output, const Notice& message);
void encode(FrameOutput& output, const ReadEnd& message);
void encode(FrameOutput& output, const StatText& message);
void encode(FrameOutput& output, const Pong& message);

/// The header of a `batches` frame whose body the sender already holds in place behind it.
FrameHeader batches_header(const Batches& message);

Result<Refused> decode_refused(const Frame& frame);
Result<StreamOpened> decode_stream_opened(const Frame& frame);
Result<ProducerRegistered> decode_producer_registered(const Frame& frame);
Result<Acks> decode_acks(const Frame& frame);
Result<ReadBegin> decode_read_begin(const Frame& frame);
Result<Batches> decode_batches(const Frame& frame);
Result<Notice> decode_notice(const Frame& frame);
Result<ReadEnd> decode_read_end(const Frame& frame);
Result<StatText> decode_stat_text(const Frame& frame);
Result<Pong> decode_pong(const Frame& frame);

}  // namespace millrace::wire
