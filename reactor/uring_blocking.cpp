// What the helper thread does for each code: plain blocking system calls.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "reactor/helper_thread.hpp"
#include "reactor/uring_address.hpp"

// Newer than Debian 12's headers.
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U
#endif

namespace millrace {

namespace {

using FileFields = struct statx;
using FilesystemFields = struct statfs;
using StatFields = struct stat;

std::int32_t result_of(int returned) { return returned < 0 ? -errno : returned; }

// statx as newer kernels fill it: Debian 12's struct has the two fields as spare bytes.
struct StatxTail {
  std::uint32_t memory_align;
  std::uint32_t offset_align;
};

std::int32_t stat_file(Operation& operation) {
  MR_ASSERT(operation.status != nullptr);
  bool by_path = operation.descriptor < 0;
  FileFields found{};
  int failed = ::statx(by_path ? AT_FDCWD : operation.descriptor, by_path ? operation.path : "",
                       by_path ? 0 : AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &found);
  if (failed != 0) return -errno;
  FileStatus& status = *operation.status;
  status.size = found.stx_size;
  status.allocated_bytes = found.stx_blocks * 512;
  status.is_directory = S_ISDIR(found.stx_mode);
  status.direct_io_align = 0;
  if ((found.stx_mask & STATX_DIOALIGN) != 0) {
    constexpr std::size_t tail_at = 0x98;  // stx_dio_mem_align in <linux/stat.h>
    StatxTail tail{};
    std::memcpy(&tail, reinterpret_cast<const std::byte*>(&found) + tail_at, sizeof(tail));
    status.direct_io_align = tail.offset_align;
  }
  return 0;
}

// What the system calls an extent may go on in the next one; such a border costs little to keep to.
std::int32_t map_file(Operation& operation) {
  MR_ASSERT(operation.borders != nullptr);
  constexpr std::uint32_t extents_each = 32;
  alignas(fiemap) std::array<std::byte, sizeof(fiemap) + extents_each * sizeof(fiemap_extent)> memory;
  operation.borders->clear();
  const std::uint64_t end = operation.offset + operation.extent;
  for (std::uint64_t at = operation.offset; at < end;) {
    memory.fill(std::byte{});
    auto* map = reinterpret_cast<fiemap*>(memory.data());
    map->fm_start = at;
    map->fm_length = end - at;
    map->fm_extent_count = extents_each;
    if (::ioctl(operation.descriptor, FS_IOC_FIEMAP, map) != 0) return -errno;
    if (map->fm_mapped_extents == 0) break;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      fiemap_extent extent;
      std::memcpy(&extent, memory.data() + sizeof(fiemap) + i * sizeof(extent), sizeof(extent));
      at = std::max<std::uint64_t>(at + 1, extent.fe_logical + extent.fe_length);
      if (extent.fe_logical > operation.offset) operation.borders->push_back(extent.fe_logical);
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) at = end;
    }
  }
  return static_cast<std::int32_t>(operation.borders->size());
}

std::int32_t stat_filesystem(Operation& operation) {
  MR_ASSERT(operation.filesystem != nullptr);
  FilesystemFields found{};
  if (::statfs(operation.path, &found) != 0) return -errno;
  auto block = static_cast<std::uint64_t>(found.f_bsize);
  operation.filesystem->total_bytes = found.f_blocks * block;
  operation.filesystem->free_bytes = found.f_bavail * block;
  operation.filesystem->free_inodes = found.f_ffree;
  operation.filesystem->type = static_cast<std::uint64_t>(found.f_type);
  return 0;
}

bool is_directory(DIR* directory, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
  StatFields found{};  // some filesystems do not say
  return ::fstatat(::dirfd(directory), entry.d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(found.st_mode);
}

std::int32_t read_directory(Operation& operation) {
  MR_ASSERT(operation.entries != nullptr);
  DIR* directory = ::opendir(operation.path);
  if (directory == nullptr) return -errno;
  operation.entries->clear();
  std::int32_t result = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(directory);
    if (entry == nullptr) {
      result = errno != 0 ? -errno : static_cast<std::int32_t>(operation.entries->size());
      break;
    }
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    operation.entries->push_back(DirectoryEntry{entry->d_name, is_directory(directory, *entry)});
  }
  ::closedir(directory);
  return result;
}

std::int32_t bind_and_listen(int descriptor, SocketAddress& at, Operation& operation) {
  int one = 1;
  if (::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0) return -errno;
  if (::bind(descriptor, at.pointer(), at.length) != 0) return -errno;
  if (::listen(descriptor, static_cast<int>(operation.length)) != 0) return -errno;
  if (::getsockname(descriptor, at.pointer(), &at.length) != 0) return -errno;
  operation.address->port = at.port();
  return descriptor;
}

std::int32_t listen_at(Operation& operation) {
  MR_ASSERT(operation.address != nullptr);
  SocketAddress at;
  if (!to_uring_address(*operation.address, at)) return -EINVAL;
  int descriptor = open_stream_socket(at.family());
  if (descriptor < 0) return descriptor;
  std::int32_t result = bind_and_listen(descriptor, at, operation);
  if (result < 0) ::close(descriptor);
  return result;
}

std::int32_t lock(const Operation& operation) {
  if (::flock(operation.descriptor, LOCK_EX | LOCK_NB) == 0) return 0;
  return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

}  // namespace

bool runs_blocking(OperationCode code) {
  switch (code) {
    case OperationCode::truncate:
    case OperationCode::stat_file:
    case OperationCode::stat_filesystem:
    case OperationCode::read_directory:
    case OperationCode::map_file:
    case OperationCode::lock:
    case OperationCode::listen: return true;
    default: return false;
  }
}

std::int32_t run_blocking(Operation& operation) {
  switch (operation.code) {
    case OperationCode::truncate:
      return result_of(::ftruncate(operation.descriptor, static_cast<off_t>(operation.extent)));
    case OperationCode::stat_file: return stat_file(operation);
    case OperationCode::stat_filesystem: return stat_filesystem(operation);
    case OperationCode::read_directory: return read_directory(operation);
    case OperationCode::map_file: return map_file(operation);
    case OperationCode::lock: return lock(operation);
    case OperationCode::listen: return listen_at(operation);
    default: break;
  }
  assert_failed("an operation that does not belong on the helper thread", __FILE__, __LINE__);
}

}  // namespace millrace
