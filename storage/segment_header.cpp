#include "storage/segment_header.hpp"

namespace millrace {

Result<SegmentHeader> read_segment_header(Bytes block, OpenFor purpose) {
  Result<SegmentHeader> read = read_block<SegmentHeader>(block, segment_magic, purpose);
  if (!read) return read;
  if (read->segment_bytes < segment_bytes_min || read->segment_bytes > segment_bytes_max ||
      !is_aligned(read->segment_bytes, block_bytes))
    return fail(Error::corrupt);
  if (read->first_lsn.value == 0 || read->segment_id.is_zero()) return fail(Error::corrupt);
  return read;
}

void write_segment_header(SegmentHeader& header, MutableBytes block) {
  MR_ASSERT(header.first_lsn.value != 0 && !header.segment_id.is_zero());
  write_block(header, block);
}

}  // namespace millrace
