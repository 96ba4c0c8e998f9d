#include "storage/segment_scan.hpp"

#include <algorithm>

#include "storage/names.hpp"
#include "storage/read_around.hpp"

namespace millrace {

Task<Verdict> scan_segment(File& file, std::uint64_t file_bytes, RecoveryInput input, RecoveryVisitor& visitor,
                           MutableBytes buffer, ScanProgress progress) {
  input.file_bytes = file_bytes;
  SegmentRecovery recovery(input, visitor);
  while (!recovery.done()) {
    const std::uint64_t at = recovery.wanted();
    const std::uint64_t left = file_bytes - at;
    const std::uint64_t length = std::min<std::uint64_t>(buffer.size(), align_up(left, block_bytes));
    auto reading = read_around(file, at, buffer.first(length));
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (read->bytes < std::min(length, left)) co_return fail(Error::io_failed);
    recovery.feed(at, buffer.first(std::min<std::uint64_t>(read->bytes, left)));
    if (progress) progress("reading a segment", std::min(at + read->bytes, file_bytes), file_bytes);
  }
  const Verdict verdict = recovery.verdict();
  if (verdict.refused) co_return fail(*verdict.refused);
  co_return verdict;
}

Task<SegmentFile> open_segment_file(Reactor& reactor, std::string path, SegmentKey key, bool buffered,
                                    MutableBytes buffer) {
  SegmentFile segment;
  segment.key = key;
  auto opening = File::open(reactor, std::move(path), open_read | direct_flag(buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  segment.file = std::move(*file);
  auto asking = segment.file.status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  segment.file_bytes = status->size;
  auto reading = read_around(segment.file, 0, buffer.first(block_bytes));
  auto got = co_await reading;
  if (!got) co_return fail(got.error());
  if (got->bytes == block_bytes) {
    auto header = read_segment_header(buffer.first(block_bytes), OpenFor::reading);
    if (header && header->day == key.day && header->number == key.number) segment.header = *header;
    if (!header && header.error() == Error::unsupported_version) co_return fail(header.error());
  }
  co_return std::move(segment);
}

}  // namespace millrace
