// What `read` says of records that are gone. A stream loses batches, and each is told apart: ranges that lie side by side come out as
// one line, however they were found.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "millrace/consumer.hpp"

namespace millrace::cli {

class LossLines {
 public:
  /// `print` gets each line, its newline included.
  LossLines(std::string stream, std::function<void(const std::string& line)> print);

  /// `loss` is a data_loss.
  void add(const ReadResult& loss);
  /// Says what is still held back: something else comes now, or nothing for a while.
  void flush();
  bool any() const { return any_; }

 private:
  const std::string stream_;
  const std::function<void(const std::string& line)> print_;
  bool damaged_ = false;  // else no longer kept
  std::uint64_t first_ = 0;
  std::uint64_t end_ = 0;  // = first_: nothing is held back
  bool any_ = false;
};

}  // namespace millrace::cli
