#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <system_error>
#include <thread>
#include <vector>

#include "base/units.hpp"
#include "cli/doctor_measured.hpp"
#include "reactor/kernel_choice.hpp"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void measure_kernel(HostMeasured& host) {
  auto kernel = make_kernel(KernelChoice::uring, host.uring_refusal);
  host.uring = kernel.has_value();
  if (!kernel) {
    std::string why;
    if (!make_kernel(KernelChoice::posix, why)) host.posix_refusal = why;
    return;
  }
  host.used = (*kernel)->features().used;
  host.missing = (*kernel)->features().missing;
}

void measure_limits(HostMeasured& host) {
  host.memlock_bytes = locked_memory_max();
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof(set), &set);
  host.cores = static_cast<unsigned>(CPU_COUNT(&set));
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  host.files_now = files.rlim_cur;
  host.files_max = files.rlim_max;
}

void measure_clock(HostMeasured& host) {
  host.clock_source = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  auto offset = [] { return std::chrono::system_clock::now().time_since_epoch() - Clock::now().time_since_epoch(); };
  auto before = offset();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  host.clock_moved_us = std::chrono::duration_cast<std::chrono::microseconds>(offset() - before).count();
}

/// Bytes a second through a loopback connection for half a second; 0, and why, when it cannot be made.
double loopback_rate(HostMeasured& host) {
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
  if (!connected) host.loopback_refusal = errno;
  if (connected) {
    int server = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    std::thread reader;
    try {
      reader = std::thread([server] {
        std::vector<char> buffer(256 * KiB);
        while (::recv(server, buffer.data(), buffer.size(), 0) > 0) {
        }
      });
    } catch (const std::system_error&) {
      host.loopback_no_thread = true;
    }
    std::vector<char> buffer(256 * KiB);
    std::uint64_t sent = 0;
    auto begin = Clock::now();
    while (reader.joinable() && Clock::now() - begin < std::chrono::milliseconds(500)) {
      ssize_t count = ::send(client, buffer.data(), buffer.size(), MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<std::uint64_t>(count);
    }
    ::shutdown(client, SHUT_RDWR);
    if (reader.joinable()) reader.join();
    rate = static_cast<double>(sent) / std::chrono::duration<double>(Clock::now() - begin).count();
    ::close(server);
  }
  if (client >= 0) ::close(client);
  if (listener >= 0) ::close(listener);
  return rate;
}

}  // namespace

HostMeasured measure_host(const DoctorProgress& progress) {
  HostMeasured host;
  progress("io_uring");
  measure_kernel(host);
  measure_limits(host);
  progress("clock");
  measure_clock(host);
  progress("loopback throughput");
  host.loopback_bytes_per_second = loopback_rate(host);
  return host;
}

}  // namespace millrace
