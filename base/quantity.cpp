#include "base/quantity.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <span>

namespace millrace {

namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr Unit byte_units[] = {{"", 1},
                               {"B", 1},
                               {"KiB", KiB},
                               {"MiB", MiB},
                               {"GiB", GiB},
                               {"TiB", 1024 * GiB},
                               {"KB", 1'000},
                               {"MB", 1'000'000},
                               {"GB", 1'000'000'000},
                               {"TB", 1'000'000'000'000}};
constexpr Unit time_units[] = {{"", 1'000'000'000}, {"s", 1'000'000'000},  {"ms", 1'000'000},       {"us", 1'000},
                               {"ns", 1},           {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};

std::optional<std::uint64_t> parse(std::string_view text, std::span<const Unit> units) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view name = text.substr(static_cast<std::size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    if (number > std::numeric_limits<std::int64_t>::max() / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

std::string three_digits(double value, const char* unit) {
  std::array<char, 48> text{};
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, unit);
  return text.data();
}

}  // namespace

std::optional<std::uint64_t> parse_bytes(std::string_view text) { return parse(text, byte_units); }

std::optional<Nanos> parse_duration(std::string_view text) {
  const auto nanoseconds = parse(text, time_units);
  if (!nanoseconds) return std::nullopt;
  return static_cast<Nanos>(*nanoseconds);
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> units = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < units.size()) {
    bytes /= 1'000;
    ++unit;
  }
  if (unit == 0) return std::to_string(static_cast<long long>(bytes)) + " B";
  return three_digits(bytes, units[unit]);
}

std::string format_duration(double nanoseconds) {
  constexpr std::array<const char*, 4> units = {"ns", "us", "ms", "s"};
  std::size_t unit = 0;
  while (nanoseconds >= 999.5 && unit + 1 < units.size()) {
    nanoseconds /= 1'000;
    ++unit;
  }
  return three_digits(nanoseconds, units[unit]);
}

}  // namespace millrace
