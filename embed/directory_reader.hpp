// Reading a data directory without a server: a copy, a stopped one, or one that a server is appending to. The same cursor as
// over the network: by offset, time, (day, id), earliest, latest; one stream or all.
//
// Nothing is written and no lock is taken. Of a live log exactly what recovery would keep as known durable is read: closed
// segments, groups below a later group's durable end, whole valid groups, and the tail's slots. The segment's header is checked again
// after each read, since a live server reuses expired files.
//
// Thread: any one. Runs its own Reactor on the Kernel given (tests give the simulated one).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/reader.hpp"

namespace millrace {

struct DirectoryOptions {
  std::string directory;  // the data directory: node.meta and shard-NN
  bool buffered = false;  // for filesystems without direct I/O
  std::function<void(std::string_view step, std::uint64_t done, std::uint64_t total)> progress;  // may be empty
};

struct DirectoryStream {
  StreamId id{};
  std::string name;
  ShardIndex shard{};
  Offset first_offset{};  // first readable
  Offset next_offset{};
  Day day{};  // of its last record
};

struct DirectoryShard {
  ShardIndex shard{};
  Day first_day{};
  Day last_day{};
  std::uint64_t days = 0;
  std::uint64_t segments = 0;
  std::uint64_t log_bytes = 0;
  Lsn first_lsn{};
  Lsn durable{};  // every batch with a smaller lsn can be read
  Epoch epoch{};
  Day finished{};                    // last complete day; 0 = none
  std::uint64_t runs_in_memory = 0;  // segments whose index is kept in memory; the others' is on disk
};

class DirectoryReader {
 public:
  /// Errors: not_found (no node.meta), unsupported_version, foreign, corrupt, permission_denied, unsupported (no direct I/O), io_failed.
  /// `diagnosis` gets one sentence with the path when it fails. `reactor` and `diagnosis` outlive the task.
  static Task<std::unique_ptr<DirectoryReader>> open(Reactor& reactor, DirectoryOptions options,
                                                     std::string& diagnosis);
  ~DirectoryReader();
  DirectoryReader(const DirectoryReader&) = delete;
  DirectoryReader& operator=(const DirectoryReader&) = delete;
  Reactor& reactor() { return reactor_; }

  std::uint32_t shard_count() const;
  std::int32_t day_offset_seconds() const;
  const std::vector<DirectoryShard>& shards() const;
  /// Every stream with its bounds, sorted by name; first_offset as trims left it (first_readable asks the index).
  std::vector<DirectoryStream> streams() const;
  /// unknown_stream when there is none of that name.
  Result<DirectoryStream> find_stream(std::string_view name) const;

  /// The first offset that trims and retention left.
  Task<Offset> first_readable(StreamId stream);

  /// A cursor of one stream, or of all streams of a shard. Following looks at the directory again every 20 ms (a live server
  /// tells nobody). Valid as long as this. Errors: unknown_stream, invalid_argument (no such shard).
  Result<std::unique_ptr<Reader>> read_stream(StreamId stream, const Seek& from, bool follow);
  Result<std::unique_ptr<Reader>> read_shard(ShardIndex shard, const Seek& from, bool follow);

  /// Looks at the directory again: what became durable since is readable.
  Task<> refresh();

 private:
  struct Impl;
  DirectoryReader(Reactor& reactor, std::shared_ptr<Impl> impl);
  static Task<> refresh_all(std::shared_ptr<Impl> impl);
  static Task<> poll(Reactor& reactor, std::shared_ptr<Impl> impl);
  void start_polling();

  Reactor& reactor_;
  std::shared_ptr<Impl> impl_;  // shared with the task that polls
};

}  // namespace millrace
