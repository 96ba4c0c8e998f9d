#include "base/time.hpp"

#include <gtest/gtest.h>

namespace millrace::test {

namespace {

// 2026-11-21T07:19:25.123456789Z
constexpr Nanos sample = 1'795'245'565 * nanos_per_second + 123'456'789;

TEST(TimeTest, days_begin_and_end_at_the_fixed_offset) {
  EXPECT_EQ(format_day(day_of(sample, 0)), "2026-11-21");
  EXPECT_EQ(day_of(0, 0).value, 0U);
  EXPECT_EQ(day_of(nanos_per_day - 1, 0).value, 0U);
  EXPECT_EQ(day_of(nanos_per_day, 0).value, 1U);
  EXPECT_EQ(day_of(nanos_per_day - 1, 3600).value, 1U) << "an hour east the day has begun";
  EXPECT_EQ(day_of(nanos_per_day, -3600).value, 0U);
  EXPECT_EQ(day_of(-5 * nanos_per_day, 0).value, 0U) << "before 1970 is day 0";
  for (std::int32_t offset : {0, 3600, -3600, 14 * 3600, -12600}) {
    for (std::uint32_t day : {1U, 365U, 20'778U}) {
      Nanos begin = day_begin(Day{day}, offset);
      EXPECT_EQ(day_of(begin, offset).value, day);
      EXPECT_EQ(day_of(begin - 1, offset).value, day - 1);
      EXPECT_EQ(day_of(begin + nanos_per_day - 1, offset).value, day);
    }
  }
}

TEST(TimeTest, day_texts) {
  EXPECT_EQ(format_day(Day{0}), "1970-01-01");
  EXPECT_EQ(parse_day("1970-01-01"), Day{0});
  EXPECT_EQ(parse_day("2024-02-29"), Day{19'782});
  EXPECT_EQ(format_day(Day{19'782}), "2024-02-29");
  for (std::uint32_t day = 0; day < 60'000; day += 97) EXPECT_EQ(parse_day(format_day(Day{day})), Day{day});
  for (const char* wrong : {"", "2023-02-29", "2026-13-01", "2026-00-10", "2026-1-01", "2026-01-1", "1969-12-31",
                            "2026/01/01", "2026-01-01 ", "20260101xx", "-026-01-01", "2026-04-31", "+026-01-01"})
    EXPECT_FALSE(parse_day(wrong)) << wrong;
}

TEST(TimeTest, time_texts_sort_as_times_do) {
  EXPECT_EQ(format_time(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(format_time(sample), "2026-11-21T07:19:25.123456789Z");
  EXPECT_EQ(format_time(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_LT(format_time(sample), format_time(sample + 1));
  EXPECT_EQ(parse_time(format_time(sample)), sample);
}

TEST(TimeTest, times_in_rfc_3339) {
  EXPECT_EQ(parse_time("2026-11-21T07:19:25Z"), sample - 123'456'789);
  EXPECT_EQ(parse_time("2026-11-21t07:19:25z"), sample - 123'456'789);
  EXPECT_EQ(parse_time("2026-11-21 07:19:25.1Z"), sample - 23'456'789);
  EXPECT_EQ(parse_time("2026-11-21T15:19:25.123456789+08:00"), sample);
  EXPECT_EQ(parse_time("2026-11-21T03:49:25.123456789-03:30"), sample);
  EXPECT_EQ(parse_time("2026-11-21T07:19:25.1234567899999Z"), sample) << "digits past nine are dropped";
  for (const char* wrong : {"", "2026-11-21", "2026-11-21T07:19:25", "2026-11-21T24:00:00Z", "2026-11-21T07:60:00Z",
                            "2026-11-21T07:19:61Z", "2026-11-21T07:19:25.Z", "2026-11-21T07:19:25+8:00",
                            "2026-11-21T07:19:25Zx", "2026-11-31T07:19:25Z", "2026-11-21T7:19:25Z"})
    EXPECT_FALSE(parse_time(wrong)) << wrong;
}

TEST(TimeTest, day_offsets) {
  EXPECT_EQ(parse_day_offset("+00:00"), 0);
  EXPECT_EQ(parse_day_offset("-00:00"), 0);
  EXPECT_EQ(parse_day_offset("+05:30"), 19'800);
  EXPECT_EQ(parse_day_offset("-03:30"), -12'600);
  EXPECT_EQ(parse_day_offset("+14:00"), 50'400);
  for (const char* wrong : {"", "00:00", "+14:01", "+15:00", "+5:30", "+05:60", "+0530", "+05:30 ", "*05:30"})
    EXPECT_FALSE(parse_day_offset(wrong)) << wrong;
  for (std::int32_t seconds : {0, 19'800, -12'600, 50'400, -50'400})
    EXPECT_EQ(parse_day_offset(format_day_offset(seconds)), seconds);
  EXPECT_EQ(format_day_offset(-12'600), "-03:30");
}

}  // namespace

}  // namespace millrace::test
