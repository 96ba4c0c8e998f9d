// node.meta: who this node is, and per shard which epochs it led. Two alternating slots for each; here are their bytes and
// the choice between two. Layout: storage/FORMAT.md, "node.meta". Pure; any thread.
#pragma once

#include <array>
#include <span>

#include "storage/file_head.hpp"

namespace millrace {

inline constexpr std::uint32_t node_slot_magic = 0x314e524d;   // "MRN1"
inline constexpr std::uint32_t shard_slot_magic = 0x3148524d;  // "MRH1"
inline constexpr std::size_t epochs_led_max = 64;
inline constexpr std::size_t drop_names_max = 128;
inline constexpr std::uint32_t shard_count_max = 1024;

struct NodeSlot {
  FileHead head{.magic = node_slot_magic};
  std::uint64_t sequence = 0;
  Id128 cluster_id{};
  Id128 log_id{};
  std::uint32_t shard_count = 0;
  std::int32_t day_offset_seconds = 0;
  std::uint64_t segment_bytes = 0;
  Nanos created = 0;  // wall time
};
static_assert(sizeof(NodeSlot) == 104);

/// Epochs first..last, both led by this node.
struct EpochRange {
  Epoch first{};
  Epoch last{};
  constexpr bool operator==(const EpochRange&) const = default;
};

struct DropName {
  Day day{};
  std::uint32_t number = 0;
  constexpr bool operator==(const DropName&) const = default;
};

/// A node's part in the copying of a log.
enum class NodePart : std::uint32_t {
  leads = 0,
  follows = 1,  // the epoch is that of the leader it follows
  deposed = 2,  // the epoch is that of the leader that took over: nothing is appended here
};

struct ShardSlot {
  FileHead head{.magic = shard_slot_magic};
  std::uint64_t sequence = 0;
  ShardIndex shard{};
  std::uint32_t epochs_led_count = 0;
  Epoch epoch{};          // the current one
  Day last_day{};         // last day accepted
  NodePart part{};        // whose the epoch is
  Lsn drop_first_kept{};  // drop intent; 0 = none
  std::uint32_t drop_count = 0;
  std::uint32_t reserved_a = 0;
  std::uint64_t promoted_from =
      0;  // hash of the address of the leader it followed when it was promoted; 0 = it was not
  std::uint8_t reserved_b[32] = {};
  std::array<EpochRange, epochs_led_max> epochs_led{};  // ascending
  std::uint8_t reserved_c[896] = {};
  std::array<DropName, drop_names_max> drops{};
  std::uint8_t reserved_d[1024] = {};
};
static_assert(sizeof(ShardSlot) == block_bytes && std::is_trivially_copyable_v<ShardSlot>);
static_assert(offsetof(ShardSlot, epochs_led) == 128 && offsetof(ShardSlot, drops) == 2048);

/// An epoch is term * epoch_term + opening: a node that followed and leads now begins the next term, so that whatever its old
/// leader takes by being started again lies below.
inline constexpr std::uint64_t epoch_term = std::uint64_t{1} << 32;
constexpr Epoch next_term(Epoch epoch) { return Epoch{(epoch.value / epoch_term + 1) * epoch_term}; }

/// Blocks of node.meta: node slots at 0 and 1, shard k's at 2+2k and 3+2k.
constexpr std::uint64_t node_slot_offset(unsigned slot) { return slot * block_bytes; }
constexpr std::uint64_t shard_slot_offset(ShardIndex shard, unsigned slot) {
  return (2 + 2 * std::uint64_t{shard.value} + slot) * block_bytes;
}
constexpr std::uint64_t node_meta_bytes(std::uint32_t shards) { return (2 + 2 * std::uint64_t{shards}) * block_bytes; }

/// Errors: corrupt, unsupported_version.
Result<NodeSlot> read_node_slot(Bytes block, OpenFor purpose);
void write_node_slot(NodeSlot& slot, MutableBytes block);
Result<ShardSlot> read_shard_slot(Bytes block, OpenFor purpose);
void write_shard_slot(ShardSlot& slot, MutableBytes block);

template <class Slot>
struct ChosenSlot {
  Slot value;
  unsigned write_next = 0;  // 0 or 1: where the next version goes
};
/// Of two slots the valid one with the higher sequence. Both bad: corrupt. A slot of a newer version: unsupported_version,
/// whatever the other says.
Result<ChosenSlot<NodeSlot>> choose_node_slot(Bytes slot0, Bytes slot1, OpenFor purpose);
Result<ChosenSlot<ShardSlot>> choose_shard_slot(Bytes slot0, Bytes slot1, ShardIndex shard, OpenFor purpose);

/// The epochs led, as a span.
inline std::span<const EpochRange> epochs_led(const ShardSlot& slot) {
  return std::span(slot.epochs_led).first(slot.epochs_led_count);
}
/// Makes `epoch` the current one and notes that this node leads it: extends the last range when it is adjacent, else adds a
/// range and lets the oldest leave when there are 64. `epoch` is above slot.epoch.
void take_epoch(ShardSlot& slot, Epoch epoch);
bool epoch_led(std::span<const EpochRange> led, Epoch epoch);

}  // namespace millrace
