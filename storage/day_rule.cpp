#include "storage/day_rule.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

DayRule::DayRule(std::int32_t offset_seconds, Nanos last_time, Day last_day) : offset_seconds_(offset_seconds) {
  reopened(last_time, last_day);
}

Result<> DayRule::start(Nanos wall, Nanos monotonic, bool accept_clock) {
  wall_at_start_ = wall;
  monotonic_at_start_ = monotonic;
  if (last_day_ == Day{} || accept_clock) return {};
  if (day_of(wall, offset_seconds_).value > last_day_.value + ahead_days_max) return fail(Error::clock_jumped);
  return {};
}

DayStamp DayRule::stamp(Nanos wall, Nanos monotonic, bool sealed) const {
  DayStamp stamp;
  const Day least = sealed ? last_day_.next() : last_day_;
  const Nanos least_time = sealed ? std::max(last_time_, day_begin(least, offset_seconds_)) : last_time_;
  Day today = day_of(std::max(wall, least_time), offset_seconds_);
  const bool outran = (wall - wall_at_start_) - (monotonic - monotonic_at_start_) > outrun_max;
  if (outran && last_day_ != Day{} && today > least) {
    stamp.held = true;
    wall = std::min(wall, day_begin(least.next(), offset_seconds_) - 1);
    today = least;
  }
  stamp.leader_time = std::max(least_time, wall);
  stamp.day = std::max(least, today);
  return stamp;
}

void DayRule::took(const DayStamp& stamp) {
  MR_ASSERT(stamp.leader_time >= last_time_ && stamp.day >= last_day_);
  last_time_ = stamp.leader_time;
  last_day_ = stamp.day;
}

void DayRule::began(Day day) {
  MR_ASSERT(day >= last_day_);
  reopened(last_time_, day);
}

void DayRule::reopened(Nanos last_time, Day last_day) {
  last_time_ = last_day == Day{} ? last_time : std::max(last_time, day_begin(last_day, offset_seconds_));
  last_day_ = last_day;
}

}  // namespace millrace
