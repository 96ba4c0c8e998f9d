// What leader and follower say to each other, as plain values, and how it becomes frames. Meaning: replica/REPLICATION.md,
// "The messages".
//
// Everything here is in namespace wire. Pure; any thread. Encoders append one whole frame; decoders check type and shape and
// give bad_frame (not that message). Views point into the frame. Batches and group headers are verified by whoever takes them.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

inline constexpr std::size_t placed_header_bytes = 128;  // a group's header
inline constexpr std::size_t segment_block_bytes = 4096;

/// Where a follower's copy ends. 112 bytes, as on the wire.
struct Statement {
  Id128 cluster_id{};  // zero: a directory that has none yet
  Id128 log_id{};
  Id128 segment_id{};  // of the last group; zero = holds none
  Day day{};
  std::uint32_t number = 0;
  std::uint64_t group_offset = 0;  // of the last group; 0 = the segment holds none
  std::uint64_t group_checksum = 0;
  std::uint64_t end = 0;  // file offset behind it
  Lsn end_lsn{};
  Chain end_chain{};
  Lsn pending_lsn{};  // behind the pending batches
  Chain pending_chain{};
};
static_assert(sizeof(Statement) == 112 && std::is_trivially_copyable_v<Statement>);

struct Follow {
  std::uint64_t request_id = 0;
  Epoch epoch{};                   // known to the follower
  std::uint64_t history_days = 0;  // wanted by one that holds nothing; 0 = all
  Lsn next_lsn{};
  bool probe = false;  // only asked: nothing is to be sent yet
  Statement statement;
};

/// Everything below `lsn` is durable at the follower; the last group of it ends before `group_lsn`, with this chain.
struct Durable {
  std::uint64_t request_id = 0;
  Lsn lsn{};
  Lsn group_lsn{};
  Chain group_chain{};
};

/// Who the leader is. 56 bytes, as on the wire.
struct Identity {
  Id128 cluster_id{};
  Id128 log_id{};
  std::uint32_t shard_count = 0;
  std::int32_t day_offset_seconds = 0;
  std::uint64_t segment_bytes = 0;
  ShardIndex shard{};
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Identity) == 56 && std::is_trivially_copyable_v<Identity>);

struct FollowBegin {
  std::uint64_t request_id = 0;
  bool differs = false;          // the last group stated is not the leader's: state an earlier one
  bool pending_differs = false;  // what is pending there is not the leader's
  Epoch epoch{};
  Lsn durable{};  // the leader's
  Lsn first{};    // the first lsn that will come
  std::uint64_t offset = 0;
  Identity identity;
};

struct SegmentBegun {
  std::uint64_t request_id = 0;
  Day day{};
  std::uint32_t number = 0;
  Bytes block;  // 4096 bytes
};

struct Placed {
  std::uint64_t request_id = 0;
  bool closes = false;
  std::uint64_t group = 0;  // file offset of the group
  std::uint64_t from = 0;   // offset in the group of the first byte of `batches`
  Lsn end{};                // lsn behind them
  Lsn durable{};            // the leader's durable end
  Bytes header;             // of the group, 128 bytes, when it closes; else empty
  Bytes batches;            // whole batches with their padding to 16
};

struct Marks {
  std::uint64_t request_id = 0;
  Lsn durable{};
  Lsn group_lsn{};  // end of the last group submitted, and the chain there
  Chain group_chain{};
  Nanos wall_time = 0;
};

void encode(FrameOutput& output, const Follow& message);
void encode(FrameOutput& output, const Durable& message);
void encode(FrameOutput& output, const FollowBegin& message);
void encode(FrameOutput& output, const SegmentBegun& message);
/// header and batches together fit a frame.
void encode(FrameOutput& output, const Placed& message);
void encode(FrameOutput& output, const Marks& message);

Result<Follow> decode_follow(const Frame& frame);
Result<Durable> decode_durable(const Frame& frame);
Result<FollowBegin> decode_follow_begin(const Frame& frame);
Result<SegmentBegun> decode_segment(const Frame& frame);
Result<Placed> decode_placed(const Frame& frame);
Result<Marks> decode_marks(const Frame& frame);

}  // namespace millrace::wire
