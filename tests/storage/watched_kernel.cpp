#include "tests/storage/watched_kernel.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "base/time.hpp"
#include "base/units.hpp"

namespace millrace::test {

namespace fs = std::filesystem;

namespace {

constexpr int held_polls_max = 40;

std::string key_from(const struct statx& found) {
  return std::to_string(found.stx_ino) + "/" + std::to_string(found.stx_btime.tv_sec) + "." +
         std::to_string(found.stx_btime.tv_nsec);
}

}  // namespace

WatchedKernel::WatchedKernel(std::unique_ptr<Kernel> inner, fs::path root, const fs::path& durable, Mischief mischief)
    : inner_(std::move(inner)), root_(std::move(root)), mischief_(mischief) {
  adopt("", durable.empty() ? root_ : durable);
}

WatchedKernel::FileKey WatchedKernel::key_of(int descriptor) {
  struct statx found{};
  MR_ASSERT(::statx(descriptor, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &found) == 0);
  return key_from(found);
}

WatchedKernel::FileKey WatchedKernel::key_of(const fs::path& path) {
  struct statx found{};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &found) != 0) return "gone";
  return key_from(found);
}

WatchedKernel::Listing WatchedKernel::list(const fs::path& folder) {
  Listing listing;
  for (const auto& entry : fs::directory_iterator(folder))
    listing[entry.path().filename()] = entry.is_directory() ? FileKey{} : key_of(entry.path());
  return listing;
}

std::vector<std::byte> WatchedKernel::content_of(int descriptor) {
  // By another descriptor: this one may want aligned memory.
  int reading = ::open(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), O_RDONLY | O_CLOEXEC);
  MR_ASSERT(reading >= 0);
  struct stat status{};
  MR_ASSERT(::fstat(reading, &status) == 0);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  ssize_t got = ::pread(reading, bytes.data(), bytes.size(), 0);
  ::close(reading);
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

/// What `durable` has of `folder` is durable: names that are still the same files, with the bytes it has.
void WatchedKernel::adopt(const fs::path& folder, const fs::path& durable) {
  Listing& names = durable_names_[folder.string()];
  for (const auto& entry : fs::directory_iterator(durable / folder)) {
    const fs::path name = folder / entry.path().filename();
    if (entry.is_directory()) {
      names[entry.path().filename()] = {};
      adopt(name, durable);
      continue;
    }
    const FileKey key = key_of(root_ / name);
    names[entry.path().filename()] = key;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const Bytes bytes = as_bytes(text.data(), text.size());
    durable_bytes_[key].assign(bytes.begin(), bytes.end());
  }
}

void WatchedKernel::write_folder(const std::string& folder, const fs::path& target) const {
  fs::create_directories(target / folder);
  auto names = durable_names_.find(folder);
  if (names == durable_names_.end()) return;
  for (const auto& [name, key] : names->second) {
    const fs::path path = fs::path(folder) / name;
    if (key.empty()) {
      write_folder(path.string(), target);
      continue;
    }
    std::ofstream file(target / path, std::ios::binary);
    auto bytes = durable_bytes_.find(key);
    if (bytes == durable_bytes_.end()) continue;
    file.write(reinterpret_cast<const char*>(bytes->second.data()), static_cast<std::streamsize>(bytes->second.size()));
  }
}

void WatchedKernel::write_shadow(const fs::path& target) const { write_folder("", target); }

bool WatchedKernel::is_of_segment(int descriptor) {
  std::error_code error;
  const std::string name = fs::read_symlink("/proc/self/fd/" + std::to_string(descriptor), error).filename();
  return name.starts_with("data0");
}

void WatchedKernel::begin_write(Operation& operation) {
  Flight flight{.length = operation.length,
                .hash = hash64(Bytes{operation.data, operation.length}),
                .durable = operation.durable};
  if (is_of_segment(operation.descriptor)) {
    const std::uint64_t number = ++group_writes_;
    flight.group = true;
    flight.failing = number == mischief_.fail_at;
    flight.held = mischief_.hold_every != 0 && number % mischief_.hold_every == 0;
    const bool shorten = mischief_.shorten_every != 0 && number % mischief_.shorten_every == 0;
    if (shorten && operation.length > block_bytes) operation.length -= static_cast<std::uint32_t>(block_bytes);
  }
  if (flight.failing) operation.code = OperationCode::nop;
  flights_[&operation] = flight;
}

void WatchedKernel::submit(Operation& operation) {
  if (operation.code == OperationCode::write) begin_write(operation);
  // The descriptor is gone when this completes, and its number may be somebody else's.
  if (operation.code == OperationCode::close) folders_.erase(operation.descriptor);
  inner_->submit(operation);
}

void WatchedKernel::ended_write(Operation& operation, Completion& completion) {
  const Flight flight = flights_.extract(&operation).mapped();
  operation.code = OperationCode::write;
  operation.length = flight.length;
  if (hash64(Bytes{operation.data, operation.length}) != flight.hash) ++torn_by_us_;
  if (flight.failing) completion.result = -EIO;
  if (!flight.durable || completion.result <= 0) return;
  std::vector<std::byte>& bytes = durable_bytes_[key_of(operation.descriptor)];
  const auto end = operation.offset + static_cast<std::uint64_t>(completion.result);
  if (bytes.size() < end) bytes.resize(end);
  std::memcpy(bytes.data() + operation.offset, operation.data, static_cast<std::size_t>(completion.result));
}

void WatchedKernel::ended(Operation& operation, Completion& completion) {
  if (flights_.contains(&operation)) return ended_write(operation, completion);
  if (completion.result < 0) return;
  if (operation.code == OperationCode::open_file && (operation.open_flags & open_directory) != 0) {
    const std::string path = fs::path(operation.path).lexically_relative(root_).string();
    folders_[completion.result] = path == "." ? "" : path;
  }
  if (operation.code != OperationCode::sync) return;
  auto folder = folders_.find(operation.descriptor);
  if (folder != folders_.end()) durable_names_[folder->second] = list(root_ / folder->second);
  else durable_bytes_[key_of(operation.descriptor)] = content_of(operation.descriptor);
}

/// True when it is kept for later.
bool WatchedKernel::hold(const Completion& completion) {
  auto flight = flights_.find(completion.operation);
  if (flight == flights_.end() || !flight->second.held) return false;
  flight->second.held = false;
  held_.push_back(completion);
  held_polls_ = 0;
  return true;
}

std::size_t WatchedKernel::release(std::span<Completion> target, std::size_t count, bool all) {
  while (all && !held_.empty() && count < target.size()) {
    target[count] = held_.front();
    held_.erase(held_.begin());
    ended(*target[count].operation, target[count]);
    ++count;
  }
  if (held_.empty()) overtaken_ = false;
  return count;
}

std::size_t WatchedKernel::poll(std::span<Completion> target, Nanos deadline) {
  if (!held_.empty() && deadline != wait_never) deadline = std::min(deadline, inner_->now() + nanos_per_milli);
  const bool overtaken_before = overtaken_;
  const std::size_t got = inner_->poll(target, deadline);
  std::size_t count = 0;
  for (std::size_t i = 0; i < got; ++i) {
    Completion completion = target[i];
    if (hold(completion)) continue;
    const bool group =
        flights_.contains(completion.operation) && flights_.at(completion.operation).group && completion.result > 0;
    ended(*completion.operation, completion);
    if (group && !held_.empty()) overtaken_ = true;
    target[count++] = completion;
  }
  // Not in the poll that brought the later one: what is above gets a turn to draw its conclusions.
  return release(target, count, overtaken_before || ++held_polls_ > held_polls_max);
}

}  // namespace millrace::test
