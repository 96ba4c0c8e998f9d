#include "protocol/batch.hpp"

#include "base/hash.hpp"

namespace millrace {

std::uint64_t header_checksum(const BatchHeader& header) {
  BatchHeader copy = header;
  copy.checksum = 0;
  return hash64(as_bytes(&copy, sizeof(copy)));
}

Chain chain_after(Chain before, const BatchHeader& header) {
  BatchHeader copy = header;
  copy.checksum = 0;
  copy.chain = 0;
  return Chain{hash64(as_bytes(&copy, sizeof(copy)), before.value)};
}

void seal_header(BatchHeader& header, Chain before) {
  header.chain = chain_after(before, header).value;
  header.checksum = header_checksum(header);
}

Result<BatchHeader> read_batch_header(Bytes bytes) {
  if (bytes.size() < batch_header_bytes || load<std::uint32_t>(bytes) != batch_magic) return fail(Error::corrupt);
  auto header = load<BatchHeader>(bytes);
  if (header.checksum != header_checksum(header)) return fail(Error::corrupt);
  if (header.kind > BatchKind::trim || header.codec != 0 || header.flags != 0) return fail(Error::corrupt);
  if (!all_zero(as_bytes(header.reserved, sizeof(header.reserved)))) return fail(Error::corrupt);
  // body_bytes alone first, so that the span cannot wrap.
  if (header.body_bytes > batch_bytes_max || batch_span(header.body_bytes) > batch_bytes_max)
    return fail(Error::corrupt);
  if (header.record_count > batch_records_max || header.raw_bytes != header.body_bytes) return fail(Error::corrupt);
  bool is_data = header.kind == BatchKind::data;
  if (is_data != (header.stream_id != 0) || is_data != (header.record_count != 0)) return fail(Error::corrupt);
  if (header.event_time_max < header.event_time_min) return fail(Error::corrupt);
  return header;
}

}  // namespace millrace
