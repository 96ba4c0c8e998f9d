#include "protocol/utf8.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace millrace {

namespace {

/// Takes one code point from the front of `text`; nothing = not well formed.
std::optional<std::uint32_t> take(std::string_view& text) {
  auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at])); };
  std::uint32_t lead = byte(0);
  std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (length == 0 || text.size() < length) return std::nullopt;
  std::uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; i++) {
    if (byte(i) >> 6 != 2) return std::nullopt;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return std::nullopt;
  text.remove_prefix(length);
  return code;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty())
    if (!take(text)) return false;
  return true;
}

bool is_printable_utf8(std::string_view text) {
  while (!text.empty()) {
    auto code = take(text);
    if (!code || *code < 0x20 || (*code >= 0x7f && *code <= 0x9f)) return false;
  }
  return true;
}

}  // namespace millrace
