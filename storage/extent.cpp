#include "storage/extent.hpp"

#include <utility>

#include "reactor/file.hpp"
#include "storage/opening.hpp"

namespace millrace {

Task<LogExtent> ExtentMeter::measure(Reactor& reactor, std::string shard_directory, std::uint64_t segment_bytes,
                                     LogExtentBounds bounds) {
  if (bounds.first_kept != first_kept_) {
    // Retention took segments: the day where it stopped is another one now.
    finished_.erase(finished_.begin(), finished_.upper_bound(bounds.first_kept.day));
    first_kept_ = bounds.first_kept;
  }
  auto listing = list_days(reactor, shard_directory);
  auto days = co_await listing;
  if (!days) co_return fail(days.error());
  LogExtent extent;
  for (const Day day : *days) {
    if (day < bounds.first_kept.day || day > bounds.last_day) continue;
    auto known = finished_.find(day);
    if (known == finished_.end()) {
      auto measuring = measure_day(reactor, shard_directory, segment_bytes, day, bounds, extent);
      auto measured = co_await measuring;
      if (!measured && measured.error() != Error::not_found) co_return fail(measured.error());
      continue;
    }
    extent.segments += known->second.segments;
    extent.bytes += known->second.bytes;
  }
  co_return extent;
}

Task<> ExtentMeter::measure_day(Reactor& reactor, std::string shard_directory, std::uint64_t segment_bytes, Day day,
                                LogExtentBounds bounds, LogExtent& extent) {
  auto listing = list_day(reactor, shard_directory, day);
  auto files = co_await listing;
  if (!files) co_return fail(files.error());
  LogExtent found;
  for (const std::uint32_t number : files->segments) {
    const SegmentKey key{day, number};
    const bool in_open_day = bounds.segment_open && day == bounds.last_day;
    if (key < bounds.first_kept || (in_open_day && number > bounds.open_number)) continue;
    ++found.segments;
    if (in_open_day && number == bounds.open_number) {
      found.bytes += bounds.open_used;
    } else if (number != files->segments.back()) {
      found.bytes += segment_bytes;
    } else {  // the last one of a day is cut to what it holds
      auto asking = Directory::status_of(reactor, segment_path(shard_directory, key));
      auto status = co_await asking;
      if (!status) co_return fail(status.error());
      found.bytes += status->size;
    }
  }
  extent.segments += found.segments;
  extent.bytes += found.bytes;
  if (files->has_finish && day < bounds.last_day && bounds.first_kept == first_kept_) finished_[day] = found;
  co_return Result<>{};
}

}  // namespace millrace
