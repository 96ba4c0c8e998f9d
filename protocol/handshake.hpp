// The first exchange of a connection: hello says who I am and which shard I want, welcome who you reached and what you
// may send. Layout: protocol/FORMAT.md, "Handshake". A refusal is a Refused message (messages.hpp).
//
// Pure values; any thread. Encoders append one whole frame; decoders trust nothing and give bad_frame,
// unsupported_version or invalid_argument.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/credit.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

inline constexpr ShardIndex any_shard{std::numeric_limits<std::uint32_t>::max()};
inline constexpr std::size_t client_name_bytes_max = 255;
inline constexpr std::uint32_t producer_window_batches = 64;
inline constexpr std::uint32_t connection_reads_max = 64;
/// Feature bits this program understands; none so far.
inline constexpr std::uint64_t protocol_features_known = 0;

enum class IdentityKind : std::uint16_t { none = 0 };

struct Hello {
  std::uint64_t request_id = 0;
  std::uint32_t oldest_version = protocol_version_oldest;
  std::uint64_t features = 0;  // bits the server must understand
  ShardIndex shard = any_shard;
  std::string client_name;
  IdentityKind identity_kind = IdentityKind::none;
  std::string identity;
};

struct Welcome {
  std::uint64_t request_id = 0;
  std::uint32_t version = protocol_version;
  std::uint64_t features = 0;
  ShardIndex shard{};
  std::uint32_t shard_count = 1;
  std::uint64_t append_granted = append_window_bytes;
  Id128 cluster_id{};
  Id128 log_id{};
  std::uint32_t batch_bytes_max = millrace::batch_bytes_max;
  std::uint32_t frame_bytes_max = millrace::frame_bytes_max;
  std::uint32_t producer_window = producer_window_batches;
  std::uint32_t reads_max = connection_reads_max;
  std::uint64_t append_window = append_window_bytes;
  std::uint64_t read_credit_max = read_credit_bytes_max;
  Nanos wall_time = 0;
  std::int32_t day_offset_seconds = 0;
  std::string server;  // "millrace 0.1.0"
};

void encode(FrameOutput& output, const Hello& hello);
void encode(FrameOutput& output, const Welcome& welcome);

/// Errors: bad_frame (not a hello, or not well formed), unsupported_version (version, feature bit or identity kind),
/// invalid_argument (client name too long).
Result<Hello> decode_hello(const Frame& frame);
/// Errors: bad_frame; unsupported_version when the server speaks a version or feature we do not.
Result<Welcome> decode_welcome(const Frame& frame);

/// The shard that holds a stream.
constexpr ShardIndex shard_of(StreamId stream, std::uint32_t shard_count) {
  return ShardIndex{static_cast<std::uint32_t>(stream.value % shard_count)};
}

}  // namespace millrace::wire
