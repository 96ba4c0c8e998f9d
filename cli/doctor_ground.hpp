// What a directory's bytes rest on: its mount, the disk below it, and memory that only looks like one.
#pragma once

#include <string>

namespace millrace {

struct Mount {
  std::string point, type, options;
  std::string device;  // "major:minor"
  std::string source;  // what was mounted, such as /dev/sda1
};

struct Ground {
  Mount mount;
  std::string
      device;  // its directory in /sys, of the whole disk or of the part; empty when there is none (tmpfs, network)
  std::string memory;  // what of it is memory, as a person would name it; empty = nothing that can be seen
};

/// From /proc/self/mountinfo and /sys. `path` is absolute and has no links in it.
Ground ground_of(const std::string& path);

/// What the device, or the disk it is a part of, says of itself in the file `name`; empty when it says nothing.
std::string device_says(const Ground& ground, const std::string& name);
/// "nvme0n1"; empty when there is no device.
std::string disk_name(const Ground& ground);

}  // namespace millrace
