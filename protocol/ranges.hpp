// What nodes ask each other about the bytes of a segment, as plain values, and how it becomes frames. Meaning:
// replica/REPLICATION.md, "The messages".
//
// Everything here is in namespace wire. Pure; any thread. Encoders append one whole frame; decoders check type and shape and
// give bad_frame (not that message). Views point into the frame. Whoever is given bytes verifies them.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

enum class RangeKind : std::uint8_t { sums, bytes };

/// What one hash of `sums_are` covers; the last one of an answer may cover less.
inline constexpr std::uint64_t sums_piece_bytes = 64 * KiB;
/// Longest range of one question.
inline constexpr std::uint64_t sums_range_max = 64 * MiB;
inline constexpr std::uint64_t bytes_range_max = 1 * MiB;
constexpr std::uint64_t range_max(RangeKind kind) { return kind == RangeKind::sums ? sums_range_max : bytes_range_max; }

/// Of a segment's file the bytes [begin, end), or their hashes. The id makes sure that both speak of the same segment;
/// zero = whatever stands there.
struct RangeAsked {
  RangeKind kind{};
  std::uint64_t request_id = 0;
  Day day{};
  std::uint32_t number = 0;
  Id128 segment_id{};
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// `end` is below the one asked for where the node has no more of it durably.
struct RangeGiven {
  RangeKind kind{};
  std::uint64_t request_id = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  Bytes body{};  // the bytes, or XXH3-64 of each sums_piece_bytes of them

  std::size_t sums() const { return body.size() / sizeof(std::uint64_t); }
  std::uint64_t sum(std::size_t piece) const { return load<std::uint64_t>(body, piece * sizeof(std::uint64_t)); }
};

void encode(FrameOutput& output, const RangeAsked& message);
void encode(FrameOutput& output, const RangeGiven& message);

/// Beside bad_frame too_large: a range longer than range_max(), or one that ends before it begins.
Result<RangeAsked> decode_range_asked(const Frame& frame);
Result<RangeGiven> decode_range_given(const Frame& frame);

}  // namespace millrace::wire
