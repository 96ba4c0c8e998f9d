#include "storage/index.hpp"

#include <algorithm>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index_file.hpp"

namespace millrace {

namespace {

SeekKey key_of(const Seek& seek) {
  MR_ASSERT(seek.by != Seek::By::latest);
  switch (seek.by) {
    case Seek::By::earliest: return {};
    case Seek::By::offset: return {SeekKey::By::offset, seek.offset.value};
    case Seek::By::time: return {SeekKey::By::time, static_cast<std::uint64_t>(std::max<Nanos>(seek.time, 0))};
    case Seek::By::day_id: return {SeekKey::By::id, seek.id.value};
    case Seek::By::latest: break;
  }
  return {};
}

}  // namespace

Index::Index(Reactor& reactor, std::string shard_directory, std::int32_t day_offset_seconds, bool writable,
             bool buffered)
    : reactor_(reactor),
      shard_directory_(std::move(shard_directory)),
      day_offset_seconds_(day_offset_seconds),
      writable_(writable),
      buffered_(buffered) {}

Index::~Index() = default;

Task<> Index::open() {
  auto listing = Directory::list(reactor_, shard_directory_);
  auto entries = co_await listing;
  if (!entries) co_return fail(entries.error());
  days_.clear();
  for (const DirectoryEntry& entry : *entries) {
    const auto day = entry.is_directory ? parse_day(entry.name) : std::nullopt;
    if (day && *day >= first_.day) days_.push_back(*day);
  }
  std::sort(days_.begin(), days_.end());
  co_return {};
}

void Index::day_added(Day day) {
  if (days_.empty() || days_.back() < day) days_.push_back(day);
}

void Index::day_dropped(Day day) {
  std::erase(days_, day);
  forget(day);
}

void Index::drop_before(SegmentKey first) {
  first_ = std::max(first_, first);
  std::erase_if(days_, [&](Day day) { return day < first_.day; });
  std::erase_if(open_, [&](const OpenDay& open) { return open.day < first_.day; });
}

void Index::forget(Day day) {
  std::erase_if(open_, [&](const OpenDay& open) { return open.day == day; });
}

Task<std::shared_ptr<IndexFile>> Index::file_of(Day day) {
  for (OpenDay& open : open_) {
    if (open.day != day) continue;
    open.used = ++use_count_;
    co_return open.file;
  }
  auto opening = IndexFile::open(reactor_, index_path(shard_directory_, day), day, writable_, buffered_, stats_);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  // Somebody else may have opened it meanwhile: all share one, so that all see what is appended.
  for (OpenDay& open : open_)
    if (open.day == day) co_return open.file;
  if (open_.size() == files_open_max) {
    auto least = std::min_element(open_.begin(), open_.end(),
                                  [](const OpenDay& a, const OpenDay& b) { return a.used < b.used; });
    open_.erase(least);
  }
  open_.push_back({day, ++use_count_, std::shared_ptr<IndexFile>(std::move(*opened))});
  co_return open_.back().file;
}

// The position in days_ where looking begins. By offset the day tables are halved over; a day without a table, or one that does not
// know the stream yet, lies behind what it says nothing about.
Task<std::size_t> Index::first_day(StreamId stream, Seek seek) {
  if (seek.by == Seek::By::earliest) co_return 0;
  if (seek.by == Seek::By::day_id)
    co_return static_cast<std::size_t>(std::lower_bound(days_.begin(), days_.end(), seek.day) - days_.begin());
  if (seek.by == Seek::By::time) {
    // A day held past its end by a clock that jumped has leader times of the next one: begin one day earlier.
    const Day day = day_of(seek.time, day_offset_seconds_);
    auto after = std::upper_bound(days_.begin(), days_.end(), day);
    co_return static_cast<std::size_t>(std::max<std::ptrdiff_t>(after - days_.begin() - 1, 0));
  }
  const std::vector<Day> days = days_;
  std::size_t low = 0;
  std::size_t high = days.size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (ensure) {
      auto ensuring = ensure(days[middle]);
      auto ensured = co_await ensuring;
      if (!ensured) co_return fail(ensured.error());
    }
    auto opening = file_of(days[middle]);
    auto file = co_await opening;
    if (!file && file.error() != Error::not_found) co_return fail(file.error());
    bool ended = false;
    if (file && (*file)->table()) {
      auto finding = (*file)->find_day_row(stream);
      auto row = co_await finding;
      if (!row) co_return fail(met(row.error(), days[middle]));
      ended = !*row || (**row).end <= seek.offset;
    }
    if (ended) low = middle + 1;
    else high = middle;
  }
  // Days may have been dropped while we waited.
  const Day day = low < days.size() ? days[low] : Day{UINT32_MAX};
  co_return static_cast<std::size_t>(std::lower_bound(days_.begin(), days_.end(), day) - days_.begin());
}

Task<std::optional<FoundRun>> Index::find(StreamId stream, Seek seek) {
  auto choosing = first_day(stream, seek);
  auto begin = co_await choosing;
  if (!begin) co_return fail(begin.error());
  const SeekKey key = key_of(seek);
  Day from = *begin < days_.size() ? days_[*begin] : Day{UINT32_MAX};
  while (true) {
    const auto next = std::lower_bound(days_.begin(), days_.end(), from);
    if (next == days_.end()) break;
    const Day day = *next;
    from = day.next();
    if (ensure) {
      auto ensuring = ensure(day);
      auto ensured = co_await ensuring;
      if (!ensured) co_return fail(ensured.error());
    }
    auto opening = file_of(day);
    auto file = co_await opening;
    if (!file && file.error() == Error::not_found) continue;
    if (!file) co_return fail(file.error());
    // An id counts within its own day; behind that day anything comes later.
    const SeekKey of_day = key.by == SeekKey::By::id && day != seek.day ? SeekKey{} : key;
    auto finding = (*file)->find(stream, of_day, first_segment_of(day));
    auto found = co_await finding;
    if (!found) co_return fail(met(found.error(), day));
    if (*found) co_return *found;
  }
  co_return std::optional<FoundRun>{};
}

Task<std::uint32_t> Index::find_entry(FoundRun run, Seek seek) {
  auto opening = file_of(run.segment.day);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  SeekKey key = key_of(seek);
  if (key.by == SeekKey::By::id && run.segment.day != seek.day) key = {};
  auto finding = (*file)->find_entry(run, key);
  auto found = co_await finding;
  if (!found) co_return fail(met(found.error(), run.segment.day));
  co_return found;
}

Task<> Index::read_entries(FoundRun run, std::uint32_t from, std::vector<RunEntry>& target) {
  auto opening = file_of(run.segment.day);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto reading = (*file)->read_entries(run, from, target);
  auto read = co_await reading;
  if (!read) co_return fail(met(read.error(), run.segment.day));
  co_return read;
}

Error Index::met(Error error, Day day) {
  if (error == Error::corrupt) damaged_ = day;
  return error;
}

}  // namespace millrace
