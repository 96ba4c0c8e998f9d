// What stands beside the log: the state file, segments prepared ahead, what recoveries took away. None of it proves anything.
#include <algorithm>

#include "storage/names.hpp"
#include "storage/state_file.hpp"
#include "storage/verify_walk.hpp"

namespace millrace {

Task<> VerifyWalk::look_aside() {
  auto stating = look_at_state();
  auto stated = co_await stating;
  if (!stated) co_return fail(stated.error());
  auto pooling = look_at_pool();
  auto pooled = co_await pooling;
  if (!pooled) co_return fail(pooled.error());
  auto looking = look_at_quarantine();
  co_return co_await looking;
}

Task<> VerifyWalk::look_at_state() {
  const std::string path = state_path(shard_directory_);
  auto asking = Directory::status_of(reactor_, path);
  auto status = co_await asking;
  if (!status) co_return Result<>{};  // none was written yet
  auto opening = StateFile::open(reactor_, path, node_.log_id, options_.buffered);
  auto state = co_await opening;
  if (!state) co_return fail(state.error());
  note_read(path, status->size);
  if ((*state)->newest()) ++report_.state_files;
  else
    visitor_.note(relative(path) +
                  ": neither of its slots verifies; the next start reads the tables from the segments");
  co_return Result<>{};
}

/// Where the file's first byte that is not zero stands; its size when all are.
Task<std::uint64_t> VerifyWalk::first_not_zero(std::string path) {
  auto opening = open_file(path);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  std::uint64_t at = 0;
  for (;;) {
    auto reading = file->read(at, buffer_.bytes());
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    const Bytes got = Bytes(buffer_.bytes()).first(*read);
    note_read(path, *read);
    if (!all_zero(got)) {
      const auto found = std::ranges::find_if(got, [](std::byte byte) { return byte != std::byte{0}; });
      co_return at + static_cast<std::uint64_t>(found - got.begin());
    }
    at += *read;
    if (*read < buffer_.size()) co_return at;
  }
}

Task<> VerifyWalk::look_at_pool() {
  auto listing = Directory::list(reactor_, pool_path(shard_directory_));
  auto entries = co_await listing;
  if (!entries && entries.error() == Error::not_found) co_return Result<>{};
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    if (entry.is_directory || entry.name.ends_with(".tmp")) continue;  // not prepared yet
    const std::string path = pool_path(shard_directory_) + "/" + entry.name;
    auto looking = first_not_zero(path);
    auto first = co_await looking;
    // Taken for the log, or away, while it was read: then it has another name.
    auto asking = Directory::status_of(reactor_, path);
    auto status = co_await asking;
    if (!status) continue;
    if (!first) co_return fail(first.error());
    if (*first >= status->size) ++report_.pool_segments;
    else visitor_.note(relative(path) + ": byte " + std::to_string(*first) + " of a prepared segment is not zero");
  }
  co_return Result<>{};
}

Task<> VerifyWalk::look_at_quarantine() {
  auto listing = Directory::list(reactor_, quarantine_path(shard_directory_));
  auto entries = co_await listing;
  if (!entries && entries.error() == Error::not_found) co_return Result<>{};
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    auto asking = Directory::status_of(reactor_, quarantine_path(shard_directory_) + "/" + entry.name);
    auto status = co_await asking;
    if (!status) continue;
    ++report_.quarantine_files;
    report_.quarantine_bytes += status->size;
  }
  co_return Result<>{};
}

}  // namespace millrace
