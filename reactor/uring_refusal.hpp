// Why io_uring, or a part of it, is refused here: cause and cure for a person, from the errno and from who this process is.
//
// Any thread; what is asked of the system holds for the calling one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

/// What decides, beside the kernel's age, what this process may do with io_uring.
struct UringStanding {
  std::optional<int> disabled;                 // kernel.io_uring_disabled; none where the kernel has no such setting
  bool root = false;                           // user 0, whatever that may do here
  bool administrator = false;                  // CAP_SYS_ADMIN: who may although kernel.io_uring_disabled is 1
  bool in_group = false;                       // of kernel.io_uring_group, who may as well
  std::optional<int> seccomp;                  // mode: 0 none, 2 a filter; none where the kernel does not say
  bool denied_anyhow = false;                  // a call that no sysctl refuses is refused too: a filter's work
  std::optional<std::uint64_t> memlock_bytes;  // the limit on locked memory; none = does not count for this process
};

/// Asks the system.
UringStanding uring_standing();
/// Fills in what /proc/thread-self/status says, given its text.
void read_status(std::string_view status, UringStanding& standing);

/// io_uring as a whole: one sentence. `system_errno` is positive, here and below.
std::string why_refused(int system_errno, const UringStanding& standing);

/// A feature that is worked around: "NAME: what is done instead (ERRNO: cause; cure)".
struct MissingFeature {
  const char* name;
  const char* instead;
  const char* since;  // Linux version that has it
};
/// `call` is the system call that was refused. `system_errno` 0 = nobody asked for it.
std::string missing_line(const MissingFeature& feature, int system_errno, const char* call,
                         const UringStanding& standing);

}  // namespace millrace
