#include "replica/segment_ranges.hpp"

#include <algorithm>
#include <vector>

#include "base/hash.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/log_copy.hpp"
#include "storage/names.hpp"
#include "storage/read_view.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

namespace {

constexpr std::size_t read_bytes = 1 * MiB;
static_assert(read_bytes % wire::sums_piece_bytes == 0 && wire::bytes_range_max <= read_bytes);

}  // namespace

Task<FrameOutput> SegmentRanges::answer(wire::RangeAsked asked) {
  if (reading_ >= ranges_at_once_max) co_return fail(Error::retry_later);
  ++reading_;
  auto reading = read(asked);
  auto answered = co_await reading;
  --reading_;
  ended_.notify();
  co_return std::move(answered);
}

Task<> SegmentRanges::drain() {
  while (reading_ > 0) co_await ended_.wait();
  co_return Result<>{};
}

Task<FrameOutput> SegmentRanges::read(wire::RangeAsked asked) {
  const SegmentKey key{asked.day, asked.number};
  const auto newest = log_.source().newest_segment();
  if (!newest || *newest < key) co_return fail(Error::not_found);
  if (key < log_.source().first_kept_segment()) co_return fail(Error::out_of_range);
  auto opening = File::open(reactor(), segment_path(log_.options().directory, key),
                            open_read | direct_flag(log_.options().buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  AlignedMemory memory(read_bytes + block_bytes);
  auto checking = file->read_exact(0, memory.bytes().first(block_bytes));
  auto checked = co_await checking;
  if (!checked) co_return fail(checked.error());
  const auto header = read_segment_header(memory.bytes().first(block_bytes), OpenFor::reading);
  // A header that rotted is told as it is: the range shows it. Who cannot read the own one asks without an id.
  if (header && !asked.segment_id.is_zero() && header->segment_id != asked.segment_id) co_return fail(Error::foreign);
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  const std::uint64_t durable = std::min(status->size, log_.view().readable_of(key));
  wire::RangeGiven given;
  given.kind = asked.kind;
  given.request_id = asked.request_id;
  given.begin = asked.begin;
  given.end = std::clamp(durable, asked.begin, asked.end);
  std::vector<std::byte> sums;
  FrameOutput output;
  for (std::uint64_t at = given.begin; at < given.end;) {
    const std::uint64_t from = align_down(at, block_bytes);
    const std::uint64_t until = std::min(given.end, at + read_bytes);
    auto reading = file->read(from, memory.bytes().first(align_up(until, block_bytes) - from));
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (from + *read < until) co_return fail(Error::out_of_range);  // it was cut meanwhile
    const Bytes bytes = memory.bytes().subspan(at - from, until - at);
    if (asked.kind == wire::RangeKind::bytes) {
      given.body = bytes;
      encode(output, given);
      co_return std::move(output);
    }
    for (std::size_t piece = 0; piece < bytes.size(); piece += wire::sums_piece_bytes) {
      const std::uint64_t sum = hash64(bytes.subspan(piece, std::min(wire::sums_piece_bytes, bytes.size() - piece)));
      const Bytes raw = as_bytes(&sum, sizeof(sum));
      sums.insert(sums.end(), raw.begin(), raw.end());
    }
    at = until;
  }
  given.body = sums;
  encode(output, given);
  co_return std::move(output);
}

}  // namespace millrace
