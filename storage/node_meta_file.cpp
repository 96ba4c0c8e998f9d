#include "storage/node_meta_file.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/names.hpp"
#include "storage/read_around.hpp"

namespace millrace {

namespace {

constexpr std::string_view cure_both_bad =
    ": neither of the two copies in it verifies. Nothing was touched. Restore node.meta from a backup of this "
    "directory; the "
    "data itself is intact and can be read with `millrace read --data`.";

Task<> create_node_meta(Reactor& reactor, std::string path, NodeMetaWanted wanted) {
  NodeSlot node;
  node.sequence = 1;
  node.cluster_id = {reactor.random().next(), reactor.random().next()};
  node.log_id = {reactor.random().next(), reactor.random().next()};
  if (!wanted.log_id.is_zero()) {
    node.cluster_id = wanted.cluster_id;
    node.log_id = wanted.log_id;
  }
  node.shard_count = wanted.shard_count;
  node.day_offset_seconds = wanted.day_offset_seconds;
  node.segment_bytes = wanted.segment_bytes;
  node.created = reactor.wall_now();
  AlignedMemory image(node_meta_bytes(wanted.shard_count));
  // Both copies from the first day on: one bad block must never be the end of a directory.
  for (unsigned copy = 0; copy < 2; ++copy) {
    node.sequence = 1 + copy;
    write_node_slot(node, image.bytes().subspan(node_slot_offset(copy)));
    for (std::uint32_t shard = 0; shard < wanted.shard_count; ++shard) {
      ShardSlot slot;
      slot.sequence = 1 + copy;
      slot.shard = ShardIndex{shard};
      write_shard_slot(slot, image.bytes().subspan(shard_slot_offset(slot.shard, copy)));
    }
  }
  const std::string temporary = path + ".tmp";
  auto opening =
      File::open(reactor, temporary, open_write | open_create | open_truncate | direct_flag(wanted.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto writing = file->write_exact(0, image.bytes(), true);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto renaming = Directory::rename_file(reactor, temporary, path);
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor, parent_path(path));
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  co_return Result<>{};
}

// A copy that does not verify is written anew while the other one still does.
Task<> heal_node(File& file, Bytes blocks, ChosenSlot<NodeSlot> chosen) {
  const bool whole = read_node_slot(blocks.first(block_bytes), OpenFor::writing) &&
                     read_node_slot(blocks.subspan(block_bytes), OpenFor::writing);
  if (whole) co_return Result<>{};
  const AlignedMemory block(block_bytes);
  ++chosen.value.sequence;
  write_node_slot(chosen.value, block.bytes());
  auto writing = file.write_exact(node_slot_offset(chosen.write_next), block.bytes(), true);
  auto written = co_await writing;
  co_return std::move(written);
}

Task<NodeSlot> read_node(File& file, std::string path, bool heal, std::string& diagnosis) {
  AlignedMemory blocks(2 * block_bytes);
  auto reading = read_around(file, 0, blocks.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (read->unreadable == 2) co_return fail(Error::io_failed);
  Result<ChosenSlot<NodeSlot>> chosen = fail(Error::corrupt);
  if (read->bytes == blocks.size())
    chosen = choose_node_slot(blocks.bytes().first(block_bytes), blocks.bytes().subspan(block_bytes), OpenFor::writing);
  if (!chosen) {
    if (chosen.error() == Error::unsupported_version)
      diagnosis = path + ": was written by a newer millrace. Nothing was touched. Use that version.";
    else diagnosis = path + std::string(cure_both_bad);
    co_return fail(chosen.error());
  }
  if (heal) {
    auto healing = heal_node(file, blocks.bytes(), *chosen);
    auto healed = co_await healing;
    if (!healed) co_return fail(healed.error());
  }
  co_return chosen->value;
}

}  // namespace

Task<NodeSlot> peek_node_meta(Reactor& reactor, std::string path, bool buffered) {
  auto opening = File::open(reactor, path, open_read | direct_flag(buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  AlignedMemory blocks(2 * block_bytes);
  auto reading = read_around(*file, 0, blocks.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (read->bytes != blocks.size()) co_return fail(Error::corrupt);
  const auto slot =
      choose_node_slot(blocks.bytes().first(block_bytes), blocks.bytes().subspan(block_bytes), OpenFor::reading);
  if (!slot) co_return fail(slot.error());
  co_return slot->value;
}

Task<NodeSlot> open_node_meta(Reactor& reactor, std::string path, NodeMetaWanted wanted, std::string& diagnosis) {
  MR_ASSERT(wanted.shard_count >= 1 && wanted.shard_count <= shard_count_max);
  auto opening = File::open(reactor, path, open_read | open_write | direct_flag(wanted.buffered));
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) {
    auto creating = create_node_meta(reactor, path, wanted);
    auto created = co_await creating;
    if (!created) {
      diagnosis = path + ": cannot be created: " + std::string(error_text(created.error()));
      co_return fail(created.error());
    }
    auto again = File::open(reactor, path, open_read | open_write | direct_flag(wanted.buffered));
    file = co_await again;
  }
  if (!file) {
    diagnosis = path + ": cannot be opened: " + std::string(error_text(file.error()));
    co_return fail(file.error());
  }
  auto reading = read_node(*file, path, true, diagnosis);
  auto node = co_await reading;
  if (!node) co_return fail(node.error());
  if (wanted.only_if_new) co_return *node;
  if (node->shard_count != wanted.shard_count) {
    diagnosis = path + ": this directory has " + std::to_string(node->shard_count) + " shards, " +
                std::to_string(wanted.shard_count) +
                " were asked for. The number is fixed when a directory is created; start with --shards " +
                std::to_string(node->shard_count) + ", or with another directory.";
    co_return fail(Error::invalid_argument);
  }
  if (node->day_offset_seconds != wanted.day_offset_seconds) {
    diagnosis = path + ": days of this directory begin at " + format_day_offset(node->day_offset_seconds) +
                "; that is fixed when a directory is created. Start with --day-offset " +
                format_day_offset(node->day_offset_seconds) + ".";
    co_return fail(Error::invalid_argument);
  }
  co_return *node;
}

Task<ShardMeta> ShardMeta::open(Reactor& reactor, std::string path, ShardIndex shard, bool buffered,
                                std::string& diagnosis) {
  ShardMeta meta;
  auto opening = File::open(reactor, path, open_read | open_write | direct_flag(buffered));
  auto file = co_await opening;
  if (!file) {
    diagnosis = path + ": cannot be opened: " + std::string(error_text(file.error()));
    co_return fail(file.error());
  }
  meta.file_ = std::move(*file);
  auto reading_node = read_node(meta.file_, path, false, diagnosis);
  auto node = co_await reading_node;
  if (!node) co_return fail(node.error());
  meta.node_ = *node;
  if (shard.value >= node->shard_count) {
    diagnosis = path + ": has no shard " + std::to_string(shard.value);
    co_return fail(Error::invalid_argument);
  }
  meta.block_ = AlignedMemory(2 * block_bytes);
  const MutableBytes blocks = meta.block_.bytes();
  auto reading = read_around(meta.file_, shard_slot_offset(shard, 0), blocks);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (read->unreadable == 2) co_return fail(Error::io_failed);
  auto chosen = choose_shard_slot(blocks.first(block_bytes), blocks.subspan(block_bytes), shard, OpenFor::writing);
  if (!chosen) {
    diagnosis = path + ": shard " + std::to_string(shard.value) + std::string(cure_both_bad);
    co_return fail(chosen.error());
  }
  meta.slot_ = chosen->value;
  meta.write_next_ = chosen->write_next;
  co_return std::move(meta);
}

Task<> ShardMeta::write(ShardSlot slot) {
  writing_ = true;
  auto writing = write_copies(slot);
  auto written = co_await writing;
  writing_ = false;
  co_return std::move(written);
}

// Both copies, one after the other: the change is durable with the first, and with the second no single bad block can bring
// back what stood before it.
Task<> ShardMeta::write_copies(ShardSlot slot) {
  for (int copy = 0; copy < 2; ++copy) {
    slot.sequence = slot_.sequence + 1;
    write_shard_slot(slot, block_.bytes());
    auto writing =
        file_.write_exact(shard_slot_offset(slot.shard, write_next_), block_.bytes().first(block_bytes), true);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
    slot_ = slot;
    write_next_ ^= 1u;
  }
  co_return Result<>{};
}

Task<Epoch> ShardMeta::take_epoch(Epoch above, Day last_day) {
  while (writing_) co_await Yield{};
  ShardSlot slot = slot_;
  Epoch epoch = std::max(slot.epoch, above).next();
  if (slot.part != NodePart::leads) epoch = next_term(std::max(slot.epoch, above));
  slot.part = NodePart::leads;
  millrace::take_epoch(slot, epoch);
  slot.last_day = std::max(slot.last_day, last_day);
  if (mutant("epoch_not_persisted")) {
    slot_.epoch = epoch;
    co_return epoch;
  }
  auto writing = write(slot);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  co_return epoch;
}

Task<> ShardMeta::accept_epoch(Epoch epoch) {
  if (epoch <= slot_.epoch && slot_.part == NodePart::follows && slot_.promoted_from == 0) co_return Result<>{};
  auto becoming = become(NodePart::follows, epoch, 0);
  co_return co_await becoming;
}

Task<> ShardMeta::become(NodePart part, Epoch epoch, std::uint64_t promoted_from) {
  while (writing_) co_await Yield{};
  ShardSlot slot = slot_;
  slot.epoch = std::max(slot.epoch, epoch);
  slot.part = part;
  slot.promoted_from = promoted_from;
  auto writing = write(slot);
  auto written = co_await writing;
  co_return std::move(written);
}

Task<> ShardMeta::write_drop_intent(Lsn first_kept, std::vector<DropName> names) {
  MR_ASSERT(names.size() <= drop_names_max);
  while (writing_) co_await Yield{};
  ShardSlot slot = slot_;
  slot.drop_first_kept = names.empty() ? Lsn{} : first_kept;
  slot.drop_count = static_cast<std::uint32_t>(names.size());
  slot.drops = {};
  std::copy(names.begin(), names.end(), slot.drops.begin());
  auto writing = write(slot);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  co_return Result<>{};
}

}  // namespace millrace
