#include "storage/state_load.hpp"

#include <algorithm>

#include "storage/names.hpp"
#include "storage/state_rows.hpp"

namespace millrace {

namespace {

constexpr std::size_t apply_bytes = 64 * KiB;  // rows applied in one turn

Task<> apply_source(RowSource source, Tables& tables) {
  std::vector<std::byte> rows;
  while (true) {
    auto advancing = source.next();
    auto row = co_await advancing;
    if (!row) co_return fail(row.error());
    if (!row->empty()) rows.insert(rows.end(), row->begin(), row->end());
    if (!row->empty() && row_key(*row).tag == StateTag::log) {
      StateRowReader reader(*row);
      StateRow log;
      auto read = reader.next(log);
      if (!read) co_return fail(read.error());
      tables.set_log(log.log);
    }
    if (!row->empty() && rows.size() < apply_bytes) continue;
    auto applied = tables.apply_rows(rows);
    if (!applied) co_return fail(applied.error());
    if (row->empty()) co_return Result<>{};
    rows.clear();
    co_await Yield{};
  }
}

// The runs that `unit` covers, newest first, down to segment number `from`.
Task<> collect(IndexFile& file, UnitRef unit, std::uint32_t from, std::uint32_t until, std::vector<RunRows>& runs) {
  if (unit.end_segment() <= from || unit.header.first_segment >= until) co_return Result<>{};
  if (unit.header.kind == UnitKind::run) {
    runs.push_back({{file.day(), unit.header.first_segment}, unit});
    co_return Result<>{};
  }
  if (unit.header.covers == 0 || unit.header.covers > unit.offset) co_return fail(Error::corrupt);
  auto referring = file.read_unit_ref(unit.offset - unit.header.covers);
  auto child = co_await referring;
  while (true) {
    if (!child) co_return fail(child.error());
    const bool inside = child->header.first_segment >= unit.header.first_segment && child->offset < unit.offset;
    if (!inside) co_return Result<>{};
    auto collecting = collect(file, *child, from, until, runs);
    auto collected = co_await collecting;
    if (!collected) co_return fail(collected.error());
    if (child->header.first_segment <= std::max(from, unit.header.first_segment)) co_return Result<>{};
    if (child->header.back == 0 || child->header.back > child->offset) co_return Result<>{};
    auto stepping = file.read_unit_ref(child->offset - child->header.back);
    child = co_await stepping;
  }
}

}  // namespace

Task<std::vector<RunRows>> list_runs(Index& index, SegmentKey from, SegmentKey until) {
  std::vector<RunRows> all;
  const std::vector<Day> days = index.days();
  for (const Day day : days) {
    if (day < from.day || day > until.day) continue;
    auto opening = index.file_of(day);
    auto file = co_await opening;
    if (!file && file.error() == Error::not_found) co_return std::move(all);
    if (!file) co_return fail(file.error());
    auto needing = (*file)->need_spine();
    auto needed = co_await needing;
    if (!needed && needed.error() == Error::corrupt) co_return std::move(all);
    if (!needed) co_return fail(needed.error());
    const std::uint32_t first = day == from.day ? from.number : 0;
    const std::uint32_t end = day == until.day ? until.number : UINT32_MAX;
    std::vector<RunRows> runs;
    const std::vector<UnitRef> spine = (*file)->spine();
    for (auto unit = spine.rbegin(); unit != spine.rend(); ++unit) {
      auto collecting = collect(**file, *unit, first, end, runs);
      auto collected = co_await collecting;
      if (!collected && collected.error() == Error::corrupt) break;
      if (!collected) co_return fail(collected.error());
    }
    std::reverse(runs.begin(), runs.end());
    // Only what follows without a gap counts.
    std::uint32_t expected = first;
    for (RunRows& run : runs) {
      if (run.segment.number != expected) co_return std::move(all);
      ++expected;
      all.push_back(run);
    }
    if (day != until.day && !(*file)->complete()) co_return std::move(all);
  }
  co_return std::move(all);
}

namespace {

Task<bool> is_complete(Index& index, Day day) {
  auto opening = index.file_of(day);
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return false;
  if (!file) co_return fail(file.error());
  co_return (*file)->complete();
}

// Whether the index has what lies right before `next`: that day's segments, and the whole day before. What lacks there has to be
// derived, and for that the tables are needed as they were then.
Task<bool> index_reaches(Index& index, SegmentKey next, SegmentKey first_kept) {
  const std::vector<Day> days = index.days();
  for (const Day day : days) {
    if (day > next.day || day.next(2) < next.day) continue;
    if (day == next.day && next.number <= (first_kept.day == day ? first_kept.number : 0)) continue;
    auto opening = index.file_of(day);
    auto file = co_await opening;
    if (!file && file.error() == Error::not_found) co_return false;
    if (!file) co_return fail(file.error());
    if (day == next.day ? (*file)->next_segment() < next.number : !(*file)->complete()) co_return false;
  }
  co_return true;
}

// Whether the index has a run of the segment.
Task<bool> describes(Index& index, SegmentKey segment) {
  auto getting = index.file_of(segment.day);
  auto file = co_await getting;
  if (!file && file.error() == Error::not_found) co_return false;
  if (!file) co_return fail(file.error());
  auto needing = (*file)->need_spine();
  auto needed = co_await needing;
  // What does not verify is derived anew, from all that the segment holds then.
  if (!needed && needed.error() == Error::corrupt) co_return false;
  if (!needed) co_return fail(needed.error());
  co_return (*file)->next_segment() > segment.number;
}

}  // namespace

// The day before holds everything by its state batches; this day's may be incomplete.
SegmentKey load_base(const std::vector<Day>& days, SegmentKey first_kept, SegmentKey until) {
  SegmentKey base = first_kept;
  for (const Day day : days)
    if (day < until.day) base = std::max(first_kept, SegmentKey{day, 0});
  return base;
}

Task<StateLoad> load_tables(Reactor& reactor, StateLoadOptions options, Tables& tables) {
  StateLoad load;
  Index index(reactor, options.shard_directory, options.day_offset_seconds, false, options.buffered);
  index.drop_before(options.first_kept);
  auto opening = index.open();
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  auto loading = StateFile::open(reactor, state_path(options.shard_directory), options.log_id, options.buffered);
  auto state = co_await loading;
  if (!state) co_return fail(state.error());
  Lsn expected{};
  bool usable = (*state)->newest() && (*state)->newest()->header.next() <= options.until &&
                (*state)->newest()->header.next() >= options.first_kept;
  if (usable) {
    auto asking = index_reaches(index, (*state)->newest()->header.next(), options.first_kept);
    auto reaches = co_await asking;
    if (!reaches) co_return fail(reaches.error());
    usable = *reaches;
  }
  if (usable) {
    auto applying = apply_source((*state)->rows(), tables);
    auto applied = co_await applying;
    if (!applied) co_return fail(applied.error());
    load.from_file = true;
    load.next = (*state)->newest()->header.next();
    expected = (*state)->newest()->header.next_lsn;
  } else {
    load.next = load_base(index.days(), options.first_kept, options.until);
    if (load.next.day < options.until.day) {
      auto asking = is_complete(index, load.next.day);
      auto complete = co_await asking;
      if (!complete) co_return fail(complete.error());
      if (!*complete) {
        // Its runs have to be derived, and its state batches may stand behind its first segment: one day more.
        load.derive_from = load.next;
        load.next = load_base(index.days(), options.first_kept, load.next);
      }
    }
  }
  auto listing = list_runs(index, load.next, options.until);
  auto runs = co_await listing;
  if (!runs) co_return fail(runs.error());
  for (const RunRows& run : *runs) {
    if (expected != Lsn{} && run.unit.header.first_lsn < expected) break;
    auto getting = index.file_of(run.segment.day);
    auto file = co_await getting;
    if (!file) co_return fail(file.error());
    auto verifying = (*file)->verify(run.unit);
    auto verified = co_await verifying;
    if (!verified) co_return fail(verified.error());
    if (!*verified) break;
    auto applying = apply_source(RowSource((*file)->file(), run.at(), run.unit.header.state_bytes), tables);
    auto applied = co_await applying;
    if (!applied) co_return fail(applied.error());
    expected = run.unit.header.end_lsn;
    load.next = {run.segment.day, run.segment.number + 1};
    ++load.runs;
  }
  tables.finish_rows();
  auto describing = describes(index, options.until);
  auto described = co_await describing;
  if (!described) co_return fail(described.error());
  load.described = *described;
  load.reads = index.stats().block_reads;
  co_return load;
}

}  // namespace millrace
