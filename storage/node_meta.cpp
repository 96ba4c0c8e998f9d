#include "storage/node_meta.hpp"

#include <algorithm>

namespace millrace {

Result<NodeSlot> read_node_slot(Bytes block, OpenFor purpose) {
  Result<NodeSlot> read = read_block<NodeSlot>(block, node_slot_magic, purpose);
  if (!read) return read;
  if (read->shard_count == 0 || read->shard_count > shard_count_max || read->sequence == 0) return fail(Error::corrupt);
  return read;
}

void write_node_slot(NodeSlot& slot, MutableBytes block) {
  MR_ASSERT(slot.sequence != 0 && slot.shard_count != 0 && slot.shard_count <= shard_count_max);
  write_block(slot, block);
}

Result<ShardSlot> read_shard_slot(Bytes block, OpenFor purpose) {
  Result<ShardSlot> read = read_block<ShardSlot>(block, shard_slot_magic, purpose);
  if (!read) return read;
  if (read->sequence == 0 || read->epochs_led_count > epochs_led_max || read->drop_count > drop_names_max ||
      !all_zero(as_bytes(read->reserved_b, sizeof(read->reserved_b))) ||
      !all_zero(as_bytes(read->reserved_c, sizeof(read->reserved_c))) ||
      !all_zero(as_bytes(read->reserved_d, sizeof(read->reserved_d))) || read->reserved_a != 0 ||
      read->part > NodePart::deposed)
    return fail(Error::corrupt);
  Epoch before{};
  for (const EpochRange& range : epochs_led(*read)) {
    if (range.first <= before || range.last < range.first || range.last > read->epoch) return fail(Error::corrupt);
    before = range.last;
  }
  return read;
}

void write_shard_slot(ShardSlot& slot, MutableBytes block) {
  MR_ASSERT(slot.sequence != 0 && slot.epochs_led_count <= epochs_led_max && slot.drop_count <= drop_names_max);
  write_block(slot, block);
}

namespace {

template <class Slot>
Result<ChosenSlot<Slot>> choose(const Result<Slot>& a, const Result<Slot>& b) {
  for (const Result<Slot>* slot : {&a, &b})
    if (!*slot && slot->error() == Error::unsupported_version) return fail(Error::unsupported_version);
  if (!a && !b) return fail(Error::corrupt);
  if (!b || (a && a->sequence > b->sequence)) return ChosenSlot<Slot>{*a, 1};
  return ChosenSlot<Slot>{*b, 0};
}

}  // namespace

Result<ChosenSlot<NodeSlot>> choose_node_slot(Bytes slot0, Bytes slot1, OpenFor purpose) {
  return choose(read_node_slot(slot0, purpose), read_node_slot(slot1, purpose));
}

Result<ChosenSlot<ShardSlot>> choose_shard_slot(Bytes slot0, Bytes slot1, ShardIndex shard, OpenFor purpose) {
  auto read = [&](Bytes block) -> Result<ShardSlot> {
    Result<ShardSlot> slot = read_shard_slot(block, purpose);
    if (slot && slot->shard != shard) return fail(Error::corrupt);
    return slot;
  };
  return choose(read(slot0), read(slot1));
}

void take_epoch(ShardSlot& slot, Epoch epoch) {
  MR_ASSERT(epoch > slot.epoch && slot.epochs_led_count <= epochs_led_max);
  slot.epoch = epoch;
  std::uint32_t& count = slot.epochs_led_count;
  if (count > 0 && slot.epochs_led[count - 1].last.next() == epoch) {
    slot.epochs_led[count - 1].last = epoch;
    return;
  }
  if (count == epochs_led_max) {
    std::copy(slot.epochs_led.begin() + 1, slot.epochs_led.end(), slot.epochs_led.begin());
    --count;
  }
  slot.epochs_led[count++] = {epoch, epoch};
}

bool epoch_led(std::span<const EpochRange> led, Epoch epoch) {
  return std::ranges::any_of(led, [&](const EpochRange& r) { return r.first <= epoch && epoch <= r.last; });
}

}  // namespace millrace
