#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>
#include <vector>

#include "cli/doctor.hpp"
#include "reactor/uring_kernel.hpp"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t memlock_wanted = 64 * MiB;
constexpr rlim_t files_wanted = 16'384;
constexpr double loopback_wanted = 500e6;  // bytes/s

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void examine_io_uring(DoctorRows& rows) {
  std::string why;
  auto kernel = UringKernel::create({}, why);
  if (!kernel) {
    rows.push_back({"io_uring", Finding::costs, "refused; epoll and file threads are used instead", why});
    return;
  }
  const KernelFeatures& features = (*kernel)->features();
  rows.push_back({"io_uring", features.missing.empty() ? Finding::ok : Finding::costs, join(features.used, ", "),
                  features.missing.empty() ? "" : "missing here, worked around: " + join(features.missing, "; ")});
}

void examine_memlock(DoctorRows& rows) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  bool free_of_it = ::geteuid() == 0 || limit.rlim_cur == RLIM_INFINITY;
  std::string found = free_of_it ? "unlimited for this user" : fmt::format("{} KiB", limit.rlim_cur / KiB);
  bool little = !free_of_it && limit.rlim_cur < memlock_wanted;
  rows.push_back(
      {"locked memory", little ? Finding::costs : Finding::ok, found,
       little ? "less than 64 MiB can be registered, so large writes pin their pages each time (about 20 µs of CPU a "
                "MiB); raise it with ulimit -l or LimitMEMLOCK=infinity in the unit"
              : ""});
}

void examine_cores(DoctorRows& rows) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof(set), &set);
  int count = CPU_COUNT(&set);
  rows.push_back(
      {"cores", count < 2 ? Finding::costs : Finding::ok, std::to_string(count),
       count < 2 ? "one core serves the shard, its disk interrupts and its clients; give it a second one" : ""});
}

void examine_files(DoctorRows& rows) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  bool few = limit.rlim_cur < files_wanted;
  rows.push_back(
      {"open files", few ? Finding::costs : Finding::ok, fmt::format("{} ({} at most)", limit.rlim_cur, limit.rlim_max),
       few ? "connections and segments are limited to it; raise it with ulimit -n or LimitNOFILE=65536 in the unit"
           : ""});
}

void examine_clock(DoctorRows& rows) {
  std::string source = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  auto offset = [] { return std::chrono::system_clock::now().time_since_epoch() - Clock::now().time_since_epoch(); };
  auto before = offset();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  auto moved = std::chrono::duration_cast<std::chrono::microseconds>(offset() - before).count();
  bool slow = source == "hpet" || source == "acpi_pm" || source == "jiffies";
  bool steps = moved > 5000 || moved < -5000;
  std::string advice;
  if (slow) advice = "every look at the clock is a slow device access; boot with a better clocksource (tsc, kvm-clock)";
  if (steps) advice = "the wall clock was stepped while we looked; let chrony or ntpd slew it instead of stepping";
  rows.push_back({"clock", slow || steps ? Finding::costs : Finding::ok,
                  fmt::format("{}, wall clock moved {} µs against the monotonic one in 0.3 s",
                              source.empty() ? "unknown source" : source, moved),
                  advice});
}

/// Bytes a second through a loopback connection for half a second; 0 when it cannot be made.
double loopback_rate() {
  int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(at);
  bool listens = listener >= 0 && ::bind(listener, reinterpret_cast<sockaddr*>(&at), length) == 0 &&
                 ::listen(listener, 1) == 0 && ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length) == 0;
  int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool connected = listens && ::connect(client, reinterpret_cast<sockaddr*>(&at), length) == 0;
  double rate = 0;
  if (connected) {
    int server = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    std::thread reader([server] {
      std::vector<char> buffer(256 * KiB);
      while (::recv(server, buffer.data(), buffer.size(), 0) > 0) {
      }
    });
    std::vector<char> buffer(256 * KiB);
    std::uint64_t sent = 0;
    auto begin = Clock::now();
    while (Clock::now() - begin < std::chrono::milliseconds(500)) {
      ssize_t count = ::send(client, buffer.data(), buffer.size(), MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<std::uint64_t>(count);
    }
    ::shutdown(client, SHUT_RDWR);
    reader.join();
    rate = static_cast<double>(sent) / std::chrono::duration<double>(Clock::now() - begin).count();
    ::close(server);
  }
  if (client >= 0) ::close(client);
  if (listener >= 0) ::close(listener);
  return rate;
}

void examine_loopback(DoctorRows& rows) {
  double rate = loopback_rate();
  DoctorRow row{"loopback", Finding::ok, fmt::format("{:.0f} MB/s over one connection", rate / 1e6), ""};
  if (rate == 0)
    row = {"loopback", Finding::broken, "no connection to 127.0.0.1",
           "the loopback interface is down or filtered; bring it up with: ip link set lo up"};
  else if (rate < loopback_wanted)
    row.finding = Finding::costs,
    row.advice = "local clients cannot send faster than this; the machine is busy or emulated";
  rows.push_back(row);
}

}  // namespace

void examine_host(DoctorRows& rows, const DoctorProgress& progress) {
  progress("io_uring");
  examine_io_uring(rows);
  examine_memlock(rows);
  examine_cores(rows);
  examine_files(rows);
  progress("clock");
  examine_clock(rows);
  progress("loopback throughput");
  examine_loopback(rows);
}

}  // namespace millrace
