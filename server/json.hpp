// JSON text, written front to back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace millrace {

class JsonWriter {
 public:
  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  void begin_array() { open('['); }
  void end_array() { close(']'); }
  /// Names the next value of the object under way.
  void key(std::string_view name);
  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(bool flag) { plain(flag ? "true" : "false"); }
  void value(std::uint64_t number);
  void value(std::int64_t number);
  void value(std::uint32_t number) { value(std::uint64_t{number}); }
  void value(std::int32_t number) { value(std::int64_t{number}); }
  void value(double number);
  /// JSON as it stands.
  void raw(std::string_view json) { plain(json); }
  template <class Value>
  void field(std::string_view name, const Value& content) {
    key(name);
    value(content);
  }

  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }

 private:
  void open(char bracket);
  void close(char bracket);
  void plain(std::string_view json);
  void separate();

  std::string text_;
  bool first_ = true;  // nothing yet at this level
};

/// Sixteen digits: how ids are shown.
std::string hex_id(std::uint64_t id);

}  // namespace millrace
