// What `millrace doctor` measures, as plain data: the numbers of this machine without a word about what they mean.
// doctor_host and doctor_disk fill it in; doctor_judge turns it into rows.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace millrace {

/// One 4 KiB write after the other.
struct WriteSpeed {
  double per_second = 0;  // 0 = none succeeded
  double p50_us = 0;
  double p99_us = 0;
  int refusal = 0;  // errno of the write that ended it before its time; 0 = none
};

struct HostMeasured {
  bool uring = false;
  std::string uring_refusal;  // cause and cure, when there is no io_uring
  std::string posix_refusal;  // the same for what is used instead; empty = it works, or was not needed
  std::vector<std::string> used, missing;
  std::optional<std::uint64_t> memlock_bytes;  // none = unlimited
  unsigned cores = 0;
  std::uint64_t files_now = 0, files_max = 0;
  std::string clock_source;
  std::int64_t clock_moved_us = 0;  // wall clock against the monotonic one while we looked
  double loopback_bytes_per_second = 0;
  int loopback_refusal = 0;         // errno of what was refused, when there is no rate
  bool loopback_no_thread = false;  // no thread could be started to receive
};

struct DiskMeasured {
  std::string mount_point, filesystem, mount_options;
  std::optional<std::uint64_t> free_bytes, free_inodes;  // none = the filesystem does not count them
  int file_refusal = 0;                                  // errno of making a file; 0 = it was made
  bool direct = false;
  unsigned direct_alignment = 0;  // bytes; 0 = the system does not say
  int allocate_refusal = 0;       // errno of fallocate; 0 = it works
  WriteSpeed plain, durable;      // into zeroed space
  WriteSpeed allocated;           // durable, into space that was only allocated
  std::string memory;       // what below is memory: "tmpfs at /tmp", "the image /a on tmpfs at /"; empty = nothing seen
  std::string name;         // of the disk, such as nvme0n1; empty = no disk is known
  std::string write_cache;  // "write back", "write through"; empty = the system does not say
  bool durable_writes = false;    // the device has them (FUA); else a durable write is a write, then a flush
  bool rotates = false;           // says the system; most virtual disks say so as well
  std::string vendor, model;      // of the device, as it says; empty for virtio and for what is no device
  double fill_mb_per_second = 0;  // 1 MiB writes
  int fill_refusal = 0;           // errno of the one that failed; 0 = none
  std::string interrupt_core;     // empty = not shown
};

/// Told before each measurement: the progress line.
using DoctorProgress = std::function<void(const std::string& step)>;

/// io_uring, locked memory, cores, clock, open files, loopback.
HostMeasured measure_host(const DoctorProgress& progress);
/// Filesystem, direct I/O, space, flushes, prepared writes, throughput, the disk's interrupt. Writes one file of at most half
/// the free space below `directory`, and removes it; what was not tried for want of space has the refusal ENOSPC.
DiskMeasured measure_disk(const std::string& directory, const DoctorProgress& progress);

}  // namespace millrace
