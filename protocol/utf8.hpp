// The rule for names: well-formed UTF-8 (shortest forms, no surrogates, at most U+10FFFF) without control characters.
#pragma once

#include <string_view>

namespace millrace {

/// True for well-formed UTF-8.
bool is_utf8(std::string_view text);
/// True for well-formed UTF-8 without U+0000–U+001F and U+007F–U+009F.
bool is_printable_utf8(std::string_view text);

}  // namespace millrace
