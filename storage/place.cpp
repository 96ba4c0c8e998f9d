#include "storage/place.hpp"

#include <array>
#include <charconv>
#include <cstdio>

#include "base/time.hpp"

namespace millrace {

std::string day_path(std::string_view shard_directory, Day day) {
  return std::string(shard_directory) + "/" + format_day(day);
}

std::string segment_path(std::string_view shard_directory, SegmentKey key) {
  std::array<char, 24> name{};
  std::snprintf(name.data(), name.size(), "/data%06u", key.number);
  return day_path(shard_directory, key.day) + name.data();
}

std::optional<SegmentKey> parse_segment_name(Day day, std::string_view name) {
  if (name.size() < 10 || !name.starts_with("data")) return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return SegmentKey{day, number};
}

std::string index_path(std::string_view shard_directory, Day day) { return day_path(shard_directory, day) + "/index"; }

}  // namespace millrace
