// Which leader time and day the next batch gets. The leader alone asks it; followers and readers never compute a day.
//
//   leader time = max(last, now); day = leader time at the log's fixed offset from UTC, never going backwards.
//   While running, a wall clock that outran the monotonic one by more than `outrun_max` holds the day (and the leader time at
//   its last instant) until the clock is believable again or the process is started anew.
//   A sealed day gets no more: whatever the clock says, the next batch is of a later day, at its first instant at least.
//   At the start any day from the last one on is accepted, up to `ahead_days_max` ahead of it without accept_clock.
//
// Pure: times are handed in.
#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/units.hpp"

namespace millrace {

struct DayStamp {
  Nanos leader_time = 0;
  Day day{};
  bool held = false;  // the wall clock is not believed
};

class DayRule {
 public:
  static constexpr Nanos outrun_max = 3600 * nanos_per_second;
  static constexpr std::uint32_t ahead_days_max = 366;

  /// `last_time`, `last_day`: of the newest batch; both 0 for an empty log. A day that was begun without a batch counts too.
  DayRule(std::int32_t offset_seconds, Nanos last_time, Day last_day);

  /// What the start of a process has to ask first, and what it may override. Errors: clock_jumped.
  Result<> start(Nanos wall, Nanos monotonic, bool accept_clock);

  /// The stamp a batch gets now; `sealed`: the newest batch is the seal of its day. Changes nothing: took() does.
  DayStamp stamp(Nanos wall, Nanos monotonic, bool sealed) const;
  void took(const DayStamp& stamp);
  /// A segment of this day was begun: whatever comes next is of it or of a later one.
  void began(Day day);
  /// The log was opened anew, and this is its newest batch: what was stamped behind it is forgotten.
  void reopened(Nanos last_time, Day last_day);

  Nanos last_time() const { return last_time_; }
  Day last_day() const { return last_day_; }

 private:
  const std::int32_t offset_seconds_;
  Nanos last_time_ = 0;
  Day last_day_{};
  Nanos wall_at_start_ = 0;
  Nanos monotonic_at_start_ = 0;
};

}  // namespace millrace
