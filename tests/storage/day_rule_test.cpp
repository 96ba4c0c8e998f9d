#include "storage/day_rule.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

constexpr Day today{20'778};  // 2026-11-21
constexpr Nanos noon = 20'778 * nanos_per_day + nanos_per_day / 2;
constexpr Nanos hour = 3600 * nanos_per_second;

TEST(DayRule, LeaderTimeAndDayNeverFall) {
  DayRule rule(0, 0, Day{});
  ASSERT_TRUE(rule.start(noon, 0, false));
  auto first = rule.stamp(noon, 0, false);
  EXPECT_EQ(first.day, today);
  rule.took(first);
  auto back = rule.stamp(noon - 48 * hour, 1, false);
  EXPECT_EQ(back.day, today);
  EXPECT_EQ(back.leader_time, noon);
  EXPECT_FALSE(back.held);
}

TEST(DayRule, MidnightRollsAtTheFixedOffset) {
  DayRule rule(8 * 3600, 0, Day{});
  ASSERT_TRUE(rule.start(noon, 0, false));
  rule.took(rule.stamp(noon, 0, false));
  EXPECT_EQ(rule.stamp(noon + 4 * hour - 1, 4 * hour - 1, false).day, today);
  EXPECT_EQ(rule.stamp(noon + 4 * hour, 4 * hour, false).day, today.next());
}

TEST(DayRule, HoldsTheDayOnlyWhenTheWallClockOutranTheMonotonicOne) {
  DayRule rule(0, 0, Day{});
  ASSERT_TRUE(rule.start(noon, 100, false));
  rule.took(rule.stamp(noon, 100, false));
  auto jumped = rule.stamp(noon + 400 * 24 * hour, 200, false);
  EXPECT_TRUE(jumped.held);
  EXPECT_EQ(jumped.day, today);
  EXPECT_EQ(jumped.leader_time, (20'779) * nanos_per_day - 1);
  rule.took(jumped);
  auto sane = rule.stamp(noon + 12 * hour, 100 + 12 * hour, false);
  EXPECT_FALSE(sane.held);
  EXPECT_EQ(sane.day, today.next());
  EXPECT_FALSE(rule.stamp(noon + 12 * hour + hour, 100 + 12 * hour, false).held) << "an hour is believed";
}

TEST(DayRule, ASealedDayGetsNoMoreWhateverTheClockSays) {
  DayRule rule(0, noon, today);
  ASSERT_TRUE(rule.start(noon, 0, false));
  // Back behind the seal: the next day begins all the same, at its first instant.
  for (Nanos wall : {noon - 48 * hour, noon, noon + 12 * hour}) {
    auto stamp = rule.stamp(wall, 1, true);
    EXPECT_EQ(stamp.day, today.next());
    EXPECT_EQ(stamp.leader_time, (20'779) * nanos_per_day);
    EXPECT_FALSE(stamp.held) << "nothing is taken back";
  }
  // And a clock that is not believed holds that one.
  auto jumped = rule.stamp(noon + 400 * 24 * hour, 200, true);
  EXPECT_TRUE(jumped.held);
  EXPECT_EQ(jumped.day, today.next());
  EXPECT_EQ(jumped.leader_time, (20'780) * nanos_per_day - 1);
}

TEST(DayRule, ADayThatWasBegunIsNotLeftByAClockThatGoesBack) {
  DayRule rule(0, noon, today);
  ASSERT_TRUE(rule.start(noon + 72 * hour, 0, false));
  const DayStamp ahead = rule.stamp(noon + 72 * hour, 0, true);
  EXPECT_EQ(ahead.day.value, today.value + 3);
  rule.began(ahead.day);
  const DayStamp back = rule.stamp(noon, 1, false);
  EXPECT_EQ(back.day, ahead.day);
  EXPECT_EQ(back.leader_time, std::int64_t{20'781} * nanos_per_day) << "its first instant";
  rule.took(back);
}

TEST(DayRule, WhatWasStampedAndNeverBecameDurableIsForgottenByAReopening) {
  DayRule rule(0, noon, today);
  ASSERT_TRUE(rule.start(noon, 0, false));
  rule.took(rule.stamp(noon + 12 * hour, 12 * hour, true));
  EXPECT_EQ(rule.last_day(), today.next());
  // The log reads itself back, and ends with the seal of today: the next batch is tomorrow's, not that of the day after.
  rule.reopened(noon, today);
  EXPECT_EQ(rule.stamp(noon + 12 * hour, 12 * hour, true).day, today.next());
}

TEST(DayRule, AStartAcceptsLaterDaysUpToAYearUnlessTold) {
  DayRule rule(0, noon, today);
  EXPECT_TRUE(rule.start(noon + 366 * nanos_per_day, 0, false));
  EXPECT_EQ(rule.start(noon + 367 * nanos_per_day, 0, false).error(), Error::clock_jumped);
  EXPECT_TRUE(rule.start(noon + 367 * nanos_per_day, 0, true));
  EXPECT_EQ(rule.stamp(noon + 367 * nanos_per_day, 0, false).day.value, today.value + 367);
  EXPECT_TRUE(rule.start(noon - 5 * nanos_per_day, 0, false));
  EXPECT_EQ(rule.stamp(noon - 5 * nanos_per_day, 0, false).day, today);
}

}  // namespace
}  // namespace millrace
