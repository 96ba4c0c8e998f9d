// node.meta as a file: created whole, healed from either copy, refused with a cure, and never a step back.
#include "storage/node_meta_file.hpp"

#include <gtest/gtest.h>

#include "tests/sim/sim_program.hpp"

namespace millrace {
namespace {

class NodeMetaFile : public testing::Test {
 protected:
  NodeMetaFile() : world(3, sim::FaultPlan{}), node(world.add_node("node")) {}

  struct Outcome {
    Result<NodeSlot> slot = fail(Error::not_ready);
    std::string diagnosis;
  };
  static Task<> open_once(Reactor& reactor, NodeMetaWanted wanted, Outcome& outcome) {
    auto opening = open_node_meta(reactor, "node.meta", wanted, outcome.diagnosis);
    auto opened = co_await opening;
    outcome.slot = std::move(opened);
    co_return Result<>{};
  }
  Outcome open(NodeMetaWanted wanted) {
    Outcome outcome;
    EXPECT_TRUE(sim::run_program(world, node,
                                 [&](Reactor& reactor, std::size_t) { return open_once(reactor, wanted, outcome); }));
    return outcome;
  }
  /// Damages one byte of the file.
  void flip(std::uint64_t at) {
    auto image = node.disk.image();
    image.at("node.meta")[at] ^= std::byte{1};
    node.disk.load(image);
  }

  sim::SimWorld world;
  sim::SimNode& node;
};

TEST_F(NodeMetaFile, WhatIsThereWinsAndADifferentWishIsRefusedWithItsCure) {
  const Outcome first = open({.shard_count = 3, .day_offset_seconds = 3600});
  ASSERT_TRUE(first.slot) << first.diagnosis;
  const Outcome again = open({.shard_count = 3, .day_offset_seconds = 3600, .segment_bytes = 16 * MiB});
  ASSERT_TRUE(again.slot);
  EXPECT_EQ(again.slot->log_id, first.slot->log_id);
  EXPECT_EQ(again.slot->segment_bytes, 128 * MiB);
  const Outcome other = open({.shard_count = 4, .day_offset_seconds = 3600});
  EXPECT_EQ(other.slot.error(), Error::invalid_argument);
  EXPECT_NE(other.diagnosis.find("--shards 3"), std::string::npos) << other.diagnosis;
  const Outcome noon = open({.shard_count = 3});
  EXPECT_EQ(noon.slot.error(), Error::invalid_argument);
  EXPECT_NE(noon.diagnosis.find("+01:00"), std::string::npos) << noon.diagnosis;
  EXPECT_TRUE(open({.shard_count = 9, .only_if_new = true}).slot);
}

TEST_F(NodeMetaFile, EitherCopyMayBeLostAndIsWrittenAnew) {
  const Outcome first = open({});
  ASSERT_TRUE(first.slot);
  // One copy after the other: the second flip would be the end if the first had not been healed.
  for (unsigned copy : {1u, 0u, 1u}) {
    flip(node_slot_offset(copy) + 50);
    const Outcome healed = open({});
    ASSERT_TRUE(healed.slot) << healed.diagnosis;
    EXPECT_EQ(healed.slot->log_id, first.slot->log_id);
  }
}

TEST_F(NodeMetaFile, BothLostIsRefusedAndNothingIsTouched) {
  ASSERT_TRUE(open({}).slot);
  flip(node_slot_offset(0) + 50);
  flip(node_slot_offset(1) + 50);
  const auto before = node.disk.image();
  const Outcome outcome = open({});
  EXPECT_EQ(outcome.slot.error(), Error::corrupt);
  EXPECT_NE(outcome.diagnosis.find("Restore node.meta from a backup"), std::string::npos) << outcome.diagnosis;
  EXPECT_TRUE(node.disk.image() == before);
}

struct Epochs {
  std::vector<Epoch> taken;
  ShardSlot slot;
  std::string diagnosis;
  std::optional<Error> error;
};

Task<> take_epochs(Reactor& reactor, int count, Epoch above, Epochs& epochs) {
  auto opening = ShardMeta::open(reactor, "node.meta", ShardIndex{1}, false, epochs.diagnosis);
  auto meta = co_await opening;
  if (!meta) {
    epochs.error = meta.error();
    co_return Result<>{};
  }
  for (int i = 0; i < count; ++i) {
    auto taking = meta->take_epoch(above, Day{20'000});
    auto taken = co_await taking;
    EXPECT_TRUE(taken);
    if (taken) epochs.taken.push_back(*taken);
  }
  epochs.slot = meta->slot();
  co_return Result<>{};
}

TEST_F(NodeMetaFile, EpochsRiseOverRestartsAndOverALostCopy) {
  ASSERT_TRUE(open({.shard_count = 2}).slot);
  Epoch last{};
  for (unsigned life = 0; life < 6; ++life) {
    Epochs epochs;
    const Epoch above = life == 3 ? Epoch{40} : Epoch{};
    ASSERT_TRUE(sim::run_program(
        world, node, [&](Reactor& reactor, std::size_t) { return take_epochs(reactor, 2, above, epochs); }));
    ASSERT_FALSE(epochs.error) << epochs.diagnosis;
    for (const Epoch epoch : epochs.taken) {
      EXPECT_GT(epoch, last);
      EXPECT_GT(epoch, above);
      EXPECT_TRUE(epoch_led(epochs_led(epochs.slot), epoch));
      last = epoch;
    }
    EXPECT_EQ(epochs.slot.last_day, Day{20'000});
    flip(shard_slot_offset(ShardIndex{1}, life % 2) + 40);  // either copy has the newest epoch
  }
}

TEST_F(NodeMetaFile, AShardThatIsNotThereIsNamed) {
  ASSERT_TRUE(open({}).slot);
  Epochs epochs;
  ASSERT_TRUE(sim::run_program(
      world, node, [&](Reactor& reactor, std::size_t) { return take_epochs(reactor, 1, Epoch{}, epochs); }));
  EXPECT_EQ(epochs.error, Error::invalid_argument);
  EXPECT_NE(epochs.diagnosis.find("no shard 1"), std::string::npos) << epochs.diagnosis;
}

Task<> intend(Reactor& reactor, std::vector<DropName> drops, ShardSlot& after) {
  std::string diagnosis;
  auto opening = ShardMeta::open(reactor, "node.meta", ShardIndex{0}, false, diagnosis);
  auto meta = co_await opening;
  EXPECT_TRUE(meta) << diagnosis;
  auto noting = meta->write_drop_intent(Lsn{77}, drops);
  auto noted = co_await noting;
  EXPECT_TRUE(noted);
  auto again = ShardMeta::open(reactor, "node.meta", ShardIndex{0}, false, diagnosis);
  auto reread = co_await again;
  EXPECT_TRUE(reread);
  if (reread) after = reread->slot();
  co_return Result<>{};
}

TEST_F(NodeMetaFile, ADropIntentStandsUntilItIsCleared) {
  ASSERT_TRUE(open({}).slot);
  ShardSlot after;
  std::vector<DropName> drops{{Day{19'000}, 4}, {Day{19'001}, 0}};
  ASSERT_TRUE(
      sim::run_program(world, node, [&](Reactor& reactor, std::size_t) { return intend(reactor, drops, after); }));
  EXPECT_EQ(after.drop_count, 2u);
  EXPECT_EQ(after.drops[1], drops[1]);
  EXPECT_EQ(after.drop_first_kept, Lsn{77});
  ASSERT_TRUE(sim::run_program(world, node, [&](Reactor& reactor, std::size_t) { return intend(reactor, {}, after); }));
  EXPECT_EQ(after.drop_count, 0u);
  EXPECT_EQ(after.drop_first_kept, Lsn{});
}

}  // namespace
}  // namespace millrace
