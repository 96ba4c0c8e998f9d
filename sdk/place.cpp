#include <charconv>

#include "base/time.hpp"
#include "millrace/consumer.hpp"
#include "millrace/record.hpp"

namespace millrace {

namespace {

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<Place> parse_day_place(std::string_view text) {
  std::uint64_t id = 0;
  if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    const auto parsed = number(text.substr(colon + 1));
    if (!parsed) return std::nullopt;
    id = *parsed;
    text = text.substr(0, colon);
  }
  const auto day = parse_day(text);
  if (!day) return std::nullopt;
  return Place::at_day(day->value, id);
}

std::optional<Place> parse_place(std::string_view text) {
  if (text == "earliest") return Place::earliest();
  if (text == "latest") return Place::latest();
  const auto rest_of = [&](std::string_view prefix) -> std::optional<std::string_view> {
    if (!text.starts_with(prefix)) return std::nullopt;
    return text.substr(prefix.size());
  };
  if (const auto rest = rest_of("offset:")) {
    const auto offset = number(*rest);
    if (offset) return Place::at_offset(*offset);
  } else if (const auto time_rest = rest_of("time:")) {
    const auto time = parse_time(*time_rest);
    if (time) return Place::at_time(*time);
  } else if (const auto day_rest = rest_of("day:")) {
    return parse_day_place(*day_rest);
  }
  return std::nullopt;
}

}  // namespace

Expected<Place> Place::parse(std::string_view text) {
  if (const auto place = parse_place(text)) return *place;
  return Problem{
      ErrorCode::invalid_argument, 0,
      "\"" + std::string(text) + "\" is no place: earliest | latest | offset:N | time:RFC3339 | day:YYYY-MM-DD[:ID]"};
}

std::string day_text(std::uint32_t day) { return format_day(Day{day}); }
std::string time_text(std::int64_t nanoseconds) { return format_time(nanoseconds); }

}  // namespace millrace
