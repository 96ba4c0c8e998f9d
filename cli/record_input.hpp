// Cuts a file into records: lines, or pieces that each begin with their length. Reads large blocks; a record is a view into
// them and valid until the next call.
//
// Thread: one. Errors stay until the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sdk/core/body_packer.hpp"

namespace millrace::cli {

enum class Delimiter : std::uint8_t { newline, len32 };

/// Records of a batch that there is always room for.
inline constexpr std::uint32_t batch_records_usual = 16'384;
/// The largest record that fits a batch; a longer one is an error, not a larger buffer.
inline constexpr std::size_t input_record_bytes_max = arena_bytes_max(batch_records_usual);

class RecordInput {
 public:
  /// Takes over nothing: the descriptors stay the caller's. Nothing more is waited for once `stop` is readable, when there is one.
  RecordInput(int descriptor, Delimiter delimiter, int stop = -1);

  /// The next record; nothing at the end, on an error(), or when it would have to wait for one and was to stop.
  std::optional<std::span<const std::byte>> next();
  /// True when what is in memory gives no whole record: next() may wait for more input.
  bool would_read() const;
  const std::string& error() const { return error_; }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  std::optional<std::span<const std::byte>> next_line();
  std::optional<std::span<const std::byte>> next_len32();
  std::size_t line_end() const;
  bool fill();

  bool wait_for_input() const;

  const int descriptor_;
  const Delimiter delimiter_;
  const int stop_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t searched_ = 0;  // no newline before this
  bool at_end_ = false;
  std::uint64_t bytes_read_ = 0;
  std::string error_;
};

}  // namespace millrace::cli
