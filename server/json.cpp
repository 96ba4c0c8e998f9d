#include "server/json.hpp"

#include <fmt/format.h>

namespace millrace {

void JsonWriter::separate() {
  if (!first_) text_ += ',';
  first_ = false;
}

void JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  first_ = true;
}

void JsonWriter::close(char bracket) {
  text_ += bracket;
  first_ = false;
}

void JsonWriter::plain(std::string_view json) {
  separate();
  text_ += json;
}

void JsonWriter::key(std::string_view name) {
  value(name);
  text_ += ':';
  first_ = true;
}

void JsonWriter::value(std::string_view text) {
  separate();
  text_ += '"';
  for (char c : text) {
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      text_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

void JsonWriter::value(std::uint64_t number) { plain(fmt::format("{}", number)); }
void JsonWriter::value(std::int64_t number) { plain(fmt::format("{}", number)); }
void JsonWriter::value(double number) { plain(fmt::format("{:.3f}", number)); }

std::string hex_id(std::uint64_t id) { return fmt::format("{:016x}", id); }

}  // namespace millrace
