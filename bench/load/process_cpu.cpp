#include "bench/load/process_cpu.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace millrace::load {

namespace {

/// utime and stime of /proc/PID/stat: the whole process, ended threads included.
std::optional<double> from_stat(const std::string& directory) {
  std::ifstream file(directory + "/stat");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  // The name in brackets may hold anything: fields are counted behind it.
  const std::size_t behind_name = text.rfind(')');
  if (behind_name == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(behind_name + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  if (!(fields >> user >> system)) return std::nullopt;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

/// Nanoseconds on a CPU, of the threads that live.
std::optional<double> from_schedstat(const std::string& directory) {
  std::error_code error;
  double nanoseconds = 0;
  for (std::filesystem::directory_iterator task(directory + "/task", error), end; !error && task != end;
       task.increment(error)) {
    std::ifstream file(task->path() / "schedstat");
    double on_cpu = 0;
    if (!(file >> on_cpu)) return std::nullopt;
    nanoseconds += on_cpu;
  }
  if (error || nanoseconds == 0) return std::nullopt;
  return nanoseconds / 1e9;
}

int number_in(std::string_view text, int base) {
  int number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number, base);
  return number;
}

/// The inode of the socket that listens at `port`, from a table of /proc/net; empty when there is none.
std::string listening_inode(const char* table, int port) {
  std::ifstream file(table);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
    fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
    const std::size_t colon = local.rfind(':');
    if (state != "0A" || colon == std::string::npos) continue;
    if (number_in(std::string_view(local).substr(colon + 1), 16) == port) return inode;
  }
  return "";
}

}  // namespace

std::optional<double> process_cpu_seconds(int pid) {
  const std::string directory = "/proc/" + std::to_string(pid);
  if (const auto exact = from_schedstat(directory)) return exact;
  return from_stat(directory);
}

int pid_listening_at(int port) {
  std::string inode;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const std::string found = listening_inode(table, port);
    if (!found.empty()) inode = found;
  }
  if (inode.empty()) return 0;
  const std::string wanted = "socket:[" + inode + "]";
  std::error_code error;
  for (std::filesystem::directory_iterator process("/proc", error), end; !error && process != end;
       process.increment(error)) {
    const std::string name = process->path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code hidden;
    for (std::filesystem::directory_iterator fd(process->path() / "fd", hidden), last; !hidden && fd != last;
         fd.increment(hidden)) {
      std::error_code gone;
      if (std::filesystem::read_symlink(fd->path(), gone) == wanted) return number_in(name, 10);
    }
  }
  return 0;
}

double own_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace millrace::load
