// CPU seconds that a process has used, all its threads together, from /proc.
#pragma once

#include <optional>

namespace millrace::load {

/// Nothing when there is no such process, or it may not be looked at. Exact where the kernel keeps schedstat, else in ticks.
std::optional<double> process_cpu_seconds(int pid);

/// The process of this machine that listens at a TCP port; 0 when there is none, or it may not be looked at.
int pid_listening_at(int port);

/// Of this process.
double own_cpu_seconds();

}  // namespace millrace::load
