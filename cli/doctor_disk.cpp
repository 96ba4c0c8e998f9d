#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "base/units.hpp"
#include "cli/doctor.hpp"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t trial_bytes = 64 * MiB;
constexpr std::uint64_t space_wanted = 1 * GiB;
constexpr std::uint64_t inodes_wanted = 1000;
constexpr auto time_per_measure = std::chrono::milliseconds(1200);

struct Mount {
  std::string point, type, options, device;
};

/// The mount that holds `path`, from /proc/self/mountinfo.
Mount mount_of(const std::string& path) {
  Mount best;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, options, word, type, source, super;
    words >> id >> parent >> device >> root >> point >> options;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> super;
    bool inside = path == point || point == "/" || path.rfind(point + "/", 0) == 0;
    if (inside && point.size() >= best.point.size()) best = {point, type, options + "," + super, device};
  }
  return best;
}

bool has_option(const Mount& mount, const std::string& option) {
  return ("," + mount.options + ",").find("," + option + ",") != std::string::npos;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// A setting of the block device under `mount`; empty when there is none (overlay, tmpfs, network).
std::string queue_setting(const Mount& mount, const char* name) {
  std::string block = "/sys/dev/block/" + mount.device;
  std::string value = first_line(block + "/queue/" + name);
  return value.empty() ? first_line(block + "/../queue/" + name) : value;
}

struct Latencies {
  std::vector<double> micros;
  double at(double quantile) const {
    return micros.empty() ? 0 : micros[static_cast<std::size_t>(quantile * static_cast<double>(micros.size() - 1))];
  }
  double rate() const {
    double total = 0;
    for (double value : micros) total += value;
    return total == 0 ? 0 : 1e6 * static_cast<double>(micros.size()) / total;
  }
};

/// The one file the examination writes, removed at its end.
class TrialFile {
 public:
  explicit TrialFile(const std::string& directory) : path_(directory + "/.millrace-doctor-XXXXXX") {
    descriptor_ = ::mkostemp(path_.data(), O_CLOEXEC);
    void* memory = nullptr;
    if (::posix_memalign(&memory, block_bytes, 1 * MiB) != 0) std::abort();
    buffer_.reset(static_cast<char*>(memory));
    std::memset(buffer_.get(), 0x5a, 1 * MiB);
  }
  ~TrialFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    ::unlink(path_.c_str());
  }
  TrialFile(const TrialFile&) = delete;
  TrialFile& operator=(const TrialFile&) = delete;

  bool made() const { return descriptor_ >= 0; }
  /// Turns direct I/O on and shows with one write that it works.
  bool direct() {
    int flags = ::fcntl(descriptor_, F_GETFL);
    if (::fcntl(descriptor_, F_SETFL, flags | O_DIRECT) != 0) return false;
    return ::pwrite(descriptor_, buffer_.get(), block_bytes, 0) == static_cast<ssize_t>(block_bytes);
  }
  bool allocate() { return ::ftruncate(descriptor_, 0) == 0 && ::fallocate(descriptor_, 0, 0, trial_bytes) == 0; }
  /// MB/s of writing it full with 1 MiB writes and a sync at the end; 0 when the disk is full.
  double fill() {
    auto begin = Clock::now();
    for (std::size_t at = 0; at < trial_bytes; at += 1 * MiB)
      if (::pwrite(descriptor_, buffer_.get(), 1 * MiB, static_cast<off_t>(at)) != static_cast<ssize_t>(1 * MiB))
        return 0;
    ::fsync(descriptor_);
    return static_cast<double>(trial_bytes) / 1e6 / std::chrono::duration<double>(Clock::now() - begin).count();
  }
  /// One 4 KiB write after the other, each to the next block, for about a second.
  Latencies writes(bool durable) {
    Latencies result;
    auto end = Clock::now() + time_per_measure;
    for (std::size_t at = 0; Clock::now() < end && at < trial_bytes; at += block_bytes) {
      iovec piece{buffer_.get(), block_bytes};
      auto begin = Clock::now();
      ssize_t count = ::pwritev2(descriptor_, &piece, 1, static_cast<off_t>(at), durable ? RWF_DSYNC : 0);
      if (count != static_cast<ssize_t>(block_bytes)) break;
      result.micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    std::sort(result.micros.begin(), result.micros.end());
    return result;
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::string path_;
  int descriptor_ = -1;
  std::unique_ptr<char, Free> buffer_;
};

void examine_mount(const Mount& mount, DoctorRows& rows) {
  DoctorRow row{"filesystem", Finding::ok, fmt::format("{} at {} ({})", mount.type, mount.point, mount.options), ""};
  bool memory = mount.type == "tmpfs" || mount.type == "ramfs";
  if (has_option(mount, "ro")) {
    row.finding = Finding::broken,
    row.advice = "it is mounted read-only; remount it with: mount -o remount,rw " + mount.point;
  } else if (memory) {
    row.finding = Finding::broken,
    row.advice = "it lives in memory and is gone at the next boot; put the data on a disk";
  } else if (has_option(mount, "nobarrier") || has_option(mount, "barrier=0")) {
    row.finding = Finding::broken, row.advice =
                                       "flushes are switched off by a mount option, so a power cut loses acknowledged "
                                       "records; mount without nobarrier";
  } else if (mount.type.rfind("nfs", 0) == 0 || mount.type == "cifs" || mount.type.rfind("fuse", 0) == 0) {
    row.finding = Finding::costs, row.advice = "every commit waits for another program or machine; use a local disk";
  } else if (mount.type == "btrfs") {
    row.finding = Finding::costs,
    row.advice = "copy-on-write turns each write of a prepared segment into an allocation; use ext4 or XFS";
  } else if (has_option(mount, "discard")) {
    row.finding = Finding::costs, row.advice =
                                      "deleting a large file stalls commits for tens of ms; mount without discard and "
                                      "run fstrim instead (expired segments are reused here, so it is rare)";
  }
  rows.push_back(row);
}

void examine_space(const std::string& directory, DoctorRows& rows) {
  struct statvfs found{};
  if (::statvfs(directory.c_str(), &found) != 0) return;
  std::uint64_t free_bytes = std::uint64_t{found.f_bavail} * found.f_frsize;
  bool counts_inodes = found.f_files > 0;
  DoctorRow row{"free space", Finding::ok,
                fmt::format("{:.1f} GiB, {} inodes", static_cast<double>(free_bytes) / GiB,
                            counts_inodes ? std::to_string(found.f_favail) : "unlimited"),
                ""};
  if (free_bytes < 256 * MiB || (counts_inodes && found.f_favail < 16))
    row.finding = Finding::broken,
    row.advice = "not even two segments of 128 MiB fit; free space or pass a smaller --segment-bytes";
  else if (free_bytes < space_wanted || (counts_inodes && found.f_favail < inodes_wanted))
    row.finding = Finding::costs,
    row.advice = "appends will soon be refused with no_space; free space, or let --retain-bytes keep it bounded";
  rows.push_back(row);
}

void examine_flush(const Mount& mount, TrialFile& file, DoctorRows& rows, const DoctorProgress& progress) {
  progress("plain writes");
  Latencies plain = file.writes(false);
  progress("durable writes");
  Latencies durable = file.writes(true);
  std::string cache = queue_setting(mount, "write_cache");
  bool rotates = queue_setting(mount, "rotational") == "1" && durable.at(0.5) < 1000;
  double extra = durable.at(0.5) - plain.at(0.5);
  DoctorRow row{
      "flushes", Finding::ok,
      fmt::format("{:.0f} durable 4 KiB writes/s, p50 {:.0f} µs, p99 {:.0f} µs; plain p50 {:.0f} µs; device cache: {}",
                  durable.rate(), durable.at(0.5), durable.at(0.99), plain.at(0.5), cache.empty() ? "unknown" : cache),
      ""};
  if (cache == "write back" && extra < 5 && durable.at(0.5) < 200) {
    row.finding = Finding::broken,
    row.advice =
        "a flush costs nothing on a device with a volatile cache: something below lies about flushing (a virtual disk "
        "with cache=unsafe?); set it to write through or none";
  } else if (rotates && extra < 100) {
    row.finding = Finding::broken, row.advice =
                                       "no spinning disk can sync this fast: a cache below lies about flushing; switch "
                                       "it off (hdparm -W0) or give it a battery";
  } else if (durable.at(0.5) >= 3500 && durable.at(0.5) <= 4500) {
    row.finding = Finding::costs, row.advice =
                                      "commits sit at one tick (4 ms): a thread that never sleeps runs on the core of "
                                      "the disk's interrupt; move it with taskset";
  } else if (durable.at(0.5) > 10'000) {
    row.finding = Finding::costs,
    row.advice =
        "every commit waits this long for the device; a disk with power-loss protection is a hundred times faster";
  }
  rows.push_back(row);
}

void examine_prepared(TrialFile& file, DoctorRows& rows, const DoctorProgress& progress, double& fill_rate) {
  progress("writes into allocated space");
  if (!file.allocate()) {
    rows.push_back({"preallocation", Finding::costs, "fallocate is not supported",
                    "segments are filled with zeros from the start instead"});
    fill_rate = file.fill();
    return;
  }
  Latencies allocated = file.writes(true);
  progress("preparing a segment");
  if (!file.allocate()) return;
  fill_rate = file.fill();
  Latencies prepared = file.writes(true);
  double ratio = prepared.at(0.5) > 0 ? allocated.at(0.5) / prepared.at(0.5) : 0;
  rows.push_back({"prepared segments", Finding::ok,
                  fmt::format("a durable write takes {:.0f} µs into zeroed space, {:.0f} µs into allocated space "
                              "({:.1f} ×): zeroing ahead {}",
                              prepared.at(0.5), allocated.at(0.5), ratio,
                              ratio > 1.1 ? "pays" : "is not needed here, and does no harm"),
                  ""});
}

/// The core that most interrupts of a block device go to, from /proc/interrupts; empty when none is named there.
std::string interrupt_core() {
  std::ifstream file("/proc/interrupts");
  std::string line;
  std::getline(file, line);
  std::uint64_t most = 0;
  std::string answer;
  while (std::getline(file, line)) {
    bool block = line.find("virtio") != std::string::npos || line.find("nvme") != std::string::npos ||
                 line.find("ahci") != std::string::npos;
    if (!block || line.find("config") != std::string::npos || line.find("input") != std::string::npos) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::uint64_t count = 0;
    for (int core = 0; words >> count; ++core)
      if (count > most) most = count, answer = std::to_string(core);
  }
  return answer;
}

}  // namespace

void examine_disk(const std::string& directory, DoctorRows& rows, const DoctorProgress& progress) {
  std::error_code error;
  std::string path = std::filesystem::canonical(directory, error).string();
  Mount mount = mount_of(error ? directory : path);
  examine_mount(mount, rows);
  examine_space(directory, rows);
  TrialFile file(directory);
  if (!file.made()) {
    rows.push_back({"direct I/O", Finding::broken, fmt::format("cannot make a file: {}", std::strerror(errno)),
                    "give this user a directory it can write to"});
    return;
  }
  bool direct = file.direct();
  rows.push_back({"direct I/O", direct ? Finding::ok : Finding::costs,
                  direct ? "works at 4 KiB" : "the filesystem has none",
                  direct ? ""
                         : "the server needs --buffered here: every commit is copied through the page cache and "
                           "synced; use ext4 or XFS"});
  double fill_rate = 0;
  examine_prepared(file, rows, progress, fill_rate);
  examine_flush(mount, file, rows, progress);
  rows.push_back(
      {"disk throughput", fill_rate > 0 && fill_rate < 50 ? Finding::costs : Finding::ok,
       fmt::format("{:.0f} MB/s in 1 MiB writes", fill_rate),
       fill_rate > 0 && fill_rate < 50 ? "appends cannot be faster than this for long; use a faster disk" : ""});
  std::string core = interrupt_core();
  if (!core.empty()) rows.push_back({"disk interrupt", Finding::ok, "core " + core, ""});
}

}  // namespace millrace
