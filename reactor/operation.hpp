// One kernel request as plain data. The caller owns an Operation, and every byte it points to, from submit() until its
// last Completion (the one with more == false); only then may it be reused or destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.hpp"

namespace millrace {

struct Operation;

enum class OperationCode : std::uint8_t {
  nop,
  // Files. `descriptor` comes from open_file.
  open_file,        // path, open_flags, mode                -> descriptor
  close,            // descriptor                            -> 0 (also sockets); cancel what waits there before
  read,             // descriptor, offset, data, length      -> bytes, may be short, 0 = end of file
  write,            // + durable                             -> bytes, may be short
  sync,             // descriptor, data_only                 -> 0
  allocate,         // descriptor, offset, extent            -> 0: extents that read as zeros, file size covers them
  write_zeroes,     // descriptor, offset, extent            -> 0, or -EOPNOTSUPP: write zeros by hand
  truncate,         // descriptor, extent                    -> 0
  stat_file,        // descriptor (or path if descriptor < 0), status -> 0
  stat_filesystem,  // path, filesystem                      -> 0
  rename,           // path, path_to                         -> 0: replaces an existing target
  unlink,           // path, flag remove_directory           -> 0
  make_directory,   // path, mode                            -> 0
  read_directory,   // path, entries                         -> count
  map_file,  // descriptor, offset, extent, borders    -> count: places inside where a direct write would have to be split
  lock,  // descriptor                            -> 0, or -EAGAIN: exclusive, never blocks, ends with the descriptor
  // Sockets.
  listen,    // address, backlog in length            -> descriptor; the bound port is stored in address.port
  accept,    // descriptor, multishot                 -> descriptor of a connection, TCP_NODELAY set
  connect,   // address                               -> descriptor
  receive,   // descriptor; data and length, or provided (+ multishot) -> bytes, 0 = end of stream; without a free
             // provided buffer it waits for one to be recycled
  send,      // descriptor, data, length              -> bytes, short only when the connection is failing
  shutdown,  // descriptor                            -> 0: both directions
  cancel,    // target                                -> 0 found, -ENOENT not there, -EALREADY too late
};

enum OpenFlag : std::uint16_t {
  open_read = 1,
  open_write = 2,
  open_create = 4,
  open_exclusive = 8,  // with create: fail with -EEXIST
  open_truncate = 16,
  open_direct = 32,     // O_DIRECT; -EINVAL where the filesystem has none
  open_directory = 64,  // for sync of a directory
};

struct Address {
  std::string host;        // numeric IPv4 or IPv6
  std::uint16_t port = 0;  // host byte order; 0 asks the kernel for one
};

struct FileStatus {
  std::uint64_t size = 0;             // bytes
  std::uint64_t allocated_bytes = 0;  // what it takes on the device
  bool is_directory = false;
  std::uint32_t direct_io_align = 0;  // needed alignment of offset and length; 0 = unknown or no direct I/O
};

struct FilesystemStatus {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // what this user may still take
  std::uint64_t free_inodes = 0;
  std::uint64_t type = 0;  // statfs f_type magic
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
};

/// A piece of kernel-chosen memory with received bytes; given back with Kernel::recycle, exactly once.
struct ProvidedBuffer {
  std::byte* data = nullptr;
  std::uint32_t length = 0;
  std::int32_t id = -1;  // -1 = none
};

/// What the kernel says about one Operation. `result` is >= 0, or -errno, as in a cqe.
struct Completion {
  Operation* operation = nullptr;
  std::int32_t result = 0;
  ProvidedBuffer buffer{};
  bool more = false;  // a multishot operation goes on; false = the kernel is done with the Operation
};

struct Operation {
  // What is asked.
  OperationCode code = OperationCode::nop;
  bool durable = false;    // write: RWF_DSYNC, on the device before it completes
  bool data_only = false;  // sync: fdatasync
  bool multishot = false;
  bool provided = false;  // receive into kernel-chosen memory
  bool remove_directory = false;
  std::uint16_t open_flags = 0;
  std::uint32_t mode = 0;
  std::int32_t descriptor = -1;
  std::uint64_t offset = 0;
  std::uint64_t extent = 0;
  std::byte* data = nullptr;  // send and write only read from it
  std::uint32_t length = 0;
  const char* path = nullptr;
  const char* path_to = nullptr;
  Address* address = nullptr;
  FileStatus* status = nullptr;
  FilesystemStatus* filesystem = nullptr;
  std::vector<DirectoryEntry>* entries = nullptr;
  std::vector<std::uint64_t>* borders = nullptr;  // of map_file: file offsets, ascending
  Operation* target = nullptr;                    // of cancel: not destroyed yet, whether or not it has completed

  // Who is told. Called by the Reactor in its own turn, never by the Kernel and never inside submit().
  void (*on_complete)(Operation& self, const Completion& completion) = nullptr;
  void* context = nullptr;

  // In flight: belongs to the Kernel.
  Operation* kernel_next = nullptr;
  std::uint64_t kernel_word = 0;
};

/// For `data` of send and write, which only read from it: the one place where const is taken away.
inline std::byte* read_only(const std::byte* bytes) {
  return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(bytes));
}

}  // namespace millrace
