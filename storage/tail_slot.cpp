#include "storage/tail_slot.hpp"

#include "base/hash.hpp"

namespace millrace {

namespace {

std::uint64_t checksum_of(const TailSlot& slot, Bytes held) {
  TailSlot header = slot;
  header.checksum = 0;
  // One hash over both, as if the bytes stood in one piece with the field zero: the bytes read must stay as they are.
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &header, sizeof(header));
  XXH3_64bits_update(&state, held.data(), held.size());
  return XXH3_64bits_digest(&state);
}

}  // namespace

Result<TailHeader> read_tail_header(Bytes block, OpenFor purpose) {
  Result<TailHeader> read = read_block<TailHeader>(block, tail_magic, purpose);
  if (!read) return read;
  if (read->ring_bytes == 0 || read->ring_bytes > tail_ring_bytes_max || !is_aligned(read->ring_bytes, block_bytes) ||
      read->reserved != 0)
    return fail(Error::corrupt);
  return read;
}

void write_tail_header(TailHeader& header, MutableBytes block) { write_block(header, block); }

Result<TailSlot> read_tail_slot(Bytes bytes) {
  if (bytes.size() < tail_slot_header_bytes || load<std::uint32_t>(bytes) != tail_slot_magic)
    return fail(Error::corrupt);
  auto slot = load<TailSlot>(bytes);
  if (slot.length > bytes.size() - tail_slot_header_bytes) return fail(Error::corrupt);
  if (slot.checksum != checksum_of(slot, bytes.subspan(tail_slot_header_bytes, slot.length)))
    return fail(Error::corrupt);
  if (slot.number == 0 || !all_zero(as_bytes(slot.reserved, sizeof(slot.reserved)))) return fail(Error::corrupt);
  return slot;
}

void write_tail_slot(TailSlot& slot, MutableBytes target) {
  MR_ASSERT(slot.number != 0 && target.size() >= tail_slot_span(slot.length));
  slot.checksum = checksum_of(slot, target.subspan(tail_slot_header_bytes, slot.length));
  store(target, 0, slot);
  std::size_t end = tail_slot_header_bytes + slot.length;
  std::memset(target.data() + end, 0, tail_slot_span(slot.length) - end);
}

}  // namespace millrace
