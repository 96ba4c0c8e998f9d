#include "storage/disk.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace millrace {

AlignedMemory::AlignedMemory(std::size_t bytes) : size_(align_up(bytes, block_bytes)) {
  data_.reset(static_cast<std::byte*>(::operator new[](size_, std::align_val_t{block_bytes})));
  std::memset(data_.get(), 0, size_);
}

void AlignedMemory::Free::operator()(std::byte* data) const {
  ::operator delete[](data, std::align_val_t{block_bytes});
}

DiskFile::DiskFile(DiskFile&& other) noexcept
    : reactor_(other.reactor_), descriptor_(std::exchange(other.descriptor_, -1)) {}

DiskFile& DiskFile::operator=(DiskFile&& other) noexcept {
  if (this != &other) {
    close_later();
    reactor_ = other.reactor_;
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

DiskFile::~DiskFile() { close_later(); }

void DiskFile::close_later() {
  if (descriptor_ >= 0) reactor_->close_later(std::exchange(descriptor_, -1));
}

Task<DiskFile> open_disk_file(Reactor& reactor, std::string path, std::uint16_t flags, bool buffered) {
  Operation operation;
  operation.code = OperationCode::open_file;
  operation.path = path.c_str();
  operation.open_flags = buffered ? static_cast<std::uint16_t>(flags & ~open_direct) : flags;
  operation.mode = 0644;
  auto opened = co_await Io(operation);
  if (!opened) co_return fail(opened.error());
  co_return DiskFile(reactor, static_cast<int>(*opened));
}

Task<std::size_t> read_disk(DiskFile& file, std::uint64_t offset, MutableBytes target) {
  std::size_t done = 0;
  Operation operation;
  while (done < target.size()) {
    operation = {};
    operation.code = OperationCode::read;
    operation.descriptor = file.descriptor();
    // A short read may end inside a block; O_DIRECT goes on from the block's start.
    done = align_down(done, block_bytes);
    operation.offset = offset + done;
    operation.data = target.data() + done;
    operation.length = static_cast<std::uint32_t>(std::min<std::size_t>(target.size() - done, 1 * GiB));
    auto got = co_await Io(operation);
    if (!got) co_return fail(got.error());
    done += *got;
    // Less than a block more than before, and not at a block's end, is the end of the file.
    if (*got == 0 || !is_aligned(done, block_bytes)) {
      if (*got == 0 || *got < block_bytes) break;
    }
  }
  co_return done;
}

Task<> write_disk(DiskFile& file, std::uint64_t offset, Bytes source) {
  std::size_t done = 0;
  Operation operation;
  while (done < source.size()) {
    operation = {};
    operation.code = OperationCode::write;
    operation.descriptor = file.descriptor();
    operation.offset = offset + done;
    operation.data = const_cast<std::byte*>(source.data() + done);
    operation.length = static_cast<std::uint32_t>(std::min<std::size_t>(source.size() - done, 1 * GiB));
    auto put = co_await Io(operation);
    if (!put) co_return fail(put.error());
    const std::size_t whole = align_down(*put, block_bytes);
    if (whole == 0) co_return fail(Error::io_failed);
    done += whole;
  }
  co_return {};
}

Task<> sync_disk(DiskFile& file) {
  Operation operation;
  operation.code = OperationCode::sync;
  operation.descriptor = file.descriptor();
  auto synced = co_await Io(operation);
  if (!synced) co_return fail(synced.error());
  co_return {};
}

Task<> truncate_disk(DiskFile& file, std::uint64_t size) {
  Operation operation;
  operation.code = OperationCode::truncate;
  operation.descriptor = file.descriptor();
  operation.extent = size;
  auto cut = co_await Io(operation);
  if (!cut) co_return fail(cut.error());
  co_return {};
}

Task<std::uint64_t> disk_file_size(DiskFile& file) {
  FileStatus status;
  Operation operation;
  operation.code = OperationCode::stat_file;
  operation.descriptor = file.descriptor();
  operation.status = &status;
  auto known = co_await Io(operation);
  if (!known) co_return fail(known.error());
  co_return status.size;
}

Task<std::vector<DirectoryEntry>> list_directory(Reactor& reactor, std::string path) {
  (void)reactor;
  std::vector<DirectoryEntry> entries;
  Operation operation;
  operation.code = OperationCode::read_directory;
  operation.path = path.c_str();
  operation.entries = &entries;
  auto listed = co_await Io(operation);
  if (!listed) co_return fail(listed.error());
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  co_return std::move(entries);
}

Task<> sync_directory(Reactor& reactor, std::string path) {
  auto opening = open_disk_file(reactor, std::move(path), open_read | open_directory, true);
  auto directory = co_await opening;
  if (!directory) co_return fail(directory.error());
  auto syncing = sync_disk(*directory);
  co_return co_await syncing;
}

Task<> rename_file(Reactor& reactor, std::string from, std::string to) {
  (void)reactor;
  Operation operation;
  operation.code = OperationCode::rename;
  operation.path = from.c_str();
  operation.path_to = to.c_str();
  auto renamed = co_await Io(operation);
  if (!renamed) co_return fail(renamed.error());
  co_return {};
}

Task<> unlink_file(Reactor& reactor, std::string path) {
  (void)reactor;
  Operation operation;
  operation.code = OperationCode::unlink;
  operation.path = path.c_str();
  auto unlinked = co_await Io(operation);
  if (!unlinked) co_return fail(unlinked.error());
  co_return {};
}

}  // namespace millrace
