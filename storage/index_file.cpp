#include "storage/index_file.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"
#include "base/running_hash.hpp"
#include "storage/read_around.hpp"

namespace millrace {

namespace {
constexpr std::size_t scan_bytes = 256 * KiB;
}

Task<std::unique_ptr<IndexFile>> IndexFile::open(Reactor& reactor, std::string path, Day day, bool writable,
                                                 bool buffered, IndexStats& stats) {
  unsigned flags = writable ? open_read | open_write | open_create : open_read;
  if (!buffered) flags |= open_direct;
  auto opening = File::open(reactor, std::move(path), flags);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  std::unique_ptr<IndexFile> index(new IndexFile(std::move(*file), day, stats));
  auto loading = index->load_end();
  auto loaded = co_await loading;
  if (!loaded) co_return fail(loaded.error());
  co_return std::move(index);
}

Task<> IndexFile::load_end() {
  auto sizing = file_.status();
  auto status = co_await sizing;
  if (!status) co_return fail(status.error());
  const std::uint64_t size = status->size;
  file_bytes_ = size;
  end_ = size;  // reads are refused beyond it
  auto finding = last_unit(size);
  auto last = co_await finding;
  if (!last) co_return fail(last.error());
  end_ = *last ? (*last)->end() : 0;
  if (!*last) co_return {};
  if ((*last)->header.kind == UnitKind::day_table) {
    table_ = **last;
    co_return {};
  }
  auto loading = load_spine(**last);
  auto loaded = co_await loading;
  // A header inside that does not verify voids the file: it is derived anew.
  if (!loaded && loaded.error() == Error::corrupt) clear();
  else if (!loaded) co_return fail(loaded.error());
  co_return {};
}

Task<> IndexFile::need_spine() {
  if (!spine_.empty() || !table_ || table_->header.back == 0) co_return {};
  if (table_->header.back > table_->offset || !is_aligned(table_->header.back, block_bytes))
    co_return fail(Error::corrupt);
  auto reading = read_unit_ref(table_->offset - table_->header.back);
  auto last = co_await reading;
  if (!last) co_return fail(last.error());
  auto loading = load_spine(*last);
  co_return co_await loading;
}

// From this unit back over those that no directory covers.
Task<> IndexFile::load_spine(UnitRef last) {
  std::vector<UnitRef> spine{last};
  for (UnitRef unit = last; unit.header.back != 0;) {
    if (unit.header.back > unit.offset || !is_aligned(unit.header.back, block_bytes)) co_return fail(Error::corrupt);
    auto reading = read_unit_ref(unit.offset - unit.header.back);
    auto before = co_await reading;
    if (!before) co_return fail(before.error());
    if (before->end_segment() > spine.back().header.first_segment) co_return fail(Error::corrupt);
    unit = *before;
    spine.push_back(unit);
  }
  std::reverse(spine.begin(), spine.end());
  // Several searches may have read it at a time; all read the same.
  if (spine_.empty()) spine_ = std::move(spine);
  co_return {};
}

// A unit is appended with its first block last, and synced before the next one begins: what stands behind the last valid header is
// the torn end of an append. The last unit itself is verified whole, because its blocks may have reached the disk in any order.
Task<std::optional<UnitRef>> IndexFile::last_unit(std::uint64_t size) {
  AlignedMemory memory(scan_bytes);
  std::uint64_t high = align_down(size, block_bytes);
  while (high > 0) {
    const std::uint64_t low = high > scan_bytes ? high - scan_bytes : 0;
    auto reading = read_around(file_, low, memory.bytes().first(high - low));
    auto got = co_await reading;
    if (!got) co_return fail(got.error());
    ++stats_.block_reads;
    for (std::uint64_t at = high; at > low;) {
      at -= block_bytes;
      if (at - low + block_bytes > got->bytes) continue;
      auto header = read_unit_header(memory.bytes().subspan(at - low, block_bytes));
      if (!header) continue;
      UnitRef unit{.offset = at, .header = *header};
      if (unit.end() > size) continue;
      auto verifying = verify(unit);
      auto fits = co_await verifying;
      if (!fits) co_return fail(fits.error());
      if (*fits) co_return std::optional<UnitRef>(unit);
    }
    high = low;
  }
  co_return std::optional<UnitRef>{};
}

Task<bool> IndexFile::verify(UnitRef unit) {
  AlignedMemory memory(scan_bytes);
  RunningHash state;
  std::uint64_t skip = unit_header_bytes;
  std::uint64_t rest = unit.header.payload_bytes;
  for (std::uint64_t at = unit.offset; at < unit.end(); at += scan_bytes) {
    const std::uint64_t length = std::min<std::uint64_t>(scan_bytes, unit.end() - at);
    auto reading = read_around(file_, at, memory.bytes().first(length));
    auto got = co_await reading;
    if (!got) co_return fail(got.error());
    ++stats_.block_reads;
    if (got->bytes < length || got->unreadable > 0) co_return false;
    const std::uint64_t use = std::min(rest, length - skip);
    state.add(Bytes(memory.bytes()).subspan(skip, use));
    const Bytes padding = memory.bytes().first(length).subspan(skip + use);
    if (!all_zero(padding)) co_return false;
    rest -= use;
    skip = 0;
    co_await Yield{};
  }
  co_return state.value() == unit.header.payload_hash;
}

Task<const std::byte*> IndexFile::block(std::uint64_t number) {
  for (Block& kept : blocks_) {
    if (kept.number != number) continue;
    kept.used = ++use_count_;
    ++stats_.block_hits;
    co_return kept.memory.bytes().data();
  }
  std::size_t chosen = blocks_.size();
  while (true) {
    if (blocks_.size() < blocks_kept_max) {
      chosen = blocks_.size();
      blocks_.push_back({.memory = AlignedMemory(block_bytes)});
      break;
    }
    chosen = blocks_.size();
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      if (!blocks_[i].busy && (chosen == blocks_.size() || blocks_[i].used < blocks_[chosen].used)) chosen = i;
    if (chosen < blocks_.size()) break;
    co_await Yield{};  // every block is being read into by somebody else
  }
  blocks_[chosen].busy = true;
  blocks_[chosen].number = UINT64_MAX;
  const MutableBytes target = blocks_[chosen].memory.bytes();
  auto reading = read_around(file_, number * block_bytes, target);
  auto got = co_await reading;
  ++stats_.block_reads;
  blocks_[chosen].busy = false;
  if (!got) co_return fail(got.error());
  if (got->bytes < block_bytes || got->unreadable > 0) co_return fail(Error::corrupt);
  blocks_[chosen].number = number;
  blocks_[chosen].used = ++use_count_;
  co_return target.data();
}

Task<> IndexFile::read_bytes(std::uint64_t offset, MutableBytes target) {
  std::size_t done = 0;
  while (done < target.size()) {
    const std::uint64_t at = offset + done;
    if (at >= end_) co_return fail(Error::corrupt);
    auto getting = block(at / block_bytes);
    auto data = co_await getting;
    if (!data) co_return fail(data.error());
    const std::size_t skip = at % block_bytes;
    const std::size_t use = std::min(target.size() - done, block_bytes - skip);
    std::memcpy(target.data() + done, *data + skip, use);
    done += use;
  }
  co_return {};
}

Task<UnitRef> IndexFile::read_unit_ref(std::uint64_t offset) {
  std::array<std::byte, unit_header_bytes> bytes{};
  auto reading = read_bytes(offset, bytes);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  auto header = read_unit_header(bytes);
  if (!header) co_return fail(header.error());
  UnitRef unit{.offset = offset, .header = *header};
  if (unit.end() > end_) co_return fail(Error::corrupt);
  co_return unit;
}

void IndexFile::unit_appended(const UnitRef& unit) {
  MR_ASSERT(unit.offset == end_);
  // Blocks at the old end may have been read while they were half there.
  for (Block& kept : blocks_)
    if (kept.number != UINT64_MAX && kept.number >= unit.offset / block_bytes) kept.number = UINT64_MAX;
  end_ = unit.end();
  file_bytes_ = end_;
  if (unit.header.kind == UnitKind::day_table) {
    table_ = unit;
    return;
  }
  stats_.bytes_written += unit_span(unit.header.payload_bytes);
  while (!spine_.empty() && spine_.back().header.first_segment >= unit.header.first_segment) spine_.pop_back();
  spine_.push_back(unit);
}

Task<> IndexFile::drop_torn_end() {
  if (file_bytes_ <= end_) co_return {};
  auto cutting = file_.truncate(end_);
  auto cut = co_await cutting;
  if (!cut) co_return fail(cut.error());
  file_bytes_ = end_;
  co_return {};
}

void IndexFile::clear() {
  for (Block& kept : blocks_) kept.number = UINT64_MAX;
  spine_.clear();
  table_.reset();
  end_ = 0;
}

}  // namespace millrace
