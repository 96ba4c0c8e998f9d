// Writes records to standard output: raw bytes and a delimiter, or a JSON object a line.
//
// Thread: one. Output is collected and written in large pieces; flush() when somebody waits.
#pragma once

#include <string>
#include <string_view>

#include "cli/record_input.hpp"
#include "millrace/record.hpp"

namespace millrace::cli {

enum class Format : std::uint8_t { raw, json };

class RecordOutput {
 public:
  RecordOutput(int descriptor, Format format, Delimiter delimiter)
      : descriptor_(descriptor), format_(format), delimiter_(delimiter) {}

  /// False when the output is gone (a closed pipe, a full disk): error() says why.
  bool put(const ReadRecord& record);
  bool flush();
  const std::string& error() const { return error_; }

 private:
  void put_raw(ByteView payload);
  void put_json(const ReadRecord& record);

  const int descriptor_;
  const Format format_;
  const Delimiter delimiter_;
  std::string buffer_;
  std::string error_;
};

/// RFC 4648, with padding.
std::string base64(ByteView bytes);
/// Well-formed UTF-8: shortest forms, no surrogates, at most U+10FFFF.
bool is_text(ByteView bytes);

}  // namespace millrace::cli
