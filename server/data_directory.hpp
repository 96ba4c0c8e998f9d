// The data directory as a whole: one process at a time, and what node.meta says of it. A new directory gets its identity
// here; logs of shards are opened after this, under the same lock.
//
// Thread: the reactor's. The lock ends with the descriptor.
#pragma once

#include <cstdint>
#include <string>

#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "server/config.hpp"

namespace millrace {

/// How long a start waits for another process to let go of the directory.
inline constexpr Nanos lock_wait_max = 5'000'000'000;

struct DataDirectory {
  std::string path;
  std::string node_meta_path;
  Id128 cluster_id{};
  Id128 log_id{};
  std::uint32_t shard_count = 0;
  std::uint64_t segment_bytes = 0;
  std::int32_t day_offset_seconds = 0;
  bool created = false;
  Nanos lock_wait = 0;
  std::int32_t lock_descriptor = -1;  // closing it lets go
};

/// Locks, then reads or creates node.meta. On an error `complaint` is one sentence naming cause and cure, and nothing that
/// was there has been changed. `reactor`, `config` and `complaint` outlive the task.
Task<DataDirectory> open_data_directory(Reactor& reactor, const ServerConfig& config, std::string& complaint);

/// How many shards the directory has, without a lock and without judging it; 0 when that cannot be told.
Task<std::uint32_t> peek_shard_count(Reactor& reactor, std::string directory);

/// "DIR/shard-00"
std::string shard_directory(const DataDirectory& directory, ShardIndex shard);

}  // namespace millrace
