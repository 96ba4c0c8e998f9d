#include "cli/record_input.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace millrace::cli {

namespace {
constexpr std::size_t block_bytes_read = 1u << 20;
constexpr std::size_t length_bytes = 4;
}  // namespace

RecordInput::RecordInput(int descriptor, Delimiter delimiter, int stop)
    : descriptor_(descriptor), delimiter_(delimiter), stop_(stop) {
  buffer_.resize(2 * block_bytes_read);
}

/// False: it is to stop. Files are always ready; what cannot be polled says so when it is read.
bool RecordInput::wait_for_input() const {
  if (stop_ < 0) return true;
  pollfd ends[] = {{stop_, POLLIN, 0}, {descriptor_, POLLIN, 0}};
  while (::poll(ends, 2, -1) < 0 && errno == EINTR) {
  }
  return ends[0].revents == 0;
}

bool RecordInput::fill() {
  if (at_end_ || !error_.empty()) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    searched_ -= std::min(searched_, begin_);
    begin_ = 0;
  }
  if (buffer_.size() - end_ < block_bytes_read) {
    if (buffer_.size() >= 2 * input_record_bytes_max) {
      error_ = "a record is longer than " + std::to_string(input_record_bytes_max) + " bytes";
      return false;
    }
    buffer_.resize(buffer_.size() * 2);
  }
  for (;;) {
    if (!wait_for_input()) {
      // What stands in memory is no whole record.
      at_end_ = true;
      begin_ = searched_ = end_;
      return false;
    }
    const ssize_t got = ::read(descriptor_, buffer_.data() + end_, block_bytes_read);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error_ = std::string("cannot read the input: ") + std::strerror(errno);
    if (got == 0) at_end_ = true;
    if (got <= 0) return false;
    end_ += static_cast<std::size_t>(got);
    bytes_read_ += static_cast<std::uint64_t>(got);
    return true;
  }
}

std::size_t RecordInput::line_end() const {
  const void* found = std::memchr(buffer_.data() + searched_, '\n', end_ - searched_);
  return found == nullptr ? end_ : static_cast<std::size_t>(static_cast<const std::byte*>(found) - buffer_.data());
}

bool RecordInput::would_read() const {
  if (at_end_) return false;
  if (delimiter_ == Delimiter::newline) return line_end() == end_;
  if (end_ - begin_ < length_bytes) return true;
  std::uint32_t length = 0;
  std::memcpy(&length, buffer_.data() + begin_, length_bytes);
  return end_ - begin_ - length_bytes < length;
}

std::optional<std::span<const std::byte>> RecordInput::next() {
  return delimiter_ == Delimiter::newline ? next_line() : next_len32();
}

std::optional<std::span<const std::byte>> RecordInput::next_line() {
  for (;;) {
    searched_ = std::max(searched_, begin_);
    const std::size_t stop = line_end();
    if (stop < end_) {
      const std::span<const std::byte> line(buffer_.data() + begin_, stop - begin_);
      begin_ = searched_ = stop + 1;
      return line;
    }
    searched_ = end_;
    if (fill()) continue;
    if (!error_.empty() || begin_ == end_) return std::nullopt;
    // The last line has no newline: it is a record all the same.
    const std::span<const std::byte> line(buffer_.data() + begin_, end_ - begin_);
    begin_ = searched_ = end_;
    return line;
  }
}

std::optional<std::span<const std::byte>> RecordInput::next_len32() {
  for (;;) {
    const std::size_t there = end_ - begin_;
    if (there >= length_bytes) {
      std::uint32_t length = 0;
      std::memcpy(&length, buffer_.data() + begin_, length_bytes);
      if (length > input_record_bytes_max) {
        error_ = "a record claims " + std::to_string(length) + " bytes; the largest is " +
                 std::to_string(input_record_bytes_max);
        return std::nullopt;
      }
      if (there - length_bytes >= length) {
        const std::span<const std::byte> record(buffer_.data() + begin_ + length_bytes, length);
        begin_ += length_bytes + length;
        return record;
      }
    }
    if (fill()) continue;
    if (error_.empty() && begin_ != end_) error_ = "the input ends inside a record";
    return std::nullopt;
  }
}

}  // namespace millrace::cli
