// `millrace doctor`: what this machine gives a log server, measured in under 15 s, each finding with cause and cure.
// Startup-tool code: it asks the system directly, beside the kernel seam. It writes only one file below the directory named,
// and removes it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace millrace {

enum class Finding : std::uint8_t {
  ok,
  costs,   // works, but slower or with less room than it could
  broken,  // promises cannot be kept here, or the server cannot start
};

struct DoctorRow {
  std::string check;  // what was looked at, a few words
  Finding finding = Finding::ok;
  std::string found;   // what was found, with units
  std::string advice;  // cause and cure in one sentence; empty when ok
};

using DoctorRows = std::vector<DoctorRow>;
/// Told before each measurement: the progress line.
using DoctorProgress = std::function<void(const std::string& step)>;

/// io_uring, locked memory, cores, clock, open files, loopback.
void examine_host(DoctorRows& rows, const DoctorProgress& progress);
/// Filesystem, direct I/O, space, flushes, prepared writes, throughput, the disk's interrupt, below `directory`.
void examine_disk(const std::string& directory, DoctorRows& rows, const DoctorProgress& progress);

struct DoctorOptions {
  std::string directory = ".";
  bool json = false;
};

/// Prints the rows to stdout, progress to stderr. Exit code 1 when something is broken, 2 when the directory cannot be used.
int run_doctor(const DoctorOptions& options);

}  // namespace millrace
