#include "reactor/uring_refusal.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "base/units.hpp"
#include "reactor/host_text.hpp"

namespace millrace {

namespace {

constexpr unsigned capability_ipc_lock = 14, capability_sys_admin = 21;
constexpr int seccomp_none = 0, seccomp_filter = 2;

template <typename Number>
std::optional<Number> number_in(std::string_view text, int base = 10) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  Number value{};
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failed != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

/// What stands behind `name` in a line "name: value".
std::string_view line_of(std::string_view text, std::string_view name) {
  for (std::size_t at = 0; at < text.size();) {
    std::string_view line = text.substr(at, text.find('\n', at) - at);
    if (line.starts_with(name)) return line.substr(name.size());
    at += line.size() + 1;
  }
  return {};
}

bool in_group(std::int64_t group) {
  if (group < 0) return false;
  if (::getegid() == static_cast<gid_t>(group)) return true;
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  return std::find(groups.begin(), groups.begin() + std::max(count, 0), static_cast<gid_t>(group)) !=
         groups.begin() + std::max(count, 0);
}

std::string errno_name(int system_errno) {
  const char* name = ::strerrorname_np(system_errno);
  return name != nullptr ? name : std::to_string(system_errno);
}

constexpr const char* allow_all =
    "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile";

std::string why_denied(int system_errno, const UringStanding& standing) {
  const std::string name = errno_name(system_errno);
  const bool off = standing.disabled == 2;
  const bool reserved = standing.disabled == 1 && !standing.administrator && !standing.in_group;
  if (!off && !reserved) {
    if (standing.seccomp == seccomp_none)
      return "io_uring is denied by a security module (" + name +
             ", and no seccomp filter is installed); allow it in the policy of SELinux, AppArmor or whatever runs here";
    return "io_uring is denied by a security filter (" + name + ", " +
           (standing.seccomp == seccomp_filter ? "a seccomp filter is installed" : "seccomp or a security module") +
           "), as container runtimes install by default; " + allow_all;
  }
  std::string text =
      off ? "io_uring is switched off on this machine (" + name +
                ", sysctl kernel.io_uring_disabled is 2); switch it on with `sysctl -w kernel.io_uring_disabled=0`"
          : "io_uring is reserved for administrators (" + name + ", sysctl kernel.io_uring_disabled is 1" +
                (standing.root ? ", and this root lacks CAP_SYS_ADMIN" : "") + "); " +
                (standing.root ? "put it" : "run as root, put this user") +
                " into the group named by kernel.io_uring_group, or set kernel.io_uring_disabled=0";
  if (standing.denied_anyhow) text += std::string("; a seccomp filter denies it beside: ") + allow_all;
  return text;
}

std::string why_hidden(const UringStanding& standing) {
  if (standing.seccomp == seccomp_none) return "this kernel has no io_uring (ENOSYS); run on Linux 6.1 or newer";
  if (standing.seccomp == seccomp_filter && standing.disabled)
    return std::string("io_uring is hidden by a security filter (ENOSYS, a seccomp filter is installed); ") + allow_all;
  return std::string(
             "this kernel has no io_uring, or a security filter (seccomp) hides it (ENOSYS); run on Linux 6.1 or "
             "newer, and in a container ") +
         allow_all;
}

std::string why_no_memory(const UringStanding& standing) {
  if (!standing.memlock_bytes) return "the machine is out of memory; free some";
  return "the limit on locked memory, " + std::to_string(*standing.memlock_bytes / KiB) +
         " KiB, is used up; raise it with `ulimit -l` (LimitMEMLOCK= in a systemd unit)";
}

std::string cause_of(const MissingFeature& feature, int system_errno, const char* call, const UringStanding& standing) {
  const std::string too_old = std::string("this kernel lacks it; run on Linux ") + feature.since + " or newer";
  const std::string allow =
      std::string("a seccomp filter denies ") + call + "; allow it in the container's seccomp profile";
  switch (system_errno) {
    case EPERM:
    case EACCES:
      return standing.seccomp == seccomp_none ? std::string("a security module denies ") + call + "; allow it there"
                                              : allow;
    case ENOSYS: return standing.seccomp == seccomp_filter ? allow : too_old;
    case EINVAL:
    case EBADF:  // an opcode that was not known took the number for a descriptor
    case EOPNOTSUPP: return standing.seccomp == seccomp_filter ? too_old + ", or " + allow : too_old;
    case ENOMEM: return why_no_memory(standing);
    case EMFILE: return "the limit on open files is too low for the table; raise it with `ulimit -n`";
    default: return std::strerror(system_errno);
  }
}

}  // namespace

void read_status(std::string_view status, UringStanding& standing) {
  const auto capabilities = number_in<std::uint64_t>(line_of(status, "CapEff:"), 16).value_or(0);
  standing.administrator = (capabilities >> capability_sys_admin & 1) != 0;
  standing.seccomp = number_in<int>(line_of(status, "Seccomp:"));
  if ((capabilities >> capability_ipc_lock & 1) != 0) standing.memlock_bytes.reset();
}

UringStanding uring_standing() {
  UringStanding standing;
  standing.disabled = number_in<int>(read_host_text("/proc/sys/kernel/io_uring_disabled"));
  standing.in_group = in_group(number_in<std::int64_t>(read_host_text("/proc/sys/kernel/io_uring_group")).value_or(-1));
  standing.root = ::geteuid() == 0;
  rlimit memlock{};
  if (::getrlimit(RLIMIT_MEMLOCK, &memlock) == 0 && memlock.rlim_cur != RLIM_INFINITY)
    standing.memlock_bytes = memlock.rlim_cur;
  read_status(read_host_text("/proc/thread-self/status"), standing);
  // No ring has this descriptor: EBADF from the kernel itself, whatever the sysctl says.
  standing.denied_anyhow =
      ::syscall(SYS_io_uring_enter, -1, 0, 0, 0, nullptr, 0) < 0 && (errno == EPERM || errno == ENOSYS);
  return standing;
}

std::string why_refused(int system_errno, const UringStanding& standing) {
  switch (system_errno) {
    case EPERM:
    case EACCES: return why_denied(system_errno, standing);
    case ENOSYS: return why_hidden(standing);
    case EINVAL:
      return standing.seccomp == seccomp_filter
                 ? std::string(
                       "this kernel's io_uring is too old, or a security filter (seccomp) refuses it (EINVAL); "
                       "run on Linux 6.1 or newer, and in a container ") +
                       allow_all
                 : "this kernel's io_uring is too old (EINVAL); run on Linux 6.1 or newer";
    case ENOMEM: return "io_uring cannot set up its queues (ENOMEM): " + why_no_memory(standing);
    case EMFILE:
    case ENFILE:
      return "out of file descriptors (" + errno_name(system_errno) +
             "), so io_uring cannot be opened; raise the limit with `ulimit -n`";
    default: return "io_uring cannot be set up (" + errno_name(system_errno) + "): " + std::strerror(system_errno);
  }
}

std::string missing_line(const MissingFeature& feature, int system_errno, const char* call,
                         const UringStanding& standing) {
  std::string text = std::string(feature.name) + ": " + feature.instead;
  if (system_errno == 0) return text + " (not asked for)";
  return text + " (" + errno_name(system_errno) + ": " + cause_of(feature, system_errno, call, standing) + ")";
}

}  // namespace millrace
