#include "base/quantity.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Quantity, Bytes) {
  EXPECT_EQ(parse_bytes("0"), 0u);
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("17B"), 17u);
  EXPECT_EQ(parse_bytes("64KiB"), 65'536u);
  EXPECT_EQ(parse_bytes("64KB"), 64'000u);
  EXPECT_EQ(parse_bytes("2TiB"), 2'199'023'255'552u);
  for (const char* bad : {"", "KiB", "-1", "1.5MiB", "64kib", "64 KiB", "9999999TiB", "18446744073709551616", "1GiBs"})
    EXPECT_FALSE(parse_bytes(bad).has_value()) << bad;
}

TEST(Quantity, Durations) {
  EXPECT_EQ(parse_duration("30s"), 30'000'000'000);
  EXPECT_EQ(parse_duration("30"), 30'000'000'000);
  EXPECT_EQ(parse_duration("250ms"), 250'000'000);
  EXPECT_EQ(parse_duration("50us"), 50'000);
  EXPECT_EQ(parse_duration("7ns"), 7);
  EXPECT_EQ(parse_duration("5m"), 300'000'000'000);
  EXPECT_EQ(parse_duration("1h"), 3'600'000'000'000);
  for (const char* bad : {"", "s", "-5s", "1.5s", "10 s", "99999999999h"})
    EXPECT_FALSE(parse_duration(bad).has_value()) << bad;
}

TEST(Quantity, ForPeople) {
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(format_bytes(1'250'000'000), "1.25 GB");
  EXPECT_EQ(format_bytes(999'600), "1.00 MB");
  EXPECT_EQ(format_duration(137'000), "137 us");
  EXPECT_EQ(format_duration(4'020'000), "4.02 ms");
  EXPECT_EQ(format_duration(15e9), "15.0 s");
}

}  // namespace
}  // namespace millrace
