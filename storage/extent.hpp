// What a log takes on disk, counted over its directory when somebody asks: an opening does not count, because it must cost
// the same whatever the log holds.
//
// Thread: the shard's. Needs no log while it counts: it may go meanwhile.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/place.hpp"

namespace millrace {

struct LogExtent {
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;  // of their files; of the open one what is used
};

/// Where a log stands, as far as counting needs it.
struct LogExtentBounds {
  SegmentKey first_kept{};
  Day last_day{};
  bool segment_open = false;
  std::uint32_t open_number = 0;  // in last_day; files named ahead have higher ones
  std::uint64_t open_used = 0;
};

class ExtentMeter {
 public:
  /// One directory a day is listed, those of finished days once. Errors: those of the operations.
  Task<LogExtent> measure(Reactor& reactor, std::string shard_directory, std::uint64_t segment_bytes,
                          LogExtentBounds bounds);

 private:
  Task<> measure_day(Reactor& reactor, std::string shard_directory, std::uint64_t segment_bytes, Day day,
                     LogExtentBounds bounds, LogExtent& extent);

  SegmentKey first_kept_{};
  std::map<Day, LogExtent> finished_;
};

}  // namespace millrace
