#include "server/data_directory.hpp"

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "replica/follower.hpp"
#include "storage/node_meta_file.hpp"

namespace millrace {

namespace {

constexpr Nanos lock_retry = 20 * nanos_per_milli;
/// How long a new follower waits for its leader, and how often it asks.
constexpr Nanos leader_wait_max = 10 * nanos_per_second;
constexpr Nanos leader_retry = 200 * nanos_per_milli;

/// The I/O of one opening, a step a function; each says in `complaint` why it failed.
class Opening {
 public:
  Opening(Reactor& reactor, const ServerConfig& config, std::string& complaint)
      : reactor_(reactor), config_(config), complaint_(complaint) {}
  Reactor& reactor() { return reactor_; }

  Task<> lock(DataDirectory& directory);
  Task<> expect_ours();
  Task<> read_meta(DataDirectory& directory);

 private:
  Task<> open_folder(std::int32_t& descriptor);
  Task<> learn(NodeMetaWanted& wanted);
  Result<> compare(const NodeSlot& slot);
  Failure complain(Error error, std::string text) {
    complaint_ = std::move(text);
    return fail(error);
  }

  Reactor& reactor_;
  const ServerConfig& config_;
  std::string& complaint_;
  bool is_new_ = true;
};

Task<> Opening::open_folder(std::int32_t& descriptor) {
  Operation make{.code = OperationCode::make_directory, .mode = 0750, .path = config_.data.c_str()};
  auto made = co_await Io(make);
  if (!made && made.error() != Error::already_exists)
    co_return complain(made.error(), fmt::format("cannot make {}: {}", config_.data, error_text(made.error())));
  Operation open{
      .code = OperationCode::open_file, .open_flags = open_read | open_directory, .path = config_.data.c_str()};
  auto opened = co_await Io(open);
  if (!opened)
    co_return complain(opened.error(),
                       fmt::format("cannot open {} as a directory: {}", config_.data, error_text(opened.error())));
  descriptor = static_cast<std::int32_t>(*opened);
  // The folder's own name, always: an earlier life may have made it and died before this.
  std::string path = config_.data;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  std::size_t slash = path.rfind('/');
  std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  auto syncing = Directory::sync(reactor_, parent);
  auto synced = co_await syncing;
  // A parent one may not read was not made or changed by us.
  if (!synced && synced.error() != Error::permission_denied)
    co_return complain(synced.error(), fmt::format("cannot sync {}: {}", parent, error_text(synced.error())));
  co_return Result<>();
}

Task<> Opening::lock(DataDirectory& directory) {
  auto opening = open_folder(directory.lock_descriptor);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  Nanos began = reactor_.now();
  while (true) {
    const Nanos waited = reactor_.now() - began;
    Operation take{.code = OperationCode::lock, .descriptor = directory.lock_descriptor};
    auto taken = co_await Io(take);
    if (taken) break;
    if (taken.error() != Error::would_block)
      co_return complain(taken.error(), fmt::format("cannot lock {}: {}", config_.data, error_text(taken.error())));
    // The time a slow machine takes to lock what nobody holds is no wait.
    directory.lock_wait = reactor_.now() - began;
    if (waited >= lock_wait_max)
      co_return complain(
          Error::locked,
          fmt::format("another process has {} open; stop it first, or choose another --data", config_.data));
    Sleep pause(reactor_, reactor_.now() + lock_retry);
    co_await pause;
  }
  co_return Result<>();
}

/// A directory without node.meta is new only when it is empty.
Task<> Opening::expect_ours() {
  std::vector<DirectoryEntry> entries;
  Operation list{.code = OperationCode::read_directory, .path = config_.data.c_str(), .entries = &entries};
  auto listed = co_await Io(list);
  if (!listed)
    co_return complain(listed.error(), fmt::format("cannot list {}: {}", config_.data, error_text(listed.error())));
  const std::string* stranger = nullptr;
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == "node.meta") {
      is_new_ = false;
      co_return Result<>();
    }
    if (entry.name != "lost+found" && entry.name != "node.meta.tmp") stranger = &entry.name;
  }
  if (stranger != nullptr)
    co_return complain(Error::foreign,
                       fmt::format("{} is not a data directory of Millrace: it has no node.meta but holds {}; choose "
                                   "an empty directory, or restore node.meta from a copy",
                                   config_.data, *stranger));
  co_return Result<>();
}

/// A new copy is made with what its leader is.
Task<> Opening::learn(NodeMetaWanted& wanted) {
  const Address leader{config_.follow->host, config_.follow->port};
  const Nanos since = reactor_.now();
  while (true) {
    auto asking = ask_identity(reactor_, leader);
    auto identity = co_await asking;
    if (identity) {
      wanted.cluster_id = identity->cluster_id;
      wanted.log_id = identity->log_id;
      wanted.shard_count = identity->shard_count;
      wanted.day_offset_seconds = identity->day_offset_seconds;
      wanted.segment_bytes = identity->segment_bytes;
      const bool sound = wanted.shard_count >= 1 && wanted.shard_count <= server_shards_max &&
                         wanted.segment_bytes >= config_segment_bytes_min &&
                         wanted.segment_bytes <= config_segment_bytes_max && !wanted.log_id.is_zero();
      if (sound) co_return Result<>();
      co_return complain(Error::foreign,
                         fmt::format("{}:{} does not describe a log as a leader does", leader.host, leader.port));
    }
    const bool final = next_step(identity.error()) != NextStep::retry && identity.error() != Error::connection_refused;
    if (final || reactor_.now() - since > leader_wait_max)
      co_return complain(
          identity.error(),
          fmt::format("{} is new, and learns what to be from the leader, but {}:{} answers {}: {}", config_.data,
                      leader.host, leader.port, error_name(identity.error()), error_text(identity.error())));
    Sleep pause(reactor_, reactor_.now() + leader_retry);
    co_await pause;
  }
}

Task<> Opening::read_meta(DataDirectory& directory) {
  directory.path = config_.data;
  directory.node_meta_path = config_.data + "/node.meta";
  NodeMetaWanted wanted;
  wanted.shard_count = config_.shards != 0 ? config_.shards : 1;
  wanted.day_offset_seconds = config_.day_offset_seconds.value_or(0);
  wanted.segment_bytes = config_.segment_bytes != 0 ? config_.segment_bytes : config_segment_bytes_default;
  wanted.buffered = config_.buffered;
  wanted.only_if_new = true;
  if (config_.follow && is_new_) {
    auto learning = learn(wanted);
    auto learned = co_await learning;
    if (!learned) co_return fail(learned.error());
  }
  auto opening = open_node_meta(reactor_, directory.node_meta_path, wanted, complaint_);
  auto slot = co_await opening;
  bool no_direct_io = !slot && !config_.buffered &&
                      (slot.error() == Error::invalid_argument || slot.error() == Error::unsupported) &&
                      complaint_.find("--") == std::string::npos;
  if (no_direct_io)
    co_return complain(
        Error::unsupported,
        fmt::format("the filesystem of {} has no direct I/O; use another one, or pass --buffered (slower, "
                    "and named in the start line)",
                    config_.data));
  if (!slot) co_return fail(slot.error());
  directory.cluster_id = slot->cluster_id;
  directory.log_id = slot->log_id;
  directory.shard_count = slot->shard_count;
  directory.segment_bytes = slot->segment_bytes;
  directory.day_offset_seconds = slot->day_offset_seconds;
  co_return compare(*slot);
}

/// What is fixed when a directory is made must not be asked for differently later.
Result<> Opening::compare(const NodeSlot& slot) {
  if (config_.shards != 0 && config_.shards != slot.shard_count)
    return complain(
        Error::invalid_argument,
        fmt::format("{} has {} shards and --shards says {}: streams belong to shards by their names, so the "
                    "number is fixed when a directory is made",
                    config_.data, slot.shard_count, config_.shards));
  if (config_.day_offset_seconds && *config_.day_offset_seconds != slot.day_offset_seconds)
    return complain(
        Error::invalid_argument,
        fmt::format("{} cuts its days at {} and --day-offset says {}: fixed when a directory is made", config_.data,
                    format_day_offset(slot.day_offset_seconds), format_day_offset(*config_.day_offset_seconds)));
  if (config_.segment_bytes != 0 && config_.segment_bytes != slot.segment_bytes)
    return complain(
        Error::invalid_argument,
        fmt::format("{} has segments of {} and --segment-bytes says {}: fixed when a directory is made", config_.data,
                    format_byte_count(slot.segment_bytes), format_byte_count(config_.segment_bytes)));
  return {};
}

Task<> run_steps(Opening& steps, DataDirectory& directory) {
  auto locking = steps.lock(directory);
  auto locked = co_await locking;
  if (!locked) co_return fail(locked.error());
  auto looking = steps.expect_ours();
  auto ours = co_await looking;
  if (!ours) co_return fail(ours.error());
  auto reading = steps.read_meta(directory);
  co_return co_await reading;
}

}  // namespace

Task<DataDirectory> open_data_directory(Reactor& reactor, const ServerConfig& config, std::string& complaint) {
  Opening steps(reactor, config, complaint);
  DataDirectory directory;
  auto running = run_steps(steps, directory);
  auto result = co_await running;
  if (!result) {
    if (directory.lock_descriptor >= 0) reactor.close_later(directory.lock_descriptor);
    co_return fail(result.error());
  }
  co_return directory;
}

Task<std::uint32_t> peek_shard_count(Reactor& reactor, std::string directory) {
  auto peeking = peek_node_meta(reactor, directory + "/node.meta", true);
  const auto node = co_await peeking;
  co_return node ? node->shard_count : 0;
}

std::string shard_directory(const DataDirectory& directory, ShardIndex shard) {
  return fmt::format("{}/shard-{:02}", directory.path, shard.value);
}

}  // namespace millrace
