// The file form of a ServerConfig: the part of TOML that settings need, one `name = value` a line, # for comments. A value is a
// "string" (escapes \" and \\), a 'literal string', an integer, true, false, or an array of integers. Whatever is read here is
// TOML of the same meaning; tables, dates and values over several lines are refused. (toml++ was tried first: fuzzing found
// failed assertions and unreachable branches in its parser within seconds.)
#include <fmt/format.h>

#include <algorithm>

#include "server/config.hpp"

namespace millrace {

namespace {

constexpr std::string_view blanks = " \t";
constexpr std::string_view digits = "0123456789";
constexpr std::string_view key_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

/// What is left of one line.
class Line {
 public:
  explicit Line(std::string_view text) : text_(text) { skip_blanks(); }

  /// Nothing more, or a comment.
  bool at_end() const { return text_.empty() || text_[0] == '#' || text_ == "\r"; }
  bool take(char c) {
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    skip_blanks();
    return true;
  }
  /// The longest piece of these characters; may be empty.
  std::string_view take_all(std::string_view characters) {
    std::size_t length = std::min(text_.find_first_not_of(characters), text_.size());
    std::string_view piece = text_.substr(0, length);
    text_.remove_prefix(length);
    skip_blanks();
    return piece;
  }
  /// After an opening quote.
  std::optional<std::string> take_string(char quote) {
    std::string value;
    for (std::size_t i = 0; i < text_.size(); i++) {
      char c = text_[i];
      if (c == quote) {
        text_.remove_prefix(i + 1);
        skip_blanks();
        return value;
      }
      if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return std::nullopt;
      if (c == '\\' && quote == '"') {
        c = ++i < text_.size() ? text_[i] : 0;
        if (c != '"' && c != '\\') return std::nullopt;
      }
      value += c;
    }
    return std::nullopt;
  }
  char front() const { return text_.empty() ? '\0' : text_[0]; }
  /// The character after an opening quote, before blanks are skipped.
  void drop_quote() { text_.remove_prefix(1); }

 private:
  void skip_blanks() { text_.remove_prefix(std::min(text_.find_first_not_of(blanks), text_.size())); }
  std::string_view text_;
};

std::optional<std::string> take_array(Line& line) {
  std::string joined;
  while (!line.take(']')) {
    if (!joined.empty() && !line.take(',')) return std::nullopt;
    if (!joined.empty() && line.take(']')) return joined;
    std::string_view number = line.take_all(digits);
    if (number.empty()) return std::nullopt;
    joined += (joined.empty() ? "" : ",") + std::string(number);
  }
  return joined;
}

std::optional<std::string> take_value(Line& line) {
  char front = line.front();
  if (front == '"' || front == '\'') {
    line.drop_quote();
    return line.take_string(front);
  }
  if (line.take('[')) return take_array(line);
  std::string_view word = line.take_all(key_characters);
  bool number = !word.empty() && word.find_first_not_of(digits) == std::string_view::npos;
  if (number || word == "true" || word == "false") return std::string(word);
  return std::nullopt;
}

Complaint apply_line(ServerConfig& config, std::string_view text) {
  Line line(text);
  if (line.at_end()) return std::nullopt;
  std::string_view name = line.take_all(key_characters);
  if (name.empty() || !line.take('=')) return "expected name = value, one setting a line";
  auto value = take_value(line);
  if (!value || !line.at_end())
    return fmt::format("{}: expected a quoted text, a number, true, false, or numbers in brackets", name);
  return set_option(config, name, *value);
}

}  // namespace

Complaint apply_toml(ServerConfig& config, std::string_view text) {
  for (int number = 1; !text.empty(); number++) {
    std::size_t end = std::min(text.find('\n'), text.size());
    if (auto complaint = apply_line(config, text.substr(0, end))) return fmt::format("line {}: {}", number, *complaint);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::nullopt;
}

}  // namespace millrace
