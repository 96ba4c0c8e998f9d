#include "sdk/latency_histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace millrace {
namespace {

TEST(LatencyHistogram, IsWithinASixtyFourthOfTheTruth) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> values;
  LatencyHistogram histogram;
  for (int i = 0; i < 200'000; ++i) {
    const auto value = static_cast<std::uint64_t>(std::exp(std::uniform_real_distribution(0.0, 28.0)(random)));
    values.push_back(value);
    histogram.add(static_cast<std::int64_t>(value));
  }
  std::sort(values.begin(), values.end());
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const std::uint64_t truth = values[static_cast<std::size_t>(q * static_cast<double>(values.size()))];
    ASSERT_TRUE(histogram.at(q).has_value());
    EXPECT_GE(*histogram.at(q), truth) << q;
    EXPECT_LE(*histogram.at(q), truth + truth / 64 + 1) << q;
  }
  EXPECT_EQ(histogram.max(), values.back());
  EXPECT_EQ(histogram.min(), values.front());
}

TEST(LatencyHistogram, SaysNothingItCannotKnow) {
  LatencyHistogram histogram;
  EXPECT_FALSE(histogram.at(0.5).has_value());
  histogram.add(5, 199);
  EXPECT_TRUE(histogram.at(0.4).has_value());
  EXPECT_TRUE(histogram.at(0.5).has_value());
  EXPECT_FALSE(histogram.at(0.51).has_value());
  histogram.add(5, 99'801);
  EXPECT_TRUE(histogram.at(0.999).has_value());
  EXPECT_FALSE(histogram.at(0.9995).has_value());
}

TEST(LatencyHistogram, MergingIsCountingTogether) {
  LatencyHistogram a, b, both;
  for (int i = 0; i < 10'000; ++i) {
    a.add(i * 3);
    both.add(i * 3);
    b.add(i * 1'000);
    both.add(i * 1'000);
  }
  a.merge(b);
  EXPECT_EQ(a.count(), both.count());
  for (const double q : {0.1, 0.5, 0.9, 0.99}) EXPECT_EQ(a.at(q), both.at(q));
  EXPECT_EQ(a.max(), both.max());
}

TEST(LatencyHistogram, TakesTheExtremes) {
  LatencyHistogram histogram;
  histogram.add(-5);
  histogram.add(INT64_MAX);
  EXPECT_EQ(histogram.roughly_at(0.0), 0u);
  EXPECT_EQ(histogram.max(), static_cast<std::uint64_t>(INT64_MAX));
}

}  // namespace
}  // namespace millrace
