#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <sstream>
#include <vector>

#include "base/units.hpp"
#include "cli/doctor_measured.hpp"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t trial_bytes = 64 * MiB;
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

WriteSpeed speed_of(std::vector<double> micros) {
  if (micros.empty()) return {};
  std::sort(micros.begin(), micros.end());
  double total = std::accumulate(micros.begin(), micros.end(), 0.0);
  auto at = [&](double share) {
    return micros[static_cast<std::size_t>(share * static_cast<double>(micros.size() - 1))];
  };
  return {1e6 * static_cast<double>(micros.size()) / total, at(0.5), at(0.99)};
}

// Newer than Debian 12's headers: STATX_DIOALIGN (Linux 6.1) and where it puts stx_dio_offset_align.
constexpr unsigned statx_direct_alignment = 0x2000;
constexpr std::size_t offset_alignment_at = 0x9c;

unsigned direct_alignment(int descriptor) {
  struct statx found{};
  static_assert(sizeof(found) >= offset_alignment_at + sizeof(std::uint32_t));
  if (::statx(descriptor, "", AT_EMPTY_PATH, statx_direct_alignment, &found) != 0) return 0;
  if ((found.stx_mask & statx_direct_alignment) == 0) return 0;
  std::uint32_t alignment = 0;
  std::memcpy(&alignment, reinterpret_cast<const char*>(&found) + offset_alignment_at, sizeof(alignment));
  return alignment;
}

/// The one file the examination writes. It has no name from the start, so that nothing stays behind however the examination ends.
class TrialFile {
 public:
  explicit TrialFile(const std::string& directory) {
    std::string path = directory + "/.millrace-doctor-XXXXXX";
    descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor_ >= 0) ::unlink(path.c_str());
    void* memory = nullptr;
    if (::posix_memalign(&memory, block_bytes, 1 * MiB) != 0) std::abort();
    buffer_.reset(static_cast<char*>(memory));
    std::memset(buffer_.get(), 0x5a, 1 * MiB);
  }
  ~TrialFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  TrialFile(const TrialFile&) = delete;
  TrialFile& operator=(const TrialFile&) = delete;

  bool made() const { return descriptor_ >= 0; }
  /// Opens it for direct I/O, as the server does, and shows with one write of `block_bytes` that it works; what follows goes
  /// that way then.
  bool direct() {
    const std::string path = "/proc/self/fd/" + std::to_string(descriptor_);
    int opened = ::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (opened < 0) return false;
    if (::pwrite(opened, buffer_.get(), block_bytes, 0) != static_cast<ssize_t>(block_bytes)) {
      ::close(opened);
      return false;
    }
    ::close(descriptor_);
    descriptor_ = opened;
    return true;
  }
  /// Alignment that direct I/O needs, as the system says; 0 = it does not say.
  unsigned direct_alignment() const { return millrace::direct_alignment(descriptor_); }
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
  WriteSpeed writes(bool durable) {
    std::vector<double> micros;
    auto end = Clock::now() + time_per_measure;
    for (std::size_t at = 0; Clock::now() < end && at < trial_bytes; at += block_bytes) {
      iovec piece{buffer_.get(), block_bytes};
      auto begin = Clock::now();
      ssize_t count = ::pwritev2(descriptor_, &piece, 1, static_cast<off_t>(at), durable ? RWF_DSYNC : 0);
      if (count != static_cast<ssize_t>(block_bytes)) break;
      micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    return speed_of(std::move(micros));
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  int descriptor_ = -1;
  std::unique_ptr<char, Free> buffer_;
};

void measure_space(const std::string& directory, DiskMeasured& disk) {
  struct statvfs found{};
  if (::statvfs(directory.c_str(), &found) != 0) return;
  disk.free_bytes = std::uint64_t{found.f_bavail} * found.f_frsize;
  if (found.f_files > 0) disk.free_inodes = found.f_favail;
}

void measure_writes(TrialFile& file, DiskMeasured& disk, const DoctorProgress& progress) {
  progress("writes into allocated space");
  disk.allocates = file.allocate();
  if (disk.allocates) disk.allocated = file.writes(true);
  progress("preparing a segment");
  if (disk.allocates) file.allocate();
  disk.fill_mb_per_second = file.fill();
  progress("plain writes");
  disk.plain = file.writes(false);
  progress("durable writes");
  disk.durable = file.writes(true);
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

DiskMeasured measure_disk(const std::string& directory, const DoctorProgress& progress) {
  DiskMeasured disk;
  std::error_code error;
  std::string path = std::filesystem::canonical(directory, error).string();
  Mount mount = mount_of(error ? directory : path);
  disk.mount_point = mount.point;
  disk.filesystem = mount.type;
  disk.mount_options = mount.options;
  disk.write_cache = queue_setting(mount, "write_cache");
  disk.rotates = queue_setting(mount, "rotational") == "1";
  measure_space(directory, disk);
  TrialFile file(directory);
  disk.file_made = file.made();
  if (!file.made()) {
    disk.file_refusal = std::strerror(errno);
    return disk;
  }
  disk.direct = file.direct();
  if (disk.direct) disk.direct_alignment = file.direct_alignment();
  measure_writes(file, disk, progress);
  disk.interrupt_core = interrupt_core();
  return disk;
}

}  // namespace millrace
