// What a node tells others about the bytes of its segments: hashes of a range, or the range itself. It says what stands in the
// file, unverified, as far as that is durable; whoever asks compares or verifies.
//
// At most ranges_at_once_max a shard are read at a time; more are refused with retry_later, because each takes a buffer and the
// disk. Thread: the shard's.
#pragma once

#include <cstdint>

#include "protocol/ranges.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/log.hpp"

namespace millrace {

inline constexpr std::uint32_t ranges_at_once_max = 4;

class SegmentRanges {
 public:
  explicit SegmentRanges(Log& log) : log_(log) {}
  Reactor& reactor() const { return log_.reactor(); }

  /// The answer as a whole frame. Errors: out_of_range (the segment is before what this node keeps), not_found (it has not got
  /// so far), foreign (it has another segment at that place), retry_later, and those of reading.
  Task<FrameOutput> answer(wire::RangeAsked asked);
  /// Ends when nothing is being read any more; nothing is asked meanwhile.
  Task<> drain();

 private:
  Task<FrameOutput> read(wire::RangeAsked asked);

  Log& log_;
  std::uint32_t reading_ = 0;
  Signal ended_;
};

}  // namespace millrace
