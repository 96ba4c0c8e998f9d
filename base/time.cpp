#include "base/time.hpp"

#include <array>
#include <chrono>
#include <cstdio>

namespace millrace {

namespace {

constexpr Nanos seconds_per_day = 86'400;

std::optional<int> digits(std::string_view text, std::size_t at, std::size_t count) {
  if (at + count > text.size()) return std::nullopt;
  int value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

std::optional<Nanos> parse_zone(std::string_view text) {
  if (text == "Z" || text == "z") return 0;
  if (auto offset = parse_day_offset(text)) return *offset;
  return std::nullopt;
}

}  // namespace

Day day_of(Nanos wall, std::int32_t offset_seconds) {
  Nanos local = wall / nanos_per_second + offset_seconds;
  return Day{local <= 0 ? 0U : static_cast<std::uint32_t>(local / seconds_per_day)};
}

Nanos day_begin(Day day, std::int32_t offset_seconds) {
  return (static_cast<Nanos>(day.value) * seconds_per_day - offset_seconds) * nanos_per_second;
}

std::string format_day(Day day) {
  std::chrono::year_month_day ymd{std::chrono::sys_days{std::chrono::days{static_cast<int>(day.value)}}};
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02u", static_cast<int>(ymd.year()),
                static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()));
  return text.data();
}

std::optional<Day> parse_day(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
  auto year = digits(text, 0, 4), month = digits(text, 5, 2), day = digits(text, 8, 2);
  if (!year || !month || !day || *year < 1970) return std::nullopt;
  std::chrono::year_month_day ymd{std::chrono::year{*year}, std::chrono::month{static_cast<unsigned>(*month)},
                                  std::chrono::day{static_cast<unsigned>(*day)}};
  if (!ymd.ok()) return std::nullopt;
  return Day{static_cast<std::uint32_t>(std::chrono::sys_days{ymd}.time_since_epoch().count())};
}

std::string format_time(Nanos wall) {
  Nanos seconds = wall / nanos_per_second;
  Nanos fraction = wall % nanos_per_second;
  if (fraction < 0) {
    fraction += nanos_per_second;
    --seconds;
  }
  Nanos days = seconds / seconds_per_day;
  Nanos rest = seconds % seconds_per_day;
  if (rest < 0) {
    rest += seconds_per_day;
    --days;
  }
  std::chrono::year_month_day ymd{std::chrono::sys_days{std::chrono::days{days}}};
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%09dZ", static_cast<int>(ymd.year()),
                static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()), static_cast<int>(rest / 3600),
                static_cast<int>(rest / 60 % 60), static_cast<int>(rest % 60), static_cast<int>(fraction));
  return text.data();
}

std::optional<Nanos> parse_time(std::string_view text) {
  if (text.size() < 20 || (text[10] != 'T' && text[10] != 't' && text[10] != ' ')) return std::nullopt;
  auto day = parse_day(text.substr(0, 10));
  auto hour = digits(text, 11, 2), minute = digits(text, 14, 2), second = digits(text, 17, 2);
  if (!day || !hour || !minute || !second || text[13] != ':' || text[16] != ':') return std::nullopt;
  if (*hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  std::size_t at = 19;
  Nanos fraction = 0;
  if (text[at] == '.') {
    Nanos scale = nanos_per_second / 10;
    std::size_t first = ++at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, scale /= 10)
      fraction += (text[at] - '0') * scale;
    if (at == first) return std::nullopt;
  }
  auto zone = parse_zone(text.substr(at));
  if (!zone) return std::nullopt;
  Nanos seconds = static_cast<Nanos>(day->value) * seconds_per_day + *hour * 3600 + *minute * 60 + *second - *zone;
  return seconds * nanos_per_second + fraction;
}

std::optional<std::int32_t> parse_day_offset(std::string_view text) {
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return std::nullopt;
  auto hour = digits(text, 1, 2), minute = digits(text, 4, 2);
  if (!hour || !minute || *hour > 14 || *minute > 59) return std::nullopt;
  std::int32_t seconds = *hour * 3600 + *minute * 60;
  if (seconds > 14 * 3600) return std::nullopt;
  return text[0] == '-' ? -seconds : seconds;
}

std::string format_day_offset(std::int32_t seconds) {
  std::array<char, 32> text{};
  std::int32_t magnitude = seconds < 0 ? -seconds : seconds;
  std::snprintf(text.data(), text.size(), "%c%02d:%02d", seconds < 0 ? '-' : '+', magnitude / 3600,
                magnitude / 60 % 60);
  return text.data();
}

}  // namespace millrace
