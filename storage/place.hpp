// Where things stand in a shard's log: a segment by day and number, a batch by its file position. Pure values.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.hpp"

namespace millrace {

/// A segment by its place in the log; ordered as the log is. FORMAT.md, "What is on disk".
struct SegmentKey {
  Day day{};
  std::uint32_t number = 0;  // within the day, from 0 = the file's name
  constexpr auto operator<=>(const SegmentKey&) const = default;
};

/// One batch's bytes on disk: header, body and padding.
struct BatchPlace {
  SegmentKey segment{};
  std::uint64_t position = 0;  // file offset, a multiple of 16
  std::uint32_t span = 0;      // bytes, a multiple of 16
  constexpr bool operator==(const BatchPlace&) const = default;
};

/// Everything a segment can be known by before it is read.
struct SegmentFacts {
  SegmentKey key{};
  Id128 id{};
  Lsn first_lsn{};
};

/// "SHARD/2026-11-21"
std::string day_path(std::string_view shard_directory, Day day);
/// "SHARD/2026-11-21/data000000"
std::string segment_path(std::string_view shard_directory, SegmentKey key);
/// "data000000" -> {day, 0}; nothing for other names.
std::optional<SegmentKey> parse_segment_name(Day day, std::string_view name);
/// "SHARD/2026-11-21/index"
std::string index_path(std::string_view shard_directory, Day day);

}  // namespace millrace
