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
#include <memory>
#include <numeric>
#include <vector>

#include "base/units.hpp"
#include "cli/doctor_ground.hpp"
#include "cli/doctor_measured.hpp"
#include "reactor/placement.hpp"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t trial_bytes_max = 64 * MiB;
constexpr auto time_per_measure = std::chrono::milliseconds(1200);
constexpr auto fill_time_max = std::chrono::seconds(3);

WriteSpeed speed_of(std::vector<double> micros, int refusal) {
  if (micros.empty()) return {.refusal = refusal};
  std::sort(micros.begin(), micros.end());
  double total = std::accumulate(micros.begin(), micros.end(), 0.0);
  auto at = [&](double share) {
    return micros[static_cast<std::size_t>(share * static_cast<double>(micros.size() - 1))];
  };
  return {1e6 * static_cast<double>(micros.size()) / total, at(0.5), at(0.99), refusal};
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

/// The one file the examination writes. It has no name from the start, so that nothing stays behind however the examination
/// ends. `bytes` is its length, whole MiB; with 0 nothing is written.
class TrialFile {
 public:
  TrialFile(const std::string& directory, std::size_t bytes) : bytes_(bytes) {
    std::string path = directory + "/.millrace-doctor-XXXXXX";
    descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor_ < 0) refusal_ = errno;
    else ::unlink(path.c_str());
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

  /// errno of making it; 0 = it was made.
  int refusal() const { return refusal_; }
  /// Opens it for direct I/O, as the server does, and shows with one write of `block_bytes` that it works; what follows goes
  /// that way then. Where there is no room for the write, opening has to do.
  bool direct() {
    const std::string path = "/proc/self/fd/" + std::to_string(descriptor_);
    int opened = ::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (opened < 0) return false;
    bool written = bytes_ == 0 || ::pwrite(opened, buffer_.get(), block_bytes, 0) == static_cast<ssize_t>(block_bytes);
    if (!written && errno != ENOSPC && errno != EDQUOT) {
      ::close(opened);
      return false;
    }
    ::close(descriptor_);
    descriptor_ = opened;
    return true;
  }
  /// Alignment that direct I/O needs, as the system says; 0 = it does not say.
  unsigned direct_alignment() const { return millrace::direct_alignment(descriptor_); }
  /// Empties it and takes its space; errno, 0 = done.
  int allocate() {
    if (bytes_ == 0) return ENOSPC;
    bool done = ::ftruncate(descriptor_, 0) == 0 && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes_)) == 0;
    return done ? 0 : errno;
  }
  /// MB/s of writing it full with 1 MiB writes and a sync at the end, or as far as fill_time_max gets; `refusal` is the errno
  /// of what failed, and 0 when nothing did.
  double fill(int& refusal) {
    refusal = bytes_ == 0 ? ENOSPC : 0;
    const auto begin = Clock::now();
    std::size_t filled = 0;
    for (; filled < bytes_ && refusal == 0 && Clock::now() < begin + fill_time_max; filled += 1 * MiB)
      refusal = write(filled, 1 * MiB, 0);
    if (refusal == 0 && ::fsync(descriptor_) != 0) refusal = errno;
    if (refusal != 0) return 0;
    bytes_ = filled;  // what is measured behind this stays in the part that was written
    return static_cast<double>(filled) / 1e6 / std::chrono::duration<double>(Clock::now() - begin).count();
  }
  /// One 4 KiB write after the other, each to the next block, for about a second.
  WriteSpeed writes(bool durable) {
    std::vector<double> micros;
    int refusal = bytes_ == 0 ? ENOSPC : 0;
    auto end = Clock::now() + time_per_measure;
    for (std::size_t at = 0; Clock::now() < end && at < bytes_; at += block_bytes) {
      auto begin = Clock::now();
      refusal = write(at, block_bytes, durable ? RWF_DSYNC : 0);
      if (refusal != 0) break;
      micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    return speed_of(std::move(micros), refusal);
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  /// errno, 0 = all of it was written. A short write is one that found no more room.
  int write(std::size_t at, std::size_t length, int flags) {
    iovec piece{buffer_.get(), length};
    ssize_t count = ::pwritev2(descriptor_, &piece, 1, static_cast<off_t>(at), flags);
    if (count < 0) return errno;
    return count == static_cast<ssize_t>(length) ? 0 : ENOSPC;
  }

  std::size_t bytes_;
  int descriptor_ = -1;
  int refusal_ = 0;
  std::unique_ptr<char, Free> buffer_;
};

void measure_space(const std::string& directory, DiskMeasured& disk) {
  struct statvfs found{};
  if (::statvfs(directory.c_str(), &found) != 0) return;
  if (found.f_blocks > 0) disk.free_bytes = std::uint64_t{found.f_bavail} * found.f_frsize;
  if (found.f_files > 0) disk.free_inodes = found.f_favail;
}

void measure_writes(TrialFile& file, DiskMeasured& disk, const DoctorProgress& progress) {
  progress("writes into allocated space");
  disk.allocate_refusal = file.allocate();
  if (disk.allocate_refusal == 0) disk.allocated = file.writes(true);
  progress("preparing a segment");
  if (disk.allocate_refusal == 0) disk.allocate_refusal = file.allocate();
  disk.fill_mb_per_second = file.fill(disk.fill_refusal);
  progress("plain writes");
  disk.plain = file.writes(false);
  progress("durable writes");
  disk.durable = file.writes(true);
}

}  // namespace

DiskMeasured measure_disk(const std::string& directory, const DoctorProgress& progress) {
  DiskMeasured disk;
  std::error_code error;
  std::string path = std::filesystem::canonical(directory, error).string();
  const Ground ground = ground_of(error ? directory : path);
  disk.mount_point = ground.mount.point;
  disk.filesystem = ground.mount.type;
  disk.mount_options = ground.mount.options;
  disk.memory = ground.memory;
  disk.name = disk_name(ground);
  disk.write_cache = device_says(ground, "queue/write_cache");
  disk.durable_writes = device_says(ground, "queue/fua") == "1";
  disk.rotates = device_says(ground, "queue/rotational") == "1";
  disk.vendor = device_says(ground, "device/vendor");
  disk.model = device_says(ground, "device/model");
  measure_space(directory, disk);
  // Others need room as well, meanwhile.
  std::size_t trial_bytes =
      std::min<std::uint64_t>(disk.free_bytes.value_or(UINT64_MAX) / 2, trial_bytes_max) / MiB * MiB;
  TrialFile file(directory, trial_bytes);
  disk.file_refusal = file.refusal();
  if (disk.file_refusal != 0) return disk;
  disk.direct = file.direct();
  if (disk.direct) disk.direct_alignment = file.direct_alignment();
  measure_writes(file, disk, progress);
  if (const auto core = disk_interrupt_core(directory)) disk.interrupt_core = std::to_string(*core);
  return disk;
}

}  // namespace millrace
