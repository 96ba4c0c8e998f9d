// Days and wall times as numbers and as text. Pure: nobody here asks a clock.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/units.hpp"

namespace millrace {

inline constexpr Nanos nanos_per_second = 1'000'000'000;
inline constexpr Nanos nanos_per_milli = 1'000'000;
inline constexpr Nanos nanos_per_day = 86'400 * nanos_per_second;

/// The day that holds `wall` at a fixed offset from UTC (`offset_seconds`, never a DST zone). Times before 1970 are day 0.
Day day_of(Nanos wall, std::int32_t offset_seconds);
/// The first instant of `day` at that offset, as wall time.
Nanos day_begin(Day day, std::int32_t offset_seconds);

/// "2026-11-21"
std::string format_day(Day day);
/// The reverse, strict: ten characters, a real date from 1970 on.
std::optional<Day> parse_day(std::string_view text);

/// "2026-11-21T07:19:25.123456789Z"; nine digits always, so texts sort as times do.
std::string format_time(Nanos wall);
/// RFC 3339: "2026-11-21T07:19:25Z", any number of fraction digits (past nine are dropped), "Z" or "+08:00".
std::optional<Nanos> parse_time(std::string_view text);

/// "+08:00", "-03:30" -> seconds, between -14 and +14 hours.
std::optional<std::int32_t> parse_day_offset(std::string_view text);
std::string format_day_offset(std::int32_t seconds);

}  // namespace millrace
