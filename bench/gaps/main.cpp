// What the machine takes away from a thread that only looks at the clock: how often two looks lie more than a millisecond apart on
// this CPU, and by how much. No turn of a server can be shorter than that.
//
//     millrace-gaps SECONDS        pin it: taskset -c 1 millrace-gaps 15
//
// One line of JSON: {"seconds", "over_1_ms", "longest_us", "gaps_by_length"}, the last in powers of two microseconds from 128 on.
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t counted_from_us = 100;
constexpr std::size_t powers = 24;

int watch(double seconds) {
  std::array<std::uint64_t, powers> counts{};
  std::uint64_t over = 0;
  std::int64_t longest = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (auto last = Clock::now(); last < end;) {
    const auto now = Clock::now();
    const std::int64_t gap = std::chrono::duration_cast<std::chrono::microseconds>(now - last).count();
    last = now;
    if (gap < counted_from_us) continue;
    ++counts[std::bit_width(static_cast<std::uint64_t>(gap))];
    over += gap > 1000;
    longest = gap > longest ? gap : longest;
    last = Clock::now();
  }
  std::printf(R"({"seconds": %g, "over_1_ms": %llu, "longest_us": %lld, "gaps_by_length": {)", seconds,
              static_cast<unsigned long long>(over), static_cast<long long>(longest));
  const char* between = "";
  for (std::size_t power = 0; power < powers; ++power) {
    if (counts[power] == 0) continue;
    std::printf(R"(%s"<%llu": %llu)", between, 1ull << power, static_cast<unsigned long long>(counts[power]));
    between = ", ";
  }
  std::puts("}}");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc == 2 ? std::atof(argv[1]) : 0;
  if (seconds > 0) return watch(seconds);
  std::fputs("usage: millrace-gaps SECONDS, such as: taskset -c 1 millrace-gaps 15\n",
             argc == 2 && argv[1][0] == '-' ? stdout : stderr);
  return 2;
}
