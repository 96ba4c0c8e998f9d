#include "storage/place.hpp"

#include <array>
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

std::string index_path(std::string_view shard_directory, Day day) { return day_path(shard_directory, day) + "/index"; }

}  // namespace millrace
