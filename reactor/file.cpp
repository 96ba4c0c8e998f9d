#include "reactor/file.hpp"

#include <algorithm>
#include <utility>

#include "base/units.hpp"

namespace millrace {

namespace {

// One operation moves at most this much, so that a length always fits a completion's result.
constexpr std::size_t transfer_bytes_max = 1 * GiB;

Operation path_operation(OperationCode code, const std::string& path) {
  Operation operation;
  operation.code = code;
  operation.path = path.c_str();
  return operation;
}

Result<> without_value(const Result<std::uint32_t>& result) {
  if (!result) return fail(result.error());
  return {};
}

/// An operation whose answer is only that it was done.
Task<> perform([[maybe_unused]] Reactor& reactor, Operation operation) {
  auto done = co_await Io(operation);
  co_return without_value(done);
}

/// The same on names, which live as long as it.
Task<> perform_on([[maybe_unused]] Reactor& reactor, Operation operation, std::string path, std::string path_to = {}) {
  operation.path = path.c_str();
  operation.path_to = path_to.c_str();
  auto done = co_await Io(operation);
  co_return without_value(done);
}

}  // namespace

File::File(File&& other) noexcept
    : reactor_(std::exchange(other.reactor_, nullptr)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  if (this == &other) return *this;
  if (is_open()) reactor_->close_later(descriptor_);
  reactor_ = std::exchange(other.reactor_, nullptr);
  descriptor_ = std::exchange(other.descriptor_, -1);
  return *this;
}

File::~File() {
  if (is_open()) reactor_->close_later(descriptor_);
}

Operation File::operation_of(OperationCode code) const {
  MR_ASSERT(is_open());
  Operation operation;
  operation.code = code;
  operation.descriptor = descriptor_;
  return operation;
}

Task<File> File::open(Reactor& reactor, std::string path, unsigned flags, std::uint32_t mode) {
  Operation operation = path_operation(OperationCode::open_file, path);
  operation.open_flags = static_cast<std::uint16_t>(flags);
  operation.mode = mode;
  auto opened = co_await Io(operation);
  if (!opened) co_return fail(opened.error());
  co_return File(reactor, static_cast<std::int32_t>(*opened));
}

Task<std::uint32_t> File::read(std::uint64_t offset, MutableBytes target) {
  MR_ASSERT(target.size() <= transfer_bytes_max);
  std::uint32_t done = 0;
  int standstills = 0;
  while (done < target.size()) {
    Operation operation = operation_of(OperationCode::read);
    operation.offset = offset + done;
    operation.data = target.data() + done;
    operation.length = static_cast<std::uint32_t>(target.size()) - done;
    auto got = co_await Io(operation);
    if (!got) {
      if (got.error() == Error::would_block) continue;  // interrupted
      co_return fail(got.error());
    }
    if (*got == 0) break;
    done += *got;
    if (done == target.size() || is_aligned(done, block_bytes) || !is_aligned(target.size(), block_bytes)) continue;
    // A read of whole blocks that stops inside one has met the end of the file, or was cut short: the file's size tells.
    auto asking = status();
    auto now = co_await asking;
    if (!now) co_return fail(now.error());
    if (offset + done >= now->size) break;
    if (++standstills == standstills_max) co_return fail(Error::io_failed);
    done = static_cast<std::uint32_t>(align_down(done, block_bytes));  // going on inside a block would be misaligned
  }
  co_return done;
}

Task<> File::read_exact(std::uint64_t offset, MutableBytes target) {
  auto reading = read(offset, target);
  auto got = co_await reading;
  if (!got) co_return fail(got.error());
  if (*got < target.size()) co_return fail(Error::out_of_range);
  co_return Result<>{};
}

Task<> File::write_exact(std::uint64_t offset, Bytes source, bool durable) {
  std::size_t done = 0;
  int standstills = 0;
  while (done < source.size()) {
    Operation operation = operation_of(OperationCode::write);
    operation.offset = offset + done;
    operation.data = read_only(source.data() + done);
    operation.length = static_cast<std::uint32_t>(std::min(source.size() - done, transfer_bytes_max));
    operation.durable = durable;
    auto put = co_await Io(operation);
    if (!put && put.error() != Error::would_block) co_return fail(put.error());
    std::size_t written = put ? *put : 0;
    if (written < operation.length) written = align_down(written, block_bytes);  // direct files go on at a block only
    if (written == 0 && ++standstills == standstills_max) co_return fail(Error::io_failed);
    done += written;
  }
  co_return Result<>{};
}

Task<> File::sync(bool data_only) {
  Operation operation = operation_of(OperationCode::sync);
  operation.data_only = data_only;
  return perform(*reactor_, operation);
}

Operation File::range_operation(OperationCode code, std::uint64_t offset, std::uint64_t extent) const {
  Operation operation = operation_of(code);
  operation.offset = offset;
  operation.extent = extent;
  return operation;
}

Task<> File::allocate(std::uint64_t offset, std::uint64_t length) {
  return perform(*reactor_, range_operation(OperationCode::allocate, offset, length));
}

Task<> File::write_zeroes(std::uint64_t offset, std::uint64_t length) {
  return perform(*reactor_, range_operation(OperationCode::write_zeroes, offset, length));
}

Task<> File::truncate(std::uint64_t size) {
  return perform(*reactor_, range_operation(OperationCode::truncate, 0, size));
}

Task<FileStatus> File::status() {
  FileStatus status;
  Operation operation = operation_of(OperationCode::stat_file);
  operation.status = &status;
  auto done = co_await Io(operation);
  if (!done) co_return fail(done.error());
  co_return status;
}

Task<std::vector<std::uint64_t>> File::borders(std::uint64_t length) {
  std::vector<std::uint64_t> borders;
  Operation operation = range_operation(OperationCode::map_file, 0, length);
  operation.borders = &borders;
  auto done = co_await Io(operation);
  if (!done) co_return fail(done.error());
  co_return std::move(borders);
}

Task<> File::lock() {
  Operation operation = operation_of(OperationCode::lock);
  auto done = co_await Io(operation);
  if (!done && done.error() == Error::would_block) co_return fail(Error::locked);
  co_return without_value(done);
}

Task<> File::close() {
  Operation operation = operation_of(OperationCode::close);
  descriptor_ = -1;
  return perform(*reactor_, operation);
}

Task<> Directory::make(Reactor& reactor, std::string path) {
  Operation operation;
  operation.code = OperationCode::make_directory;
  operation.mode = 0755;
  return perform_on(reactor, operation, std::move(path));
}

Task<std::vector<DirectoryEntry>> Directory::list([[maybe_unused]] Reactor& reactor, std::string path) {
  std::vector<DirectoryEntry> entries;
  Operation operation = path_operation(OperationCode::read_directory, path);
  operation.entries = &entries;
  auto done = co_await Io(operation);
  if (!done) co_return fail(done.error());
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  co_return std::move(entries);
}

Task<> Directory::sync(Reactor& reactor, std::string path) {
  auto opening = File::open(reactor, std::move(path), open_read | open_directory);
  auto directory = co_await opening;
  if (!directory) co_return fail(directory.error());
  auto syncing = directory->sync(false);
  auto synced = co_await syncing;
  auto closing = directory->close();
  auto closed = co_await closing;
  if (!synced) co_return fail(synced.error());
  co_return closed;
}

Task<> Directory::rename_file(Reactor& reactor, std::string from, std::string to) {
  Operation operation;
  operation.code = OperationCode::rename;
  return perform_on(reactor, operation, std::move(from), std::move(to));
}

Task<> Directory::remove_file(Reactor& reactor, std::string path) {
  Operation operation;
  operation.code = OperationCode::unlink;
  return perform_on(reactor, operation, std::move(path));
}

Task<> Directory::remove(Reactor& reactor, std::string path) {
  Operation operation;
  operation.code = OperationCode::unlink;
  operation.remove_directory = true;
  return perform_on(reactor, operation, std::move(path));
}

Task<FileStatus> Directory::status_of([[maybe_unused]] Reactor& reactor, std::string path) {
  FileStatus status;
  Operation operation = path_operation(OperationCode::stat_file, path);
  operation.status = &status;
  auto done = co_await Io(operation);
  if (!done) co_return fail(done.error());
  co_return status;
}

Task<FilesystemStatus> Directory::filesystem_of([[maybe_unused]] Reactor& reactor, std::string path) {
  FilesystemStatus status;
  Operation operation = path_operation(OperationCode::stat_filesystem, path);
  operation.filesystem = &status;
  auto done = co_await Io(operation);
  if (!done) co_return fail(done.error());
  co_return status;
}

}  // namespace millrace
