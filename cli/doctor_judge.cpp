// What the doctor's numbers mean: pure.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/units.hpp"
#include "cli/doctor.hpp"
#include "server/file_plan.hpp"

namespace millrace {

namespace {

constexpr std::uint64_t memlock_wanted = 64 * MiB;
constexpr std::uint64_t files_wanted = 16'384;
constexpr double loopback_wanted = 500e6;  // bytes/s
constexpr std::int64_t clock_step_us = 5000;
constexpr std::uint64_t space_needed = 256 * MiB;
constexpr std::uint64_t space_wanted = 1 * GiB;
constexpr std::uint64_t inodes_needed = 16;
constexpr std::uint64_t inodes_wanted = 1000;
constexpr double slow_disk_mb = 50;
// No flash and no controller's cache answers one request faster through a filesystem; memory does.
constexpr double fastest_disk_us = 8;
// A flush that takes less is none: its request alone takes as long.
constexpr double fastest_flush_us = 5;
constexpr double fast_disk_us = 200;

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

const char* finding_name(Finding finding) {
  switch (finding) {
    case Finding::ok: return "ok";
    case Finding::costs: return "costs you";
    case Finding::broken: return "broken";
  }
  return "?";
}

void judge_io_uring(const HostMeasured& host, DoctorRows& rows) {
  if (!host.uring && !host.posix_refusal.empty()) {
    rows.push_back({"io_uring", Finding::broken,
                    "refused, and what is used instead is as well: the server does not start", host.posix_refusal});
    return;
  }
  if (!host.uring) {
    rows.push_back({"io_uring", Finding::costs,
                    "refused; epoll and file threads are used instead, two hand-overs between threads a disk operation",
                    host.uring_refusal});
    return;
  }
  bool all = host.missing.empty();
  rows.push_back({"io_uring", all ? Finding::ok : Finding::costs, join(host.used, ", "),
                  all ? "" : "missing here, worked around: " + join(host.missing, "; ")});
}

void judge_limits(const HostMeasured& host, DoctorRows& rows) {
  bool little = host.memlock_bytes && *host.memlock_bytes < memlock_wanted;
  rows.push_back(
      {"locked memory", little ? Finding::costs : Finding::ok,
       host.memlock_bytes ? fmt::format("{} KiB", *host.memlock_bytes / KiB) : "unlimited for this user",
       little ? "less than 64 MiB can be registered, so large writes pin their pages each time (about 20 µs of CPU a "
                "MiB); raise it with ulimit -l or LimitMEMLOCK=infinity in the unit"
              : ""});
  rows.push_back(
      {"cores", host.cores < 2 ? Finding::costs : Finding::ok, std::to_string(host.cores),
       host.cores < 2 ? "one core serves the shard, its disk interrupts and its clients; give it a second one" : ""});
  // The server raises its own limit up to there; below what a single shard needs it does not start.
  const std::string too_few = files_complaint(host.files_max, 1, 1);
  bool few = host.files_max < files_wanted;
  if (!too_few.empty()) {
    rows.push_back({"open files", Finding::broken, fmt::format("{} ({} at most)", host.files_now, host.files_max),
                    "a server does not start: " + too_few});
    return;
  }
  rows.push_back(
      {"open files", few ? Finding::costs : Finding::ok, fmt::format("{} ({} at most)", host.files_now, host.files_max),
       few ? "connections and segments are limited to it; raise it with ulimit -Hn or LimitNOFILE=65536 in the unit"
           : ""});
}

void judge_clock(const HostMeasured& host, DoctorRows& rows) {
  bool slow = host.clock_source == "hpet" || host.clock_source == "acpi_pm" || host.clock_source == "jiffies";
  bool steps = host.clock_moved_us > clock_step_us || host.clock_moved_us < -clock_step_us;
  std::string advice;
  if (slow) advice = "every look at the clock is a slow device access; boot with a better clocksource (tsc, kvm-clock)";
  if (steps) advice = "the wall clock was stepped while we looked; let chrony or ntpd slew it instead of stepping";
  rows.push_back({"clock", slow || steps ? Finding::costs : Finding::ok,
                  fmt::format("{}, wall clock moved {} µs against the monotonic one in 0.3 s",
                              host.clock_source.empty() ? "unknown source" : host.clock_source, host.clock_moved_us),
                  advice});
}

void judge_loopback(const HostMeasured& host, DoctorRows& rows) {
  double rate = host.loopback_bytes_per_second;
  if (host.loopback_no_thread) {
    rows.push_back(
        {"loopback", Finding::broken, "not measured: no second thread can be started",
         "the limit on processes and threads is reached, and the server needs some as well; raise it (ulimit "
         "-u, TasksMax= in a systemd unit, a container's pids limit)"});
    return;
  }
  if (rate == 0) {
    const bool files = host.loopback_refusal == EMFILE || host.loopback_refusal == ENFILE;
    const bool denied = host.loopback_refusal == EPERM || host.loopback_refusal == EACCES;
    rows.push_back({"loopback", Finding::broken,
                    fmt::format("no connection to 127.0.0.1: {}", std::strerror(host.loopback_refusal)),
                    files    ? "out of file descriptors; raise the limit with ulimit -n"
                    : denied ? "sockets are denied to this process by a security filter or a firewall; allow them"
                             : "the loopback interface is down or filtered; bring it up with: ip link set lo up"});
    return;
  }
  bool slow = rate < loopback_wanted;
  rows.push_back({"loopback", slow ? Finding::costs : Finding::ok,
                  fmt::format("{:.0f} MB/s over one connection", rate / 1e6),
                  slow ? "local clients cannot send faster than this; the machine is busy or emulated" : ""});
}

bool has_option(const DiskMeasured& disk, const std::string& option) {
  return ("," + disk.mount_options + ",").find("," + option + ",") != std::string::npos;
}

void judge_mount(const DiskMeasured& disk, DoctorRows& rows) {
  const std::string& type = disk.filesystem;
  DoctorRow row{"filesystem", Finding::ok, fmt::format("{} at {} ({})", type, disk.mount_point, disk.mount_options),
                ""};
  auto find = [&row](Finding finding, std::string advice) {
    row.finding = finding;
    row.advice = std::move(advice);
  };
  if (has_option(disk, "ro")) {
    find(Finding::broken, "it is mounted read-only; remount it with: mount -o remount,rw " + disk.mount_point);
  } else if (type == "tmpfs" || type == "ramfs") {
    find(Finding::broken, "it lives in memory and is gone at the next boot; put the data on a disk");
  } else if (has_option(disk, "nobarrier") || has_option(disk, "barrier=0")) {
    find(Finding::broken,
         "flushes are switched off by a mount option, so a power cut loses acknowledged records; mount without it");
  } else if (type.starts_with("nfs") || type == "cifs" || type.starts_with("fuse")) {
    find(Finding::costs, "every commit waits for another program or machine; use a local disk");
  } else if (type == "overlay") {
    find(Finding::costs, "the records live as long as the container; mount a volume of a real filesystem there");
  } else if (type == "btrfs") {
    find(Finding::costs, "copy-on-write turns each write of a prepared segment into an allocation; use ext4 or XFS");
  } else if (has_option(disk, "discard")) {
    find(Finding::costs,
         "deleting a large file stalls commits for tens of ms; mount without discard and run fstrim instead (expired "
         "segments are reused here, so it is rare)");
  }
  rows.push_back(row);
}

std::string format_space(std::uint64_t bytes) {
  if (bytes < GiB / 10) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / static_cast<double>(MiB));
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(GiB));
}

/// A full disk and a full quota need the same cure.
bool no_space(int refusal) { return refusal == ENOSPC || refusal == EDQUOT; }

/// What could not be measured is nobody's "ok".
DoctorRow unmeasured(const char* check, int refusal) {
  if (no_space(refusal))
    return {check, Finding::broken, "not measured: no space left",
            "free 128 MiB there, or raise the quota, and run this again"};
  return {check, Finding::broken, fmt::format("not measured: a write failed: {}", std::strerror(refusal)),
          "look at the kernel's log for errors of the device"};
}

void judge_space(const DiskMeasured& disk, DoctorRows& rows) {
  DoctorRow row{
      "free space", Finding::ok,
      fmt::format("{}, {} inodes", disk.free_bytes ? format_space(*disk.free_bytes) : "as much as there is memory",
                  disk.free_inodes ? std::to_string(*disk.free_inodes) : "unlimited"),
      ""};
  std::uint64_t inodes = disk.free_inodes.value_or(inodes_wanted), bytes = disk.free_bytes.value_or(space_wanted);
  if (bytes < space_needed || inodes < inodes_needed) {
    row.finding = Finding::broken;
    row.advice =
        inodes < inodes_needed ? "no space for files: the inodes are used up; remove files or use another filesystem"
        : bytes < MiB          ? "no space left: appends are refused with no_space; free some or use another disk"
                      : "no space for even two segments of 128 MiB; free space or pass a smaller --segment-bytes";
  } else if (bytes < space_wanted || inodes < inodes_wanted) {
    row.finding = Finding::costs;
    row.advice = "appends will soon be refused with no_space; free space, or let --retain-bytes keep it bounded";
  }
  rows.push_back(row);
}

bool is_virtual(const DiskMeasured& disk) {
  return std::ranges::any_of(std::array{"QEMU", "VBOX", "VMware", "Virtual", "Amazon", "nvme_card", "Microsoft"},
                             [&disk](const char* word) { return disk.model.find(word) != std::string::npos; });
}

/// A disk that really turns. What is behind virtio, a hypervisor's SCSI or a RAID controller calls itself rotating too.
bool spins(const DiskMeasured& disk) { return disk.rotates && disk.vendor == "ATA" && !is_virtual(disk); }

/// A drive that may have capacitors: its cache survives a power cut, so a durable write costs it nothing.
bool may_be_protected(const DiskMeasured& disk) {
  return disk.name.starts_with("nvme") && disk.durable_writes && !is_virtual(disk);
}

/// What the fastest disk there is needs, by how often it is asked. An image is written, its file is, and that is flushed; a
/// device with a volatile cache and no durable writes of its own is written and flushed.
double fastest_possible_us(const DiskMeasured& disk) {
  if (disk.name.starts_with("loop")) return 3 * fastest_disk_us;
  return disk.write_cache == "write back" && !disk.durable_writes ? 2 * fastest_disk_us : fastest_disk_us;
}

void judge_flush(const DiskMeasured& disk, DoctorRows& rows) {
  const WriteSpeed& durable = disk.durable;
  if (durable.per_second == 0) {
    rows.push_back(unmeasured("flushes", durable.refusal));
    return;
  }
  const double extra = durable.p50_us - disk.plain.p50_us;
  const bool free_of_cost =
      disk.write_cache == "write back" && extra < fastest_flush_us && durable.p50_us < fast_disk_us;
  DoctorRow row{
      "flushes", Finding::ok,
      fmt::format("{:.0f} durable 4 KiB writes/s, p50 {:.0f} µs, p99 {:.0f} µs; plain p50 {:.0f} µs; device cache: {}",
                  durable.per_second, durable.p50_us, durable.p99_us, disk.plain.p50_us,
                  disk.write_cache.empty() ? "unknown" : disk.write_cache),
      ""};
  auto find = [&row](Finding finding, std::string advice) {
    row.finding = finding;
    row.advice = std::move(advice);
  };
  if (!disk.memory.empty()) {
    find(Finding::broken, "a flush reaches no disk: below is memory (" + disk.memory +
                              "), gone with the machine's power; put the data on a real disk");
  } else if (durable.p50_us < fastest_possible_us(disk)) {
    find(Finding::broken,
         "no disk can sync this fast: it is memory, or a cache below lies about flushing; put the data on a real disk, "
         "or set the cache to write through or none");
  } else if (free_of_cost && may_be_protected(disk)) {
    row.found += "; so fast only with power-loss protection, which its data sheet should name";
  } else if (free_of_cost) {
    find(Finding::broken,
         "a flush costs nothing on a device with a volatile cache: something below lies about flushing (a virtual disk "
         "with cache=unsafe?); set it to write through or none");
  } else if (spins(disk) && durable.p50_us < 1000 && extra < 100) {
    find(Finding::broken,
         "no spinning disk can sync this fast: a cache below lies about flushing; switch it off (hdparm -W0) or give "
         "it a battery");
  } else if (durable.p50_us >= 3500 && durable.p50_us <= 4500) {
    find(Finding::costs,
         "commits sit at one tick (4 ms): most likely a thread that never sleeps runs on the core of the disk's "
         "interrupt; move it with taskset");
  } else if (durable.p50_us > (spins(disk) ? 10'000 : 4500)) {
    find(Finding::costs,
         "every commit waits this long for the device, or for a core that others keep busy; a disk with power-loss "
         "protection is a hundred times faster");
  }
  rows.push_back(row);
}

void judge_prepared(const DiskMeasured& disk, DoctorRows& rows) {
  if (disk.allocate_refusal == EOPNOTSUPP || disk.allocate_refusal == ENOSYS) {
    rows.push_back({"preallocation", Finding::costs, "fallocate is not supported",
                    "segments are filled with zeros from the start instead; use ext4 or XFS"});
    return;
  }
  if (disk.allocate_refusal != 0 || disk.allocated.per_second == 0 || disk.durable.per_second == 0) {
    int refusal = disk.allocate_refusal != 0    ? disk.allocate_refusal
                  : disk.allocated.refusal != 0 ? disk.allocated.refusal
                                                : disk.durable.refusal;
    rows.push_back(unmeasured("prepared segments", refusal));
    return;
  }
  double ratio = disk.allocated.p50_us / disk.durable.p50_us;
  if (ratio < 0.5) {
    rows.push_back({"prepared segments", Finding::costs,
                    fmt::format("a durable write takes {:.0f} µs into zeroed space, {:.0f} µs into allocated space",
                                disk.durable.p50_us, disk.allocated.p50_us),
                    "zeroed space is not slower by itself: something else used the disk or the core, or the disk is an "
                    "image on another one; measure again when it is quiet"});
    return;
  }
  rows.push_back({"prepared segments", Finding::ok,
                  fmt::format("a durable write takes {:.0f} µs into zeroed space, {:.0f} µs into allocated space "
                              "({:.1f} ×): zeroing ahead {}",
                              disk.durable.p50_us, disk.allocated.p50_us, ratio,
                              ratio > 1.1 ? "pays" : "is not needed here, and does no harm"),
                  ""});
}

void judge_throughput(const DiskMeasured& disk, DoctorRows& rows) {
  if (disk.fill_refusal != 0) {
    rows.push_back(unmeasured("disk throughput", disk.fill_refusal));
    return;
  }
  bool slow = disk.fill_mb_per_second < slow_disk_mb;
  rows.push_back({"disk throughput", slow ? Finding::costs : Finding::ok,
                  fmt::format("{:.0f} MB/s in 1 MiB writes", disk.fill_mb_per_second),
                  slow ? "appends cannot be faster than this for long; use a faster disk" : ""});
}

}  // namespace

void judge_host(const HostMeasured& host, DoctorRows& rows) {
  judge_io_uring(host, rows);
  judge_limits(host, rows);
  judge_clock(host, rows);
  judge_loopback(host, rows);
}

void judge_disk(const DiskMeasured& disk, DoctorRows& rows) {
  judge_mount(disk, rows);
  judge_space(disk, rows);
  if (disk.file_refusal != 0) {
    const char* cure = no_space(disk.file_refusal)
                           ? "free space and inodes there, or raise the quota, and run this again"
                       : disk.file_refusal == EROFS ? "mount it for writing, as said above, and run this again"
                                                    : "give this user a directory it can write to";
    rows.push_back({"direct I/O", Finding::broken,
                    fmt::format("not tried: cannot make a file: {}", std::strerror(disk.file_refusal)), cure});
    return;
  }
  std::string alignment =
      disk.direct_alignment != 0 ? fmt::format("; the system asks for {} bytes", disk.direct_alignment) : "";
  rows.push_back({"direct I/O", disk.direct ? Finding::ok : Finding::costs,
                  disk.direct ? "works at 4 KiB" + alignment : "the filesystem has none",
                  disk.direct ? ""
                              : "the server needs --buffered here: every commit is copied through the page cache and "
                                "synced; use ext4 or XFS"});
  judge_prepared(disk, rows);
  judge_flush(disk, rows);
  judge_throughput(disk, rows);
  if (!disk.interrupt_core.empty()) rows.push_back({"disk interrupt", Finding::ok, "core " + disk.interrupt_core, ""});
}

std::string doctor_text(const DoctorRows& rows) {
  std::size_t width = 0;
  for (const DoctorRow& row : rows) width = std::max(width, row.check.size());
  std::string text;
  for (const DoctorRow& row : rows) {
    text += fmt::format("{:<9}  {:<{}}  {}\n", finding_name(row.finding), row.check, width, row.found);
    if (!row.advice.empty()) text += fmt::format("{:<9}  {:<{}}  -> {}\n", "", "", width, row.advice);
  }
  return text;
}

std::string doctor_json(const DoctorRows& rows) {
  nlohmann::json list = nlohmann::json::array();
  for (const DoctorRow& row : rows)
    list.push_back(
        {{"check", row.check}, {"finding", finding_name(row.finding)}, {"found", row.found}, {"advice", row.advice}});
  return nlohmann::json{{"rows", list}}.dump(2) + "\n";
}

}  // namespace millrace
