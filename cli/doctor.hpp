// `millrace doctor`: what this machine gives a log server, measured in under 15 s, each finding with cause and cure. It asks
// the system directly, beside the kernel seam, and writes only below the directory named.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cli/doctor_measured.hpp"
#include "cli/verb.hpp"

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

/// Pure: what the numbers mean.
void judge_host(const HostMeasured& host, DoctorRows& rows);
void judge_disk(const DiskMeasured& disk, DoctorRows& rows);

std::string doctor_text(const DoctorRows& rows);
std::string doctor_json(const DoctorRows& rows);

namespace cli {
/// Prints the rows to stdout, progress to stderr. Exit code 1 when something is broken, 2 when the directory cannot be used.
std::unique_ptr<Verb> doctor_verb();
}  // namespace cli

}  // namespace millrace
