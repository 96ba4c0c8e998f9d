#include "storage/state_file.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"
#include "base/running_hash.hpp"
#include "storage/names.hpp"
#include "storage/producers.hpp"
#include "storage/state_rows.hpp"

namespace millrace {

namespace {

constexpr std::size_t window_bytes_max = 64 * KiB;
constexpr std::size_t flush_bytes = 256 * KiB;
constexpr std::size_t row_max = 8 * KiB;
constexpr std::size_t row_min = 24;  // its head and its longest key
constexpr std::size_t rows_per_step = 512;
constexpr std::uint64_t capacity_step = 1 * MiB;
constexpr std::uint64_t row_head_bytes = 8;

}  // namespace

// ---- RowSource.

RowSource::RowSource(File& file, std::uint64_t at, std::uint64_t bytes)
    : file_(&file), at_(at), end_(at + bytes), memory_(bytes == 0 ? 0 : window_bytes_max) {}

Task<Bytes> RowSource::next() {
  if (at_ == end_) co_return Bytes{};
  if (end_ - at_ < row_head_bytes) co_return fail(Error::corrupt);
  for (std::uint64_t need = row_head_bytes;;) {
    if (at_ + need > window_ + window_bytes_) {
      auto filling = fill();
      auto filled = co_await filling;
      if (!filled) co_return fail(filled.error());
      if (at_ + need > window_ + window_bytes_) co_return fail(Error::corrupt);
    }
    const Bytes row = memory_.bytes().subspan(at_ - window_);
    const std::size_t length = row_length(row);
    if (length < row_min || length > row_max || length > end_ - at_) co_return fail(Error::corrupt);
    if (need >= length) {
      at_ += length;
      co_return row.first(length);
    }
    need = length;
  }
}

Task<> RowSource::fill() {
  window_ = align_down(at_, block_bytes);
  const std::uint64_t length = std::min<std::uint64_t>(align_up(end_, block_bytes) - window_, window_bytes_max);
  auto reading = file_->read(window_, memory_.bytes().first(length));
  auto got = co_await reading;
  if (!got) co_return fail(got.error());
  window_bytes_ = *got;
  co_return Result<>{};
}

// ---- StateFile.

Task<std::unique_ptr<StateFile>> StateFile::open(Reactor& reactor, std::string path, Id128 log_id, bool buffered) {
  std::unique_ptr<StateFile> state(new StateFile(reactor, std::move(path), log_id, buffered));
  auto opening = File::open(reactor, state->path_, open_read | open_write | direct_flag(buffered));
  auto file = co_await opening;
  if (!file && file.error() == Error::permission_denied) {
    auto again = File::open(reactor, state->path_, open_read | direct_flag(buffered));
    file = co_await again;
  }
  if (!file) co_return std::move(state);
  state->file_ = std::move(*file);
  auto reading = state->read_slot(0);
  auto first = co_await reading;
  if (!first) co_return fail(first.error());
  state->newest_ = *first;
  // Where the second one begins the first one says; when that is damaged, the file's size does: two slots of equal capacity.
  std::uint64_t second_at = 0;
  if (*first) {
    second_at = (**first).header.capacity;
  } else {
    auto asking = state->file_.status();
    auto status = co_await asking;
    if (!status) co_return fail(status.error());
    second_at = align_down(status->size / 2, block_bytes);
  }
  if (second_at >= block_bytes) {
    auto reading_second = state->read_slot(second_at);
    auto second = co_await reading_second;
    if (!second) co_return fail(second.error());
    if (*second && (!*first || (**second).header.sequence > (**first).header.sequence)) state->newest_ = *second;
  }
  co_return std::move(state);
}

RowSource StateFile::rows() {
  MR_ASSERT(newest_.has_value());
  return RowSource(file_, newest_->offset + block_bytes, newest_->header.rows_bytes);
}

Task<std::optional<StateSlot>> StateFile::read_slot(std::uint64_t offset) {
  AlignedMemory memory(flush_bytes);
  auto reading = file_.read(offset, memory.bytes().first(block_bytes));
  auto got = co_await reading;
  if (!got || *got < block_bytes) co_return std::optional<StateSlot>{};
  auto header = read_block<StateHeader>(memory.bytes(), state_magic, OpenFor::reading);
  const bool fits = header && header->log_id == log_id_ && is_aligned(header->capacity, block_bytes) &&
                    header->capacity > block_bytes && header->rows_bytes <= header->capacity - block_bytes;
  if (!fits) co_return std::optional<StateSlot>{};
  RunningHash hash;
  for (std::uint64_t done = 0; done < header->rows_bytes;) {
    const std::uint64_t left = header->rows_bytes - done;
    const std::size_t length = std::min<std::uint64_t>(flush_bytes, align_up(left, block_bytes));
    auto reading_rows = file_.read(offset + block_bytes + done, memory.bytes().first(length));
    auto rows = co_await reading_rows;
    if (!rows || *rows < std::min<std::uint64_t>(left, length)) co_return std::optional<StateSlot>{};
    hash.add(Bytes(memory.bytes()).first(std::min<std::uint64_t>(left, length)));
    done += length;
    co_await Yield{};
  }
  if (hash.value() != header->rows_hash) co_return std::optional<StateSlot>{};
  co_return std::optional<StateSlot>(StateSlot{offset, *header});
}

Task<> StateFile::save(std::vector<RowSource> runs, std::uint64_t run_bytes, Lsn next_lsn, SegmentKey next) {
  std::vector<RowSource> sources;
  StateHeader header;
  header.log_id = log_id_;
  header.next_lsn = next_lsn;
  header.day = next.day;
  header.next_segment = next.number;
  header.sequence = 1;
  std::uint64_t rows_max = run_bytes;
  if (newest_) {
    sources.push_back(rows());
    rows_max += newest_->header.rows_bytes;
    header.sequence = newest_->header.sequence + 1;
    header.capacity = newest_->header.capacity;
  }
  for (RowSource& run : runs) sources.push_back(std::move(run));
  if (newest_ && block_bytes + rows_max <= header.capacity) {
    const std::uint64_t offset = newest_->offset == 0 ? header.capacity : 0;
    auto writing = write_slot(file_, offset, std::move(sources), header);
    co_return co_await writing;
  }
  header.capacity = align_up(block_bytes + 2 * rows_max, capacity_step);
  const std::string temporary = path_ + ".tmp";
  auto opening =
      File::open(reactor_, temporary, open_read | open_write | open_create | open_truncate | direct_flag(buffered_));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto writing = write_slot(*file, 0, std::move(sources), header);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  auto renaming = Directory::rename_file(reactor_, temporary, path_);
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  file_ = std::move(*file);
  auto naming = make_name_durable(reactor_, parent_path(path_));
  co_return co_await naming;
}

// A merge by key; of equal keys the row of the later source stays.
Task<> StateFile::write_slot(File& file, std::uint64_t offset, std::vector<RowSource> sources, StateHeader header) {
  AlignedMemory buffer(flush_bytes + row_max + block_bytes);
  const MutableBytes bytes = buffer.bytes();
  std::size_t filled = 0;
  std::uint64_t at = offset + block_bytes;
  RunningHash hash;
  std::vector<Bytes> rows(sources.size());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    auto advancing = sources[i].next();
    auto row = co_await advancing;
    if (!row) co_return fail(row.error());
    rows[i] = *row;
  }
  for (std::uint64_t count = 1;; ++count) {
    std::size_t least = sources.size();
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (!rows[i].empty() && (least == sources.size() || row_key(rows[i]) <= row_key(rows[least]))) least = i;
    if (least == sources.size()) break;
    const RowKey key = row_key(rows[least]);
    std::memcpy(bytes.data() + filled, rows[least].data(), rows[least].size());
    hash.add(rows[least]);
    filled += rows[least].size();
    header.rows_bytes += rows[least].size();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].empty() || row_key(rows[i]) != key) continue;
      auto advancing = sources[i].next();
      auto row = co_await advancing;
      if (!row) co_return fail(row.error());
      rows[i] = *row;
    }
    if (filled >= flush_bytes) {
      auto writing = file.write_exact(at, bytes.first(flush_bytes), false);
      auto written = co_await writing;
      if (!written) co_return fail(written.error());
      at += flush_bytes;
      filled -= flush_bytes;
      std::memmove(bytes.data(), bytes.data() + flush_bytes, filled);
    }
    if (count % rows_per_step == 0) co_await Yield{};
  }
  const std::size_t padded = align_up(filled, block_bytes);
  std::memset(bytes.data() + filled, 0, padded - filled);
  if (padded > 0) {
    auto writing = file.write_exact(at, bytes.first(padded), false);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
  }
  // The rows first, then the header that makes them count.
  auto syncing = file.sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  header.rows_hash = hash.value();
  write_block(header, bytes.first(block_bytes));
  auto heading = file.write_exact(offset, bytes.first(block_bytes), true);
  auto headed = co_await heading;
  if (!headed) co_return fail(headed.error());
  newest_ = StateSlot{offset, header};
  co_return Result<>{};
}

}  // namespace millrace
