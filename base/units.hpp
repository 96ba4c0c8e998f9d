// The quantities that must not be mixed up, each its own type. Arithmetic is written out with `.value`, so that every
// place where a position becomes a number is visible.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace millrace {

template <class Tag, class Rep = std::uint64_t>
struct Strong {
  Rep value{};
  constexpr auto operator<=>(const Strong&) const = default;
  constexpr Strong next(Rep count = 1) const { return Strong{static_cast<Rep>(value + count)}; }
};

using Offset = Strong<struct OffsetTag>;      // a record's dense number in its stream, from 0
using Lsn = Strong<struct LsnTag>;            // a batch's dense number in its shard's log, from 1; 0 = before the first
using StreamId = Strong<struct StreamIdTag>;  // XXH3-64 of the stream's name; 0 = the log itself (control batches)
using RecordId = Strong<struct RecordIdTag>;  // a record's number within its stream's day, from 0
using Epoch = Strong<struct EpochTag>;        // the term of one opening-for-writing; from 1
using Chain = Strong<struct ChainTag>;        // running 64-bit hash over batch headers
using ProducerId = Strong<struct ProducerIdTag>;   // 0 = no producer: no dedupe
using Day = Strong<struct DayTag, std::uint32_t>;  // days since 1970-01-01 in the log's fixed offset
using ShardIndex = Strong<struct ShardTag, std::uint32_t>;

using Nanos = std::int64_t;  // a duration or a point in time in nanoseconds; wall times count from the Unix epoch

/// 128 random bits that name a segment, log or cluster.
struct Id128 {
  std::uint64_t high{};
  std::uint64_t low{};
  constexpr auto operator<=>(const Id128&) const = default;
  constexpr bool is_zero() const { return high == 0 && low == 0; }
};

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;
inline constexpr std::size_t GiB = 1024 * MiB;
/// The unit of every disk write: offset, length and memory are multiples of it.
inline constexpr std::size_t block_bytes = 4 * KiB;

}  // namespace millrace

template <class Tag, class Rep>
struct std::hash<millrace::Strong<Tag, Rep>> {
  std::size_t operator()(const millrace::Strong<Tag, Rep>& v) const noexcept { return std::hash<Rep>{}(v.value); }
};
