// The small files and headers behind checksums that fit: what is accepted keeps its limits and is written back as the same bytes;
// bodies of control batches and rows of state are read to their end or refused.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/hash.hpp"
#include "storage/control_batches.hpp"
#include "storage/finish.hpp"
#include "storage/group.hpp"
#include "storage/node_meta.hpp"
#include "storage/segment_header.hpp"
#include "storage/state_rows.hpp"
#include "storage/tail_slot.hpp"

namespace {

using namespace millrace;

/// A block with this magic, the input behind it and the right checksum: read, and written again.
template <class Header>
void block(Bytes input, std::uint32_t magic, Result<Header> (*read)(Bytes, OpenFor),
           void (*write)(Header&, MutableBytes)) {
  std::vector<std::byte> bytes(block_bytes);
  std::ranges::copy(input.first(std::min<std::size_t>(input.size(), block_bytes)), bytes.begin());
  store(MutableBytes(bytes), 0, magic);
  store(MutableBytes(bytes), offsetof(FileHead, checksum), block_checksum(bytes));
  Result<Header> header = read(bytes, OpenFor::writing);
  if (!header) return;
  std::vector<std::byte> again(block_bytes, std::byte{0xee});
  write(*header, again);
  MR_ASSERT(again == bytes);
}

void shard_slot(Bytes input) {
  block<ShardSlot>(input, shard_slot_magic, read_shard_slot, write_shard_slot);
  std::vector<std::byte> bytes(block_bytes);
  ShardSlot slot;
  slot.sequence = 1;
  for (std::byte step : input) take_epoch(slot, slot.epoch.next(1 + std::to_integer<std::uint64_t>(step) % 3));
  write_shard_slot(slot, bytes);
  Result<ShardSlot> read = read_shard_slot(bytes, OpenFor::writing);
  MR_ASSERT(read && read->epochs_led_count <= epochs_led_max);
  MR_ASSERT(input.empty() || epoch_led(epochs_led(*read), slot.epoch));
}

void group(Bytes input) {
  GroupHeader header;
  if (input.size() < sizeof(header)) return;
  header = load<GroupHeader>(input);
  header.magic = group_magic;
  header.checksum = 0;
  header.checksum = hash64(as_bytes(&header, sizeof(header)));
  Result<GroupHeader> read = read_group_header(as_bytes(&header, sizeof(header)), header.file_offset);
  if (!read) return;
  MR_ASSERT(group_span(*read) <= group_span_max && read->batches > 0);
  std::vector<std::byte> bytes(group_span(*read));
  std::ranges::copy(input.first(std::min(input.size(), bytes.size())), bytes.begin());
  static_cast<void>(check_group(*read, bytes));
}

void slot(Bytes input) {
  if (input.size() < tail_slot_header_bytes) return;
  auto header = load<TailSlot>(input);
  header.length = static_cast<std::uint32_t>(header.length % (2 * block_bytes));
  std::vector<std::byte> target(tail_slot_span(header.length));
  std::ranges::copy(input.first(std::min(input.size(), target.size())), target.begin());
  header.magic = tail_slot_magic;
  header.number |= 1;
  write_tail_slot(header, target);
  Result<TailSlot> read = read_tail_slot(target);
  MR_ASSERT(read.has_value() == all_zero(as_bytes(header.reserved, sizeof(header.reserved))));
}

void rows(Bytes input) {
  StateRowReader reader(input);
  StateRow row;
  while (true) {
    Result<bool> more = reader.next(row);
    if (!more || !*more) return;
    std::vector<std::byte> again;
    switch (row.key.tag) {
      case StateTag::stream: write_row(again, row.stream); break;
      case StateTag::window: write_row(again, row.window); break;
      case StateTag::producer: write_row(again, row.producer); break;
      case StateTag::log: write_row(again, row.log); break;
    }
    MR_ASSERT(std::ranges::equal(again, row.raw));
  }
}

void control(Bytes input) {
  CatalogueReader reader(input);
  CatalogueEntry entry;
  std::size_t entries = 0;
  while (true) {
    Result<bool> more = reader.next(entry);
    if (!more || !*more) break;
    MR_ASSERT(++entries * 8 <= input.size() && entry.name.size() <= stream_name_bytes_max);
  }
  static_cast<void>(read_epoch_body(input));
  static_cast<void>(read_seal_body(input));
  static_cast<void>(read_trim_body(input));
  Result<StatePiece> piece = read_state_piece(input);
  if (piece) rows(piece->rows);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 64 * KiB) return 0;
  Bytes input = as_bytes(data + 1, size - 1);
  switch (data[0] % 9) {
    case 0: block<SegmentHeader>(input, segment_magic, read_segment_header, write_segment_header); break;
    case 1: block<TailHeader>(input, tail_magic, read_tail_header, write_tail_header); break;
    case 2: block<NodeSlot>(input, node_slot_magic, read_node_slot, write_node_slot); break;
    case 3: shard_slot(input); break;
    case 4: block<Finish>(input, finish_magic, read_finish, write_finish); break;
    case 5: group(input); break;
    case 6: slot(input); break;
    case 7: rows(input); break;
    default: control(input); break;
  }
  return 0;
}
