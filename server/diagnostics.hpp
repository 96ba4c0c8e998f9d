// What the server says about itself to whoever runs it. The program decides where lines go; nothing here reads a clock.
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace {

enum class Severity : std::uint8_t { note, warning, error };

class Diagnostics {
 public:
  /// One sentence without a newline. Any thread.
  virtual void say(Severity severity, std::string_view text) = 0;

 protected:
  ~Diagnostics() = default;
};

}  // namespace millrace
