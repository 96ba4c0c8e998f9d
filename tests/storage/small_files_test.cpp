// The byte layouts of the small files and headers: what is written is read, every flipped bit is seen, versions and reserved
// bytes are kept to, and the places of fields are those of storage/FORMAT.md.
#include <gtest/gtest.h>

#include <vector>

#include "storage/finish.hpp"
#include "storage/group.hpp"
#include "storage/node_meta.hpp"
#include "storage/segment_header.hpp"
#include "storage/tail_slot.hpp"

namespace millrace {
namespace {

using Block = std::vector<std::byte>;

template <class Header>
Block block_of(Header header, void (*write)(Header&, MutableBytes)) {
  Block block(block_bytes, std::byte{0xff});
  write(header, block);
  return block;
}

SegmentHeader segment_header() {
  SegmentHeader header;
  header.log_id = {1, 2};
  header.segment_id = {3, 4};
  header.first_lsn = Lsn{5};
  header.epoch = Epoch{6};
  return header;
}

template <class Read>
void expect_every_bit_counts(Block block, Read read) {
  ASSERT_TRUE(read(block));
  for (std::size_t bit = 0; bit < block.size() * 8; bit += bit < 2000 ? 1 : 37) {
    block[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(read(block)) << bit;
    block[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(SmallFiles, EveryFlippedBitIsSeen) {
  expect_every_bit_counts(block_of(segment_header(), write_segment_header),
                          [](Bytes b) { return read_segment_header(b, OpenFor::reading).has_value(); });
  expect_every_bit_counts(block_of(TailHeader{}, write_tail_header),
                          [](Bytes b) { return read_tail_header(b, OpenFor::reading).has_value(); });
  NodeSlot node;
  node.sequence = 1;
  node.shard_count = 2;
  expect_every_bit_counts(block_of(node, write_node_slot),
                          [](Bytes b) { return read_node_slot(b, OpenFor::reading).has_value(); });
  ShardSlot shard;
  shard.sequence = 1;
  take_epoch(shard, Epoch{4});
  expect_every_bit_counts(block_of(shard, write_shard_slot),
                          [](Bytes b) { return read_shard_slot(b, OpenFor::reading).has_value(); });
  Finish finish;
  finish.end_lsn = Lsn{9};
  expect_every_bit_counts(block_of(finish, write_finish),
                          [](Bytes b) { return read_finish(b, OpenFor::reading).has_value(); });
}

TEST(SmallFiles, FieldsStandWhereTheFormatSays) {
  Block block = block_of(segment_header(), write_segment_header);
  EXPECT_EQ(std::memcmp(block.data(), "MRS1", 4), 0);
  EXPECT_EQ(load<std::uint64_t>(block, 40), 1u);  // log id, high first
  EXPECT_EQ(load<std::uint64_t>(block, 56), 3u);
  EXPECT_EQ(load<std::uint64_t>(block, 88), 5u);
  EXPECT_EQ(load<std::uint64_t>(block, 96), 6u);
  EXPECT_EQ(load<std::uint64_t>(block, 144), 128 * MiB);
  EXPECT_EQ(offsetof(SegmentHeader, previous_chain), 128u);
  EXPECT_EQ(offsetof(SegmentHeader, in_flight_bytes_max), 136u);
  EXPECT_EQ(offsetof(GroupHeader, durable_upto), 64u);
  EXPECT_EQ(offsetof(GroupHeader, chain_after), 80u);
  EXPECT_EQ(offsetof(TailSlot, group), 40u);
  EXPECT_EQ(offsetof(TailSlot, durable_end), 80u);
  EXPECT_EQ(offsetof(NodeSlot, created), 96u);
  EXPECT_EQ(offsetof(ShardSlot, last_day), 64u);
  EXPECT_EQ(offsetof(ShardSlot, drop_first_kept), 72u);
  EXPECT_EQ(offsetof(Finish, last_segment_length), 72u);
  EXPECT_EQ(offsetof(Finish, epoch), 120u);
}

/// Writes the block as a newer program would: head fields changed, checksum right.
Block newer(void (*change)(FileHead&)) {
  Block block = block_of(segment_header(), write_segment_header);
  auto head = load<FileHead>(block);
  change(head);
  store(MutableBytes(block), 0, head);
  store(MutableBytes(block), offsetof(FileHead, checksum), block_checksum(block));
  return block;
}

TEST(SmallFiles, VersionRule) {
  auto error = [](const Block& block, OpenFor purpose) {
    Result<SegmentHeader> read = read_segment_header(block, purpose);
    return read ? Error{} : read.error();
  };
  Block old_enough = newer([](FileHead& head) { head.version = 2; });
  EXPECT_EQ(error(old_enough, OpenFor::reading), Error{});
  EXPECT_EQ(error(old_enough, OpenFor::writing), Error::unsupported_version);
  Block too_new = newer([](FileHead& head) { head.oldest_reader = head.version = 2; });
  EXPECT_EQ(error(too_new, OpenFor::reading), Error::unsupported_version);
  Block incompatible = newer([](FileHead& head) { head.incompatible_features = 4; });
  EXPECT_EQ(error(incompatible, OpenFor::reading), Error::unsupported_version);
  Block read_only = newer([](FileHead& head) { head.read_only_features = 1; });
  EXPECT_EQ(error(read_only, OpenFor::reading), Error{});
  EXPECT_EQ(error(read_only, OpenFor::writing), Error::unsupported_version);
  Block compatible = newer([](FileHead& head) { head.compatible_features = ~std::uint64_t{0}; });
  EXPECT_EQ(error(compatible, OpenFor::writing), Error{});
}

TEST(NodeMeta, TheNewerOfTwoValidSlotsCounts) {
  NodeSlot slot;
  slot.shard_count = 1;
  slot.sequence = 7;
  Block seven = block_of(slot, write_node_slot);
  slot.sequence = 8;
  Block eight = block_of(slot, write_node_slot);
  Block torn = eight;
  torn[100] ^= std::byte{1};
  Result<ChosenSlot<NodeSlot>> chosen = choose_node_slot(seven, eight, OpenFor::writing);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->value.sequence, 8u);
  EXPECT_EQ(chosen->write_next, 0u);
  chosen = choose_node_slot(seven, torn, OpenFor::writing);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->value.sequence, 7u);
  EXPECT_EQ(chosen->write_next, 1u);
  EXPECT_EQ(choose_node_slot(torn, torn, OpenFor::writing).error(), Error::corrupt);
}

TEST(NodeMeta, AShardsSlotOfAnotherShardIsBad) {
  ShardSlot slot;
  slot.sequence = 1;
  slot.shard = ShardIndex{3};
  Block block = block_of(slot, write_shard_slot);
  EXPECT_TRUE(choose_shard_slot(block, Block(block_bytes), ShardIndex{3}, OpenFor::writing));
  EXPECT_FALSE(choose_shard_slot(block, Block(block_bytes), ShardIndex{2}, OpenFor::writing));
}

TEST(NodeMeta, EpochsLedAreRangesAndTheOldestLeave) {
  ShardSlot slot;
  take_epoch(slot, Epoch{1});
  take_epoch(slot, Epoch{2});
  take_epoch(slot, Epoch{5});
  ASSERT_EQ(epochs_led(slot).size(), 2u);
  EXPECT_EQ(epochs_led(slot)[0], (EpochRange{Epoch{1}, Epoch{2}}));
  EXPECT_TRUE(epoch_led(epochs_led(slot), Epoch{5}));
  EXPECT_FALSE(epoch_led(epochs_led(slot), Epoch{4}));
  for (std::uint64_t epoch = 7; epoch < 7 + 2 * epochs_led_max; epoch += 2) take_epoch(slot, Epoch{epoch});
  EXPECT_EQ(epochs_led(slot).size(), epochs_led_max);
  EXPECT_FALSE(epoch_led(epochs_led(slot), Epoch{5}));
  EXPECT_TRUE(epoch_led(epochs_led(slot), slot.epoch));
}

GroupHeader group_header() {
  GroupHeader header{.batches = 1, .segment_id = {3, 4}, .file_offset = 8192, .first_lsn = Lsn{5}};
  header.length = group_header_bytes + batch_header_bytes;
  return header;
}

TEST(Group, BelongsToItsPlaceAndSegment) {
  GroupHeader header = group_header();
  seal_group_header(header);
  Bytes bytes = as_bytes(&header, sizeof(header));
  EXPECT_TRUE(read_group_header(bytes, 8192, {3, 4}));
  EXPECT_FALSE(read_group_header(bytes, 4096, {3, 4}));
  EXPECT_FALSE(read_group_header(bytes, 8192, {3, 5}));
}

TEST(Group, LimitsHoldBehindAGoodChecksum) {
  auto accepted = [](auto change) {
    GroupHeader header = group_header();
    change(header);
    header.checksum = 0;
    header.checksum = hash64(as_bytes(&header, sizeof(header)));
    return read_group_header(as_bytes(&header, sizeof(header)), 8192).has_value();
  };
  EXPECT_TRUE(accepted([](GroupHeader&) {}));
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.batches = 0; }));
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.batches = 2; }));  // they cannot fit
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.length += 1; }));
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.length = group_span_max + 16; }));
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.durable_upto = Lsn{7}; }));  // more than it holds
  EXPECT_FALSE(accepted([](GroupHeader& h) { h.reserved[0] = 1; }));
}

TEST(TailSlot, HoldsItsBytesAndItsPlace) {
  TailSlot slot{.length = 5000, .number = 3, .segment_id = {3, 4}};
  Block target(tail_slot_span(slot.length), std::byte{7});
  write_tail_slot(slot, target);
  ASSERT_EQ(target.size(), 8192u);
  Result<TailSlot> read = read_tail_slot(target);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->number, 3u);
  EXPECT_TRUE(all_zero(Bytes(target).subspan(tail_slot_header_bytes + 5000)));
  // The checksum is one hash over header and bytes, its own field zero: as FORMAT.md says it, by hand.
  Block copy(target.begin(), target.begin() + tail_slot_header_bytes + 5000);
  store(MutableBytes(copy), 8, std::uint64_t{0});
  EXPECT_EQ(read->checksum, hash64(copy));
  for (std::size_t at = 0; at < tail_slot_header_bytes + 5000; at += 11) {
    target[at] ^= std::byte{16};
    EXPECT_FALSE(read_tail_slot(target)) << at;
    target[at] ^= std::byte{16};
  }
  EXPECT_FALSE(read_tail_slot(Bytes(target).first(4096)));  // a length past the ring's end
}

}  // namespace
}  // namespace millrace
