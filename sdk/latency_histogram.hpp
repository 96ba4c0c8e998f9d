// Latencies counted in buckets that grow with their values: 1/64 of a value wide at most, from 1 ns to 4 hours, in 20 KiB.
// Histograms are merged, never averaged; a quantile is given only when at least 100 samples lie beyond it.
//
// Thread: the owner's.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>

namespace millrace {

class LatencyHistogram {
 public:
  static constexpr std::uint64_t samples_beyond_min = 100;

  void add(std::int64_t nanoseconds, std::uint64_t times = 1) {
    const std::uint64_t value = nanoseconds < 0 ? 0 : static_cast<std::uint64_t>(nanoseconds);
    counts_[bucket_of(value)] += times;
    count_ += times;
    max_ = std::max(max_, value);
    min_ = std::min(min_, value);
  }

  void merge(const LatencyHistogram& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
    min_ = std::min(min_, other.min_);
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  std::uint64_t min() const { return count_ == 0 ? 0 : min_; }

  /// The value below or at which `quantile` (0.5, 0.99) of the samples lie, at most 1/64 too large; nothing when fewer than 100
  /// samples lie beyond it.
  std::optional<std::uint64_t> at(double quantile) const {
    const auto below = static_cast<std::uint64_t>(static_cast<double>(count_) * quantile);
    if (count_ - below < samples_beyond_min) return std::nullopt;
    return value_at_rank(below + 1);
  }
  /// The same however few the samples are: for a person who wants to see something; 0 of nothing.
  std::uint64_t roughly_at(double quantile) const {
    if (count_ == 0) return 0;
    return value_at_rank(std::min(count_, static_cast<std::uint64_t>(static_cast<double>(count_) * quantile) + 1));
  }

 private:
  static constexpr unsigned sub_bits = 6;  // 64 buckets a power of two
  static constexpr std::size_t buckets = (44 - sub_bits + 1) << sub_bits;

  static std::size_t bucket_of(std::uint64_t value) {
    if (value < (1u << sub_bits)) return value;
    const unsigned power = static_cast<unsigned>(std::bit_width(value)) - 1 - sub_bits;
    const std::size_t bucket = ((power + 1) << sub_bits) + ((value >> power) & ((1u << sub_bits) - 1));
    return std::min(bucket, buckets - 1);
  }
  /// The largest value of a bucket.
  static std::uint64_t top_of(std::size_t bucket) {
    if (bucket < (1u << sub_bits)) return bucket;
    const unsigned power = static_cast<unsigned>(bucket >> sub_bits) - 1;
    const std::uint64_t mantissa = (1u << sub_bits) | (bucket & ((1u << sub_bits) - 1));
    return ((mantissa + 1) << power) - 1;
  }
  std::uint64_t value_at_rank(std::uint64_t rank) const {
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if ((seen += counts_[i]) >= rank) return std::min(top_of(i), max_);
    return max_;
  }

  std::array<std::uint64_t, buckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
  std::uint64_t min_ = ~std::uint64_t{0};
};

}  // namespace millrace
