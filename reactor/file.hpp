// Files over the kernel seam: what a recovery scan or a segment's preparation waits for in sequence. The commit path uses
// Operations directly. Everything here is the same code over a simulated kernel.
//
// Errors are those of the operations; a failed durable write or sync is never tried again, because the system may have
// dropped the bytes and would report success the second time.
//
// Memory passed as Bytes belongs to the caller until the task ends. With open_direct, memory, offset and length are
// multiples of block_bytes.
//
// Thread: the reactor's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

class File {
 public:
  File() = default;
  File(Reactor& reactor, std::int32_t descriptor) : reactor_(&reactor), descriptor_(descriptor) {}
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  /// An open file is closed in the background; await close() where it matters when (a lock ends with it).
  ~File();

  /// `flags` of OpenFlag.
  static Task<File> open(Reactor& reactor, std::string path, unsigned flags, std::uint32_t mode = 0644);

  bool is_open() const { return descriptor_ >= 0; }
  std::int32_t descriptor() const { return descriptor_; }
  Reactor& reactor() const { return *reactor_; }

  /// Fills `target`, less only at the end of the file. Returns the bytes read.
  Task<std::uint32_t> read(std::uint64_t offset, MutableBytes target);
  /// out_of_range when the file ends before `target` is full.
  Task<> read_exact(std::uint64_t offset, MutableBytes target);
  /// Writes all of it. `durable` = on the device when the task ends.
  Task<> write_exact(std::uint64_t offset, Bytes source, bool durable);

  Task<> sync(bool data_only);
  /// Reserves space that reads as zeros; the file's size covers it.
  Task<> allocate(std::uint64_t offset, std::uint64_t length);
  /// Zeros a range without transferring them; `unsupported` where the system cannot: write zeros then.
  Task<> write_zeroes(std::uint64_t offset, std::uint64_t length);
  Task<> truncate(std::uint64_t size);
  Task<FileStatus> status();
  /// Where the first `length` bytes change their place on the device, offsets ascending. A direct write that stays between two
  /// of them is done at once; one across is handed to another thread (io_uring's workers on ext4). `unsupported` where unknown.
  Task<std::vector<std::uint64_t>> borders(std::uint64_t length);
  /// Exclusive, never waits: `locked` when another has it.
  Task<> lock();
  Task<> close();

  /// How often a transfer may come back without having moved before it counts as failed.
  static constexpr int standstills_max = 8;

 private:
  Operation operation_of(OperationCode code) const;
  Operation range_operation(OperationCode code, std::uint64_t offset, std::uint64_t extent) const;

  Reactor* reactor_ = nullptr;
  std::int32_t descriptor_ = -1;
};

/// Names. A new name is durable once its directory is synced.
class Directory {
 public:
  static Task<> make(Reactor& reactor, std::string path);
  /// Entries by name, without "." and "..".
  static Task<std::vector<DirectoryEntry>> list(Reactor& reactor, std::string path);
  static Task<> sync(Reactor& reactor, std::string path);
  /// Only an empty one.
  static Task<> remove(Reactor& reactor, std::string path);
  /// Replaces an existing target.
  static Task<> rename_file(Reactor& reactor, std::string from, std::string to);
  static Task<> remove_file(Reactor& reactor, std::string path);
  static Task<FileStatus> status_of(Reactor& reactor, std::string path);
  static Task<FilesystemStatus> filesystem_of(Reactor& reactor, std::string path);
};

}  // namespace millrace
