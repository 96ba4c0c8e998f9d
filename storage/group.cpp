#include "storage/group.hpp"

#include <cstddef>

namespace millrace {

namespace {

std::uint64_t checksum_of(GroupHeader header) {
  header.checksum = 0;
  return hash64(as_bytes(&header, sizeof(header)));
}

}  // namespace

void seal_group_header(GroupHeader& header) {
  MR_ASSERT(header.batches > 0 && is_aligned(header.length, batch_align) &&
            is_aligned(header.file_offset, block_bytes));
  header.checksum = checksum_of(header);
}

Result<GroupHeader> read_group_header(Bytes bytes, std::uint64_t file_offset) {
  if (bytes.size() < group_header_bytes || load<std::uint32_t>(bytes) != group_magic) return fail(Error::corrupt);
  auto header = load<GroupHeader>(bytes);
  if (header.checksum != checksum_of(header) || header.file_offset != file_offset) return fail(Error::corrupt);
  if (!all_zero(as_bytes(header.reserved, sizeof(header.reserved)))) return fail(Error::corrupt);
  std::uint64_t least = group_header_bytes + std::uint64_t{header.batches} * batch_header_bytes;
  if (header.batches == 0 || header.length < least || !is_aligned(header.length, batch_align))
    return fail(Error::corrupt);
  if (header.length > (header.batches == 1 ? group_span_max : group_bytes_max)) return fail(Error::corrupt);
  if (header.first_lsn.value == 0 || header.durable_upto > group_end_lsn(header)) return fail(Error::corrupt);
  return header;
}

Result<GroupHeader> read_group_header(Bytes bytes, std::uint64_t file_offset, const Id128& segment_id) {
  Result<GroupHeader> header = read_group_header(bytes, file_offset);
  if (header && header->segment_id != segment_id) return fail(Error::corrupt);
  return header;
}

Result<PlacedBatch> BatchWalk::check_next() {
  MR_ASSERT(at_ < bytes_.size());
  Bytes rest = bytes_.subspan(at_);
  Result<BatchHeader> header = read_batch_header(rest);
  if (!header) return fail(Error::corrupt);
  std::size_t span = batch_span(header->body_bytes);
  if (span > rest.size() || header->lsn != lsn_.value) return fail(Error::corrupt);
  Chain chain = chain_after(chain_, *header);
  if (header->chain != chain.value) return fail(Error::corrupt);
  std::size_t end = batch_header_bytes + header->body_bytes;
  Bytes body = rest.subspan(batch_header_bytes, header->body_bytes);
  if (hash128(body) != header->body_hash || !all_zero(rest.subspan(end, span - end))) return fail(Error::corrupt);
  PlacedBatch batch{*header, at_, rest.first(span), body};
  at_ += span;
  lsn_ = lsn_.next();
  chain_ = chain;
  return batch;
}

PlacedBatch BatchWalk::next_checked() {
  Bytes rest = bytes_.subspan(at_);
  auto header = load<BatchHeader>(rest);
  std::size_t span = batch_span(header.body_bytes);
  PlacedBatch batch{header, at_, rest.first(span), rest.subspan(batch_header_bytes, header.body_bytes)};
  at_ += span;
  lsn_ = Lsn{header.lsn + 1};
  chain_ = Chain{header.chain};
  return batch;
}

Result<> check_group(const GroupHeader& header, Bytes group) {
  MR_ASSERT(group.size() == group_span(header));
  BatchWalk walk(group.subspan(group_header_bytes, header.length - group_header_bytes), header.first_lsn,
                 header.chain_before);
  for (std::uint32_t batch = 0; batch < header.batches; ++batch) {
    if (walk.at_end()) return fail(Error::corrupt);
    Result<PlacedBatch> placed = walk.check_next();
    if (!placed) return fail(placed.error());
  }
  if (!walk.at_end() || walk.chain() != header.chain_after) return fail(Error::corrupt);
  if (!all_zero(group.subspan(header.length))) return fail(Error::corrupt);
  return {};
}

}  // namespace millrace
