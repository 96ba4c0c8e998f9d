// Small files of /proc and /sys, read whole: what the machine says of itself, asked at start and by doctor.
#pragma once

#include <string>

namespace millrace {

/// The file's text; empty when there is none, or it may not be read.
std::string read_host_text(const char* path);

}  // namespace millrace
