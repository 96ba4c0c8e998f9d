// A line on stderr that shows how far something is, rewritten in place. Says nothing unless stderr is a terminal, or a step takes
// longer than a few seconds; then it says a line now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::cli {

class Progress {
 public:
  Progress();
  /// Ends the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::string_view what, std::uint64_t done, std::uint64_t total);
  void clear();

 private:
  const bool terminal_;
  std::chrono::steady_clock::time_point next_;
  bool shown_ = false;
};

/// "1.5 GiB"
std::string human_bytes(std::uint64_t bytes);

}  // namespace millrace::cli
