#include "reactor/posix_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/mutant.hpp"
#include "reactor/helper_thread.hpp"

// Newer than Debian 12's headers.
#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

namespace millrace {

namespace {

std::int32_t result_of(ssize_t returned) { return returned < 0 ? -errno : static_cast<std::int32_t>(returned); }

int system_open_flags(std::uint16_t flags) {
  int result = O_CLOEXEC;
  bool reads = (flags & open_read) != 0, writes = (flags & open_write) != 0;
  result |= reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;
  if ((flags & open_create) != 0) result |= O_CREAT;
  if ((flags & open_exclusive) != 0 && !mutant("kernel_forgets_exclusive")) result |= O_EXCL;
  if ((flags & open_truncate) != 0) result |= O_TRUNC;
  if ((flags & open_direct) != 0) result |= O_DIRECT;
  if ((flags & open_directory) != 0) result |= O_DIRECTORY;
  return result;
}

std::int32_t transfer(const Operation& operation) {
  iovec piece{operation.data, operation.length};
  auto at = static_cast<off_t>(operation.offset);
  const int flags = operation.durable && !mutant("kernel_drops_dsync") ? RWF_DSYNC : 0;
  const ssize_t count = operation.code == OperationCode::read ? ::preadv2(operation.descriptor, &piece, 1, at, 0)
                                                              : ::pwritev2(operation.descriptor, &piece, 1, at, flags);
  if (mutant("kernel_takes_short_for_whole") && count > 0) return static_cast<std::int32_t>(operation.length);
  return result_of(count);
}

}  // namespace

bool is_file_operation(const Operation& operation) {
  switch (operation.code) {
    case OperationCode::open_file:
    case OperationCode::read:
    case OperationCode::write:
    case OperationCode::sync:
    case OperationCode::allocate:
    case OperationCode::write_zeroes:
    case OperationCode::rename:
    case OperationCode::unlink:
    case OperationCode::make_directory: return true;
    default: return runs_blocking(operation.code);
  }
}

std::int32_t run_file_operation(Operation& operation) {
  auto from = static_cast<off_t>(operation.offset);
  auto extent = static_cast<off_t>(operation.extent);
  switch (operation.code) {
    case OperationCode::open_file:
      return result_of(::open(operation.path, system_open_flags(operation.open_flags), operation.mode));
    case OperationCode::read:
    case OperationCode::write: return transfer(operation);
    case OperationCode::sync:
      if (mutant("kernel_skips_sync")) return 0;
      return result_of(operation.data_only ? ::fdatasync(operation.descriptor) : ::fsync(operation.descriptor));
    case OperationCode::allocate: return result_of(::fallocate(operation.descriptor, 0, from, extent));
    case OperationCode::write_zeroes:
      return result_of(::fallocate(operation.descriptor, FALLOC_FL_WRITE_ZEROES, from, extent));
    case OperationCode::rename: return result_of(::rename(operation.path, operation.path_to));
    case OperationCode::unlink:
      return result_of(operation.remove_directory ? ::rmdir(operation.path) : ::unlink(operation.path));
    case OperationCode::make_directory: return result_of(::mkdir(operation.path, operation.mode));
    default: return run_blocking(operation);
  }
}

}  // namespace millrace
