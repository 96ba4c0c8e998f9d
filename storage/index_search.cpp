// Searching the sorted rows of an index file. Rows are fixed-size and lie one behind the other; a probe is one 4 KiB block.
#include <algorithm>
#include <cstring>

#include "storage/index_file.hpp"

namespace millrace {

namespace {

template <class Row>
MutableBytes row_bytes_of(Row& row) {
  static_assert(std::is_trivially_copyable_v<Row>);
  return {reinterpret_cast<std::byte*>(&row), sizeof(Row)};
}

// Where the key lies between two known ones, as if keys were spread evenly.
std::uint64_t interpolate(std::uint64_t low, std::uint64_t high, std::uint64_t low_key, std::uint64_t high_key,
                          std::uint64_t key) {
  if (high_key <= low_key || key <= low_key) return low;
  const double share = static_cast<double>(key - low_key) / static_cast<double>(high_key - low_key);
  const auto step = static_cast<std::uint64_t>(share * static_cast<double>(high - low));
  return std::min(low + step, high - 1);
}

}  // namespace

bool SeekKey::passed(Offset first, Offset end, RecordId first_id, Nanos last_time) const {
  switch (by) {
    case By::any: return false;
    case By::offset: return end.value <= key;
    case By::time: return last_time < static_cast<Nanos>(key);
    case By::id:
      // Ids and offsets of a stream's day rise together.
      return first_id.value + (end.value - first.value) <= key;
  }
  return false;
}

// The number of the first row whose 8-byte key is >= `key`. Stream ids are hashes (`hashed`), spread evenly over 64 bits: a few
// guesses by interpolation meet the row; when they do not, halving does.
Task<std::uint64_t> IndexFile::lower_bound(std::uint64_t at, std::uint64_t rows, std::uint32_t row_bytes,
                                           std::uint32_t key_at, std::uint64_t key, bool hashed) {
  std::uint64_t low = 0;
  std::uint64_t high = rows;  // the answer is in [low, high]
  std::uint64_t low_key = 0;
  std::uint64_t high_key = UINT64_MAX;
  int guesses = hashed ? 6 : 0;
  while (low < high) {
    std::uint64_t probe = low + (high - low) / 2;
    if (guesses > 0) {
      --guesses;
      probe = interpolate(low, high, low_key, high_key, key);
    }
    // All rows that lie whole in the probe's block are compared for one read.
    const std::uint64_t block_number = (at + probe * row_bytes + key_at) / block_bytes;
    auto getting = block(block_number);
    auto data = co_await getting;
    if (!data) co_return fail(data.error());
    const std::uint64_t begin = block_number * block_bytes;
    auto key_of = [&](std::uint64_t row) {
      const std::uint64_t place = at + row * row_bytes + key_at - begin;
      std::uint64_t value = 0;
      std::memcpy(&value, *data + place, sizeof(value));
      return value;
    };
    // Keys are 8-aligned, so a key never straddles blocks: first and last row whose key lies in this one.
    const std::uint64_t base = at + key_at;
    std::uint64_t first = begin > base ? (begin - base + row_bytes - 1) / row_bytes : 0;
    std::uint64_t last = (begin + block_bytes - 1 - base) / row_bytes;
    first = std::max(first, low);
    last = std::min(last, high - 1);
    if (key_of(first) >= key) {
      high_key = key_of(first);
      high = first;
      continue;
    }
    if (key_of(last) < key) {
      low_key = key_of(last);
      low = last + 1;
      continue;
    }
    while (first < last) {
      const std::uint64_t middle = first + (last - first) / 2;
      if (key_of(middle) >= key) last = middle;
      else first = middle + 1;
    }
    co_return last;
  }
  co_return low;
}

Task<std::optional<FoundRun>> IndexFile::find(StreamId stream, SeekKey key, std::uint32_t first_segment) {
  auto needing = need_spine();
  auto needed = co_await needing;
  if (!needed && needed.error() == Error::corrupt) {
    // What is not found here is looked for again once the index has been verified, and derived anew.
    clear();
    co_return std::optional<FoundRun>{};
  }
  if (!needed) co_return fail(needed.error());
  // The spine changes while we wait: look at a copy. It has at most fifteen units a level.
  const std::vector<UnitRef> units = spine_;
  std::size_t low = 0;
  while (low < units.size() && units[low].end_segment() <= first_segment) ++low;
  if (key.by == SeekKey::By::time)
    while (low < units.size() && units[low].header.last_leader_time < static_cast<Nanos>(key.key)) ++low;
  // Halve over the units that hold the stream; one that does not says nothing, its successor is asked instead.
  std::size_t high = units.size();
  std::optional<FoundRun> best;
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    std::size_t probe = middle;
    std::optional<FoundRun> found;
    bool held = false;
    for (; probe < high; ++probe) {
      const SeekKey any{};
      auto looking = find_in(units[probe], stream, any, first_segment);
      auto there = co_await looking;
      if (!there) co_return fail(there.error());
      if (!*there) continue;
      held = true;
      auto searching = find_in(units[probe], stream, key, first_segment);
      auto sought = co_await searching;
      if (!sought) co_return fail(sought.error());
      found = *sought;
      break;
    }
    if (!held) high = middle;  // nobody from the middle on holds it
    else if (found) {
      best = found;
      high = middle;
    } else low = probe + 1;
  }
  co_return best;
}

Task<std::optional<FoundRun>> IndexFile::find_in(UnitRef unit, StreamId stream, SeekKey key,
                                                 std::uint32_t first_segment) {
  if (unit.end_segment() <= first_segment) co_return std::optional<FoundRun>{};
  if (unit.header.kind == UnitKind::run) {
    auto searching = find_in_run(unit, stream, key);
    co_return co_await searching;
  }
  const std::uint64_t rows_at = unit.offset + unit_header_bytes;
  auto bounding = lower_bound(rows_at, unit.header.entries, sizeof(DirectoryRow), 0, stream.value, true);
  auto bound = co_await bounding;
  if (!bound) co_return fail(bound.error());
  for (std::uint64_t number = *bound; number < unit.header.entries; ++number) {
    DirectoryRow row;
    auto reading = read_bytes(rows_at + number * sizeof(row), row_bytes_of(row));
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (row.stream_id != stream) break;
    if (key.passed(row.first_offset, row.end_offset, row.first_id, row.last_leader_time)) continue;
    if (row.unit_offset >= unit.offset) co_return fail(Error::corrupt);
    auto referring = read_unit_ref(row.unit_offset);
    auto child = co_await referring;
    if (!child) co_return fail(child.error());
    if (child->header.kind == UnitKind::day_table ||
        (child->header.kind == UnitKind::directory && child->header.level >= unit.header.level))
      co_return fail(Error::corrupt);
    auto descending = find_in(*child, stream, key, first_segment);
    auto found = co_await descending;
    if (!found) co_return fail(found.error());
    if (*found) co_return *found;
  }
  co_return std::optional<FoundRun>{};
}

Task<std::optional<FoundRun>> IndexFile::find_in_run(UnitRef unit, StreamId stream, SeekKey key) {
  const std::uint64_t entries_at = unit.offset + unit_header_bytes;
  const std::uint64_t rows_at = entries_at + unit.header.entries * sizeof(RunEntry);
  auto bounding = lower_bound(rows_at, unit.header.streams, sizeof(StreamRun), 0, stream.value, true);
  auto bound = co_await bounding;
  if (!bound) co_return fail(bound.error());
  if (*bound == unit.header.streams) co_return std::optional<FoundRun>{};
  StreamRun row;
  auto reading = read_bytes(rows_at + *bound * sizeof(row), row_bytes_of(row));
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (row.stream_id != stream) co_return std::optional<FoundRun>{};
  if (row.first_entry + row.entries > unit.header.entries) co_return fail(Error::corrupt);
  if (key.passed(row.first_offset, row.end_offset, row.first_id, row.last_leader_time))
    co_return std::optional<FoundRun>{};
  co_return std::optional<FoundRun>(FoundRun{.segment = {day_, unit.header.first_segment},
                                             .segment_id = unit.header.segment_id,
                                             .entries_at = entries_at + row.first_entry * sizeof(RunEntry),
                                             .stream = row});
}

Task<std::uint32_t> IndexFile::find_entry(const FoundRun& found, SeekKey key) {
  const FoundRun run = found;
  std::uint64_t offset = run.stream.first_offset.value;
  if (key.by == SeekKey::By::any) co_return 0;
  if (key.by == SeekKey::By::time) {
    static_assert(offsetof(RunEntry, leader_time) == 8);
    auto bounding = lower_bound(run.entries_at, run.stream.entries, sizeof(RunEntry), 8, key.key, false);
    auto bound = co_await bounding;
    if (!bound) co_return fail(bound.error());
    co_return static_cast<std::uint32_t>(std::min<std::uint64_t>(*bound, run.stream.entries - 1));
  }
  if (key.by == SeekKey::By::offset) offset = key.key;
  else if (key.key > run.stream.first_id.value) offset += key.key - run.stream.first_id.value;
  // The last entry that does not begin behind the offset.
  auto bounding = lower_bound(run.entries_at, run.stream.entries, sizeof(RunEntry), 0, offset + 1, false);
  auto bound = co_await bounding;
  if (!bound) co_return fail(bound.error());
  co_return static_cast<std::uint32_t>(*bound == 0 ? 0 : *bound - 1);
}

Task<> IndexFile::read_entries(const FoundRun& run, std::uint32_t from, std::vector<RunEntry>& target) {
  MR_ASSERT(from + target.size() <= run.stream.entries);
  auto reading = read_bytes(run.entries_at + std::uint64_t{from} * sizeof(RunEntry),
                            {reinterpret_cast<std::byte*>(target.data()), target.size() * sizeof(RunEntry)});
  co_return co_await reading;
}

Task<std::optional<DayRow>> IndexFile::find_day_row(StreamId stream) {
  if (!table_) co_return std::optional<DayRow>{};
  const UnitRef unit = *table_;
  const std::uint64_t rows_at = unit.offset + unit_header_bytes;
  auto bounding = lower_bound(rows_at, unit.header.entries, sizeof(DayRow), 0, stream.value, true);
  auto bound = co_await bounding;
  if (!bound) co_return fail(bound.error());
  if (*bound == unit.header.entries) co_return std::optional<DayRow>{};
  DayRow row;
  auto reading = read_bytes(rows_at + *bound * sizeof(row), row_bytes_of(row));
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (row.stream_id != stream) co_return std::optional<DayRow>{};
  co_return std::optional<DayRow>(row);
}

}  // namespace millrace
