#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace millrace::cli {

namespace {

constexpr std::chrono::milliseconds terminal_interval{100};
constexpr std::chrono::seconds plain_interval{5};

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {
  next_ = std::chrono::steady_clock::now() + (terminal_ ? std::chrono::milliseconds(300) : plain_interval);
}

Progress::~Progress() { clear(); }

void Progress::show(std::string_view what, std::uint64_t done, std::uint64_t total) {
  auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + (terminal_ ? std::chrono::milliseconds(terminal_interval) : plain_interval);
  std::string text = fmt::format("{}: {} of {}", what, human_bytes(done), human_bytes(total));
  std::fprintf(stderr, terminal_ ? "\r\x1b[K%s" : "%s\n", text.c_str());
  std::fflush(stderr);
  shown_ = terminal_;
}

void Progress::clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  shown_ = false;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    unit++;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace millrace::cli
