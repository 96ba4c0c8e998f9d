// The file node.meta: who this node is, and what this shard has promised in it (epochs, drops). Every change is durable
// before the task that makes it ends.
//
// The server creates the file once, before any shard opens its log; then each shard writes only its own two blocks.
// Thread: the reactor's of each shard.
#pragma once

#include <cstdint>
#include <string>

#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/node_meta.hpp"

namespace millrace {

struct NodeMetaWanted {
  std::uint32_t shard_count = 1;
  std::int32_t day_offset_seconds = 0;
  std::uint64_t segment_bytes = 128 * MiB;
  bool buffered = false;
  bool only_if_new = false;  // what is there already is not compared with the above
  Id128 cluster_id{};        // of the leader to follow; zero = new ones are drawn
  Id128 log_id{};
};

/// Reads node.meta, or creates it durably with `wanted` when there is none; what is there already wins, and a shard count or
/// day offset that differs is refused (invalid_argument) with the reason in `diagnosis`. Others: corrupt, unsupported_version.
Task<NodeSlot> open_node_meta(Reactor& reactor, std::string path, NodeMetaWanted wanted, std::string& diagnosis);

/// Who a directory belongs to, read without judging or healing it. Errors: those of opening and reading, corrupt,
/// unsupported_version.
Task<NodeSlot> peek_node_meta(Reactor& reactor, std::string path, bool buffered);

class ShardMeta {
 public:
  /// Errors: not_found, corrupt, unsupported_version; the cure is in `diagnosis`.
  static Task<ShardMeta> open(Reactor& reactor, std::string path, ShardIndex shard, bool buffered,
                              std::string& diagnosis);

  const NodeSlot& node() const { return node_; }
  const ShardSlot& slot() const { return slot_; }
  Reactor& reactor() const { return file_.reactor(); }

  /// An epoch above every earlier one, and above `above` (the newest the log itself shows), is this node's, durably.
  Task<Epoch> take_epoch(Epoch above, Day last_day);
  /// The epoch of the leader that this node follows, durably; it is never led here. Lower ones change nothing.
  Task<> accept_epoch(Epoch epoch);
  /// What this node is from now on, durably; an epoch below the known one changes that one not.
  Task<> become(NodePart part, Epoch epoch, std::uint64_t promoted_from);
  /// What is about to be dropped, so that a crash in the middle is finished and not wondered at. Empty = done.
  Task<> write_drop_intent(Lsn first_kept, std::vector<DropName> names);

 private:
  Task<> write(ShardSlot slot);
  Task<> write_copies(ShardSlot slot);

  NodeSlot node_;
  ShardSlot slot_;
  unsigned write_next_ = 0;
  bool writing_ = false;  // one change at a time
  File file_;
  AlignedMemory block_;
};

}  // namespace millrace
