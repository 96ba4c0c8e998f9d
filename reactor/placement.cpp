#include "reactor/placement.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "reactor/host_text.hpp"

namespace millrace {

namespace {

using FileFields = struct stat;

constexpr unsigned core_max = CPU_SETSIZE - 1;

std::optional<unsigned> parse_core(std::string_view text) {
  unsigned core = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), core);
  if (failed != std::errc{} || end != text.data() + text.size() || core > core_max) return std::nullopt;
  return core;
}

std::string_view next_word(std::string_view& line) {
  std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    line = {};
    return {};
  }
  std::size_t end = std::min(line.find_first_of(" \t", begin), line.size());
  std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

std::string_view next_line(std::string_view& text) {
  std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// /sys/dev/block/253:1 leads to .../virtio1/block/vda/vda1 or .../nvme/nvme0/nvme0n1: the part that interrupts carry.
std::string interrupt_name(std::string_view device_path) {
  while (!device_path.empty()) {
    std::size_t end = std::min(device_path.find('/'), device_path.size());
    std::string_view part = device_path.substr(0, end);
    device_path.remove_prefix(std::min(end + 1, device_path.size()));
    if (part.size() > 6 && part.starts_with("virtio")) return std::string(part) + "-req";
    if (part.size() > 4 && part.starts_with("nvme") && part[4] >= '0' && part[4] <= '9') return std::string(part) + "q";
  }
  return {};
}

}  // namespace

std::optional<std::vector<unsigned>> parse_cores(std::string_view text) {
  std::vector<unsigned> cores;
  auto add = [&cores](unsigned core) {
    if (std::find(cores.begin(), cores.end(), core) == cores.end()) cores.push_back(core);
  };
  for (bool more = true; more;) {
    std::size_t comma = text.find(',');
    more = comma != std::string_view::npos;
    std::string_view part = text.substr(0, comma);
    if (more) text.remove_prefix(comma + 1);
    std::size_t dash = part.find('-');
    auto first = parse_core(part.substr(0, dash));
    auto last = dash == std::string_view::npos ? first : parse_core(part.substr(dash + 1));
    if (!first || !last || *first > *last) return std::nullopt;
    for (unsigned core = *first; core <= *last; ++core) add(core);
  }
  return cores;
}

std::vector<unsigned> allowed_cores() {
  std::vector<unsigned> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (unsigned core = 0; core <= core_max; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

Result<> pin_this_thread(unsigned core) {
  if (core > core_max) return fail(Error::invalid_argument);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) != 0) return fail(Error::invalid_argument);
  return {};
}

void let_disk_threads_first() {
  // sched_attr of Linux 4.13, newer than Debian 12's glibc knows.
  struct {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
  } attributes{};
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0 || attributes.policy != SCHED_OTHER)
    return;
  // A thread that asks for a longer slice than the one that wakes gives way to it at once.
  constexpr std::uint64_t slice_longest = 100'000'000;
  attributes.runtime = slice_longest;
  attributes.flags = 0;
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &attributes, 0));
}

std::optional<unsigned> busiest_core(std::string_view interrupts, std::string_view device) {
  // The first line names the cores that are online; each further line holds a count for each, then words.
  std::string_view header = next_line(interrupts);
  std::vector<unsigned> cores;
  for (std::string_view word = next_word(header); !word.empty(); word = next_word(header)) {
    auto core = word.starts_with("CPU") ? parse_core(word.substr(3)) : std::nullopt;
    if (!core) return std::nullopt;
    cores.push_back(*core);
  }
  std::vector<std::uint64_t> counts(cores.size(), 0);
  while (!interrupts.empty()) {
    std::string_view line = next_line(interrupts);
    std::string_view name = line.substr(std::min(line.find_last_of(" \t") + 1, line.size()));
    if (device.empty() || !name.starts_with(device)) continue;
    next_word(line);
    for (std::uint64_t& count : counts) {
      std::string_view word = next_word(line);
      std::uint64_t value = 0;
      std::from_chars(word.data(), word.data() + word.size(), value);
      count += value;
    }
  }
  auto most = std::max_element(counts.begin(), counts.end());
  if (most == counts.end() || *most == 0) return std::nullopt;
  return cores[static_cast<std::size_t>(most - counts.begin())];
}

std::optional<unsigned> disk_interrupt_core(const std::string& directory) {
  FileFields found{};
  if (::stat(directory.c_str(), &found) != 0) return std::nullopt;
  std::string link =
      "/sys/dev/block/" + std::to_string(major(found.st_dev)) + ":" + std::to_string(minor(found.st_dev));
  std::array<char, 1024> path;
  ssize_t length = ::readlink(link.c_str(), path.data(), path.size());
  if (length <= 0) return std::nullopt;
  std::string device = interrupt_name({path.data(), static_cast<std::size_t>(length)});
  if (device.empty()) return std::nullopt;
  return busiest_core(read_host_text("/proc/interrupts"), device);
}

}  // namespace millrace
