// Files as the parts that read and derive use them: whole reads, whole writes, and memory that O_DIRECT accepts. Short
// results are continued here; an error is told once and nothing is retried.
//
// Thread: the shard's. Memory handed in belongs to the operation until the task ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

/// Zeroed memory aligned for O_DIRECT.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  /// `bytes` is rounded up to whole blocks.
  explicit AlignedMemory(std::size_t bytes);
  MutableBytes bytes() const { return {data_.get(), size_}; }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

/// An open file; its destructor closes it in the background.
class DiskFile {
 public:
  DiskFile() = default;
  DiskFile(Reactor& reactor, int descriptor) : reactor_(&reactor), descriptor_(descriptor) {}
  DiskFile(DiskFile&& other) noexcept;
  DiskFile& operator=(DiskFile&& other) noexcept;
  ~DiskFile();

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  Reactor& reactor() { return *reactor_; }

 private:
  void close_later();
  Reactor* reactor_ = nullptr;
  int descriptor_ = -1;
};

/// `flags` are OpenFlag bits; open_direct is left out when `buffered`.
Task<DiskFile> open_disk_file(Reactor& reactor, std::string path, std::uint16_t flags, bool buffered);
/// Fills `target` from `offset` on; fewer bytes only at the end of the file. All three are multiples of block_bytes.
Task<std::size_t> read_disk(DiskFile& file, std::uint64_t offset, MutableBytes target);
/// Writes all of `source`; not durable before sync_disk.
Task<> write_disk(DiskFile& file, std::uint64_t offset, Bytes source);
Task<> sync_disk(DiskFile& file);
Task<> truncate_disk(DiskFile& file, std::uint64_t size);
Task<std::uint64_t> disk_file_size(DiskFile& file);
/// Sorted by name. not_found when there is no such directory.
Task<std::vector<DirectoryEntry>> list_directory(Reactor& reactor, std::string path);
/// Makes names in the directory durable.
Task<> sync_directory(Reactor& reactor, std::string path);
Task<> rename_file(Reactor& reactor, std::string from, std::string to);
Task<> unlink_file(Reactor& reactor, std::string path);

}  // namespace millrace
