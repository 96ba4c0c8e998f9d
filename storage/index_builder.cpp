#include "storage/index_builder.hpp"

#include <algorithm>
#include <cstring>

#include "storage/row_merge.hpp"
#include "storage/state_rows.hpp"
#include "storage/step_sort.hpp"

namespace millrace {

namespace {

constexpr std::size_t flush_bytes = 256 * KiB;
constexpr std::size_t put_max = 4 * KiB;          // one row at most
constexpr std::uint32_t entries_per_step = 2048;  // a run's entries are scattered in memory
constexpr std::uint32_t rows_per_step = 4096;
constexpr std::size_t capture_step_bytes = 64 * KiB;  // state rows taken in one turn

/// A state row by its place, for sorting.
struct PlacedRow {
  RowKey key;
  std::uint32_t at = 0;
  std::uint32_t length = 0;
};

}  // namespace

IndexBuilder::IndexBuilder(Reactor& reactor)
    : reactor_(reactor), first_(block_bytes), buffer_(flush_bytes + put_max + block_bytes) {}

// ---- A unit's bytes.

Task<> IndexBuilder::begin_unit(IndexFile& file) {
  auto cutting = file.drop_torn_end();
  auto cut = co_await cutting;
  if (!cut) co_return fail(cut.error());
  file.touched();
  begin_ = at_ = file.end();
  file_ = &file;
  std::memset(buffer_.bytes().data(), 0, unit_header_bytes);
  filled_ = hashed_ = unit_header_bytes;
  length_ = 0;
  hash_.reset();
  co_return {};
}

bool IndexBuilder::put(Bytes bytes) {
  MR_ASSERT(bytes.size() <= put_max && filled_ + bytes.size() <= buffer_.size());
  std::memcpy(buffer_.bytes().data() + filled_, bytes.data(), bytes.size());
  filled_ += bytes.size();
  length_ += bytes.size();
  return filled_ >= flush_bytes;
}

// Writes the whole blocks of the buffer; the unit's first one is kept back.
Task<> IndexBuilder::flush() {
  const MutableBytes bytes = buffer_.bytes();
  hash_.add(Bytes(bytes).subspan(hashed_, filled_ - hashed_));
  const std::size_t whole = align_down(filled_, block_bytes);
  std::size_t skip = 0;
  if (at_ == begin_ && whole > 0) {
    std::memcpy(first_.bytes().data(), bytes.data(), block_bytes);
    skip = block_bytes;
  }
  if (whole > skip) {
    auto writing = file_->file().write_exact(at_ + skip, bytes.subspan(skip, whole - skip), false);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
  }
  std::memmove(bytes.data(), bytes.data() + whole, filled_ - whole);
  at_ += whole;
  filled_ -= whole;
  hashed_ = filled_;
  co_return {};
}

Task<> IndexBuilder::end_unit(IndexFile& file, UnitHeader header) {
  hash_.add(Bytes(buffer_.bytes()).subspan(hashed_, filled_ - hashed_));
  header.payload_hash = hash_.value();
  header.payload_bytes = length_;
  const std::size_t padded = align_up(filled_, block_bytes);
  std::memset(buffer_.bytes().data() + filled_, 0, padded - filled_);
  filled_ = hashed_ = padded;
  auto flushing = flush();
  auto flushed = co_await flushing;
  if (!flushed) co_return fail(flushed.error());
  const auto& spine = file.spine();
  auto before = spine.end();
  if (header.kind == UnitKind::day_table) {
    header.back = spine.empty() ? 0 : begin_ - spine.back().offset;
  } else {
    while (before != spine.begin() && std::prev(before)->header.first_segment >= header.first_segment) --before;
    header.back = before == spine.begin() ? 0 : begin_ - std::prev(before)->offset;
  }
  seal_unit_header(header);
  store(first_.bytes(), 0, header);
  auto writing = file.file().write_exact(begin_, first_.bytes(), false);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  auto syncing = file.file().sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  file.unit_appended({.offset = begin_, .header = header});
  co_return {};
}

// ---- A run.

Task<> IndexBuilder::append_run(IndexFile& file, const OpenRun& run, StateCapture& capture) {
  auto beginning = begin_unit(file);
  auto begun = co_await beginning;
  if (!begun) co_return fail(begun.error());
  auto putting = put_entries(run);
  auto put_all = co_await putting;
  if (!put_all) co_return fail(put_all.error());
  auto taking = put_state_rows(capture);
  auto state_bytes = co_await taking;
  if (!state_bytes) co_return fail(state_bytes.error());
  UnitHeader header{.kind = UnitKind::run,
                    .first_segment = run.segment().key.number,
                    .segments = 1,
                    .first_lsn = run.segment().first_lsn,
                    .end_lsn = run.end_lsn(),
                    .first_leader_time = run.first_time(),
                    .last_leader_time = run.last_time(),
                    .entries = run.entry_count(),
                    .streams = run.stream_count(),
                    .state_bytes = *state_bytes,
                    .segment_id = run.segment().id};
  auto ending = end_unit(file, header);
  auto ended = co_await ending;
  if (!ended) co_return fail(ended.error());
  ++file.stats().runs_written;
  const std::uint64_t after = std::uint64_t{run.segment().key.number} + 1;
  std::uint64_t fan = directory_fan;
  for (std::uint8_t level = 1; after % fan == 0; ++level, fan *= directory_fan) {
    auto appending = append_directory(file, level);
    auto appended = co_await appending;
    if (!appended) co_return fail(appended.error());
  }
  co_return {};
}

Task<> IndexBuilder::put_entries(const OpenRun& run) {
  order_.resize(run.stream_count());
  for (std::uint32_t number = 0; number < order_.size(); ++number) {
    order_[number] = number;
    if (number % rows_per_step == rows_per_step - 1) co_await Yield{};
  }
  auto by_id = [&run](std::uint32_t a, std::uint32_t b) { return run.stream(a).stream < run.stream(b).stream; };
  auto sorting = sort_in_steps(reactor_, order_, by_id);
  auto sorted = co_await sorting;
  if (!sorted) co_return fail(sorted.error());
  std::uint32_t steps = 0;
  for (const std::uint32_t number : order_) {
    for (std::uint32_t entry = run.first_entry(number); entry != OpenRun::none; entry = run.next_entry(entry)) {
      if (put_row(run.entry(entry))) {
        auto flushing = flush();
        auto flushed = co_await flushing;
        if (!flushed) co_return fail(flushed.error());
      }
      if (++steps % entries_per_step == 0) co_await Yield{};
    }
  }
  std::uint64_t first_entry = 0;
  for (const std::uint32_t number : order_) {
    const RunStream& stream = run.stream(number);
    const StreamRun row{.stream_id = stream.stream,
                        .first_entry = first_entry,
                        .entries = stream.entries,
                        .records = stream.records,
                        .first_offset = stream.first_offset,
                        .end_offset = stream.end_offset,
                        .first_id = stream.first_id,
                        .first_leader_time = stream.first_time,
                        .last_leader_time = stream.last_time};
    first_entry += stream.entries;
    if (put_row(row)) {
      auto flushing = flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    }
    if (++steps % rows_per_step == 0) co_await Yield{};
  }
  co_return {};
}

Task<std::uint64_t> IndexBuilder::put_state_rows(StateCapture& capture) {
  rows_.clear();
  while (capture.take_rows(rows_, capture_step_bytes)) co_await Yield{};
  std::vector<PlacedRow> placed;
  for (std::size_t at = 0; at < rows_.size();) {
    const Bytes rest = Bytes(rows_).subspan(at);
    const auto length = static_cast<std::uint32_t>(row_length(rest));
    placed.push_back({row_key(rest), static_cast<std::uint32_t>(at), length});
    at += length;
    if (placed.size() % rows_per_step == 0) co_await Yield{};
  }
  auto by_key = [](const PlacedRow& a, const PlacedRow& b) { return a.key < b.key; };
  auto sorting = sort_in_steps(reactor_, placed, by_key);
  auto sorted = co_await sorting;
  if (!sorted) co_return fail(sorted.error());
  std::uint64_t total = 0;
  std::uint32_t steps = 0;
  for (const PlacedRow& row : placed) {
    total += row.length;
    if (put(Bytes(rows_).subspan(row.at, row.length))) {
      auto flushing = flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    }
    if (++steps % rows_per_step == 0) co_await Yield{};
  }
  co_return total;
}

// ---- Directories and the day table.

Task<> IndexBuilder::append_directory(IndexFile& file, std::uint8_t level) {
  const std::uint32_t last = file.spine().back().end_segment() - 1;
  std::uint64_t fan = 1;
  for (std::uint8_t i = 0; i < level; ++i) fan *= directory_fan;
  std::vector<UnitRef> units;
  for (const UnitRef& unit : file.spine())
    if (unit.header.first_segment / fan == last / fan) units.push_back(unit);
  MR_ASSERT(!units.empty());
  // A directory below could not be written: its units stay in the spine, and so do these.
  if (units.size() > directory_fan) co_return {};
  RowMerge merge(file, units);
  auto starting = merge.begin();
  auto started = co_await starting;
  if (!started) co_return fail(started.error());
  auto beginning = begin_unit(file);
  auto begun = co_await beginning;
  if (!begun) co_return fail(begun.error());
  std::uint64_t rows = 0;
  while (true) {
    auto advancing = merge.next();
    auto row = co_await advancing;
    if (!row) co_return fail(row.error());
    if (!*row) break;
    ++rows;
    if (put_row(**row)) {
      auto flushing = flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    }
  }
  UnitHeader header = units.back().header;
  header.kind = UnitKind::directory;
  header.level = level;
  header.first_segment = units.front().header.first_segment;
  header.segments = units.back().end_segment() - header.first_segment;
  header.first_lsn = units.front().header.first_lsn;
  header.first_leader_time = units.front().header.first_leader_time;
  header.entries = rows;
  header.streams = 0;
  header.state_bytes = 0;
  header.covers = begin_ - units.back().offset;
  auto ending = end_unit(file, header);
  auto ended = co_await ending;
  if (!ended) co_return fail(ended.error());
  ++file.stats().directories_written;
  co_return {};
}

namespace {

/// The rows that a day table goes on from: of the table before, or given.
class OldRows {
 public:
  OldRows(IndexFile* table, std::vector<DayRow> known)
      : table_(table), rows_(std::move(known)), left_(table != nullptr ? table->table()->header.entries : 0) {
    if (table != nullptr) at_ = table->table()->offset + unit_header_bytes;
  }
  bool has_row() const { return next_ < rows_.size(); }
  const DayRow& row() const { return rows_[next_]; }
  void pass() { ++next_; }
  bool wants_more() const { return !has_row() && left_ > 0; }
  Task<> fill() {
    rows_.resize(std::min<std::uint64_t>(left_, rows_read_max));
    next_ = 0;
    auto reading = table_->read_bytes(at_, {reinterpret_cast<std::byte*>(rows_.data()), rows_.size() * sizeof(DayRow)});
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    at_ += rows_.size() * sizeof(DayRow);
    left_ -= rows_.size();
    co_return Result<>{};
  }

 private:
  static constexpr std::size_t rows_read_max = 1024;
  IndexFile* table_;
  std::vector<DayRow> rows_;
  std::size_t next_ = 0;
  std::uint64_t left_;
  std::uint64_t at_ = 0;
};

}  // namespace

Task<> IndexBuilder::append_day_table(IndexFile& file, IndexFile* before, std::vector<DayRow> known) {
  if (file.spine().empty()) co_return fail(Error::not_found);
  RowMerge merge(file, file.spine());
  auto starting = merge.begin();
  auto started = co_await starting;
  if (!started) co_return fail(started.error());
  auto advancing = merge.next();
  auto row = co_await advancing;
  if (!row) co_return fail(row.error());
  auto beginning = begin_unit(file);
  auto begun = co_await beginning;
  if (!begun) co_return fail(begun.error());
  OldRows old(before, std::move(known));
  std::uint64_t rows = 0;
  while (true) {
    if (old.wants_more()) {
      auto filling = old.fill();
      auto filled = co_await filling;
      if (!filled) co_return fail(filled.error());
    }
    if (!old.has_row() && !*row) break;
    DayRow out;
    if (*row && (!old.has_row() || (**row).stream_id <= old.row().stream_id)) {
      out = {.stream_id = (**row).stream_id, .begin = (**row).first_offset, .end = (**row).end_offset};
      if (old.has_row() && old.row().stream_id == out.stream_id) old.pass();
      while (*row && (**row).stream_id == out.stream_id) {
        out.end = (**row).end_offset;
        auto going_on = merge.next();
        row = co_await going_on;
        if (!row) co_return fail(row.error());
      }
    } else {
      out = {.stream_id = old.row().stream_id, .begin = old.row().end, .end = old.row().end};
      old.pass();
    }
    if (put_row(out)) {
      auto flushing = flush();
      auto flushed = co_await flushing;
      if (!flushed) co_return fail(flushed.error());
    }
    if (++rows % rows_per_step == 0) co_await Yield{};
  }
  const UnitRef first = file.spine().front();
  UnitHeader header = file.spine().back().header;
  header.kind = UnitKind::day_table;
  header.level = 0;
  header.first_segment = first.header.first_segment;
  header.segments = file.next_segment() - header.first_segment;
  header.first_lsn = first.header.first_lsn;
  header.first_leader_time = first.header.first_leader_time;
  header.entries = rows;
  header.streams = 0;
  header.state_bytes = 0;
  header.covers = 0;
  auto ending = end_unit(file, header);
  co_return co_await ending;
}

}  // namespace millrace
