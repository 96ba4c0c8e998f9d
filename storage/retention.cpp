// Retention: old segments leave, whole days by --retain-days, the oldest closed segments by --retain-bytes. It is this node's
// own matter and never on the hot path. What is about to go stands durably in node.meta first, so that a crash in the
// middle is finished and not wondered at; then readers are told, then files become pool files or are removed.
//
// Nothing leaves before the tables stand in what stays: a complete series of state batches behind it (made for the purpose
// when there is none).
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "storage/log_core.hpp"
#include "storage/names.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

namespace {

constexpr Nanos look_every = 10 * nanos_per_second;
constexpr Nanos pin_look_again = 100 * nanos_per_milli;
constexpr std::uint64_t truncate_step = 32 * MiB;

struct Kept {
  SegmentKey key{};
  std::uint64_t bytes = 0;
};

}  // namespace

void LogCore::look_at_retention() {
  const bool wanted = options_.retain_days > 0 || options_.retain_bytes > 0 || meta_->slot().drop_count > 0;
  if (!wanted || retention_running_ || !working()) return;
  retention_running_ = true;
  background(run_retention());
}

Task<> LogCore::run_retention() {
  auto finishing = finish_drop();
  auto finished = co_await finishing;
  bool more = finished.has_value();
  while (working() && (options_.retain_days > 0 || options_.retain_bytes > 0)) {
    if (more) {
      auto retaining = retain_once();
      auto dropped = co_await retaining;
      more = dropped && *dropped;
      if (more) continue;
    }
    // Woken early by a day's end or a closed segment.
    const Nanos until = reactor_.now() + look_every;
    const Day day = tables_->log().day;
    const auto key = last_key_;
    while (working() && reactor_.now() < until && tables_->log().day == day && last_key_ == key) {
      const Nanos again = reactor_.now() + pin_look_again;
      co_await Sleep(reactor_, again);
    }
    more = true;
  }
  retention_running_ = false;
  co_return Result<>{};
}

/// The oldest segments that should go now; at most drop_names_max of them, never the open one.
Task<std::vector<DropName>> LogCore::choose_drops() {
  std::vector<DropName> drops;
  if (!writer_->has_segment()) co_return std::move(drops);
  const SegmentKey open = writer_->segment().key;
  auto listing = list_days(reactor_, options_.directory);
  auto days = co_await listing;
  if (!days) co_return fail(days.error());
  std::vector<Kept> kept;
  std::uint64_t bytes = 0;
  for (const Day day : *days) {
    auto listing_day = list_day(reactor_, options_.directory, day);
    auto files = co_await listing_day;
    if (!files) co_return fail(files.error());
    const std::uint64_t last = files->segments.empty() ? 0 : files->segments.back();
    for (std::uint32_t number : files->segments) {
      std::uint64_t size = options_.segment_bytes;
      if (options_.retain_bytes > 0 && number == last) {
        auto asking = Directory::status_of(reactor_, segment_path(options_.directory, {day, number}));
        auto status = co_await asking;
        if (!status) co_return fail(status.error());
        size = status->size;
      }
      kept.push_back({{day, number}, size});
      bytes += size;
    }
  }
  const std::uint64_t first_day = options_.retain_days > 0 && open.day.value + 1 > options_.retain_days
                                      ? open.day.value + 1 - options_.retain_days
                                      : 0;
  for (const Kept& segment : kept) {
    const bool too_old = segment.key.day.value < first_day;
    const bool too_much = options_.retain_bytes > 0 && bytes > options_.retain_bytes;
    if (!(segment.key < open) || (!too_old && !too_much) || drops.size() == drop_names_max) break;
    drops.push_back({segment.key.day, segment.key.number});
    bytes -= segment.bytes;
  }
  co_return std::move(drops);
}

/// True when something was dropped.
Task<bool> LogCore::retain_once() {
  auto choosing = choose_drops();
  auto drops = co_await choosing;
  if (!drops) co_return fail(drops.error());
  if (drops->empty() || !working()) co_return false;
  const SegmentKey last{drops->back().day, drops->back().number};
  const Lsn first_kept = first_lsn_behind(last);
  if (state_series_first_ < first_kept || state_series_first_ == Lsn{}) {
    if (options_.follow) co_return false;  // the leader's day begins with such a series: it is waited for
    // Without it the tables would be known from the state file alone, which must never be the only copy of anything.
    auto emitting = emit_state();
    auto emitted = co_await emitting;
    if (!emitted) co_return fail(emitted.error());
    if (!working() || state_series_first_ == Lsn{}) co_return fail(Error::not_ready);
  }
  auto noting = meta_->write_drop_intent(first_kept, *drops);
  auto noted = co_await noting;
  if (!noted) co_return fail(noted.error());
  auto finishing = finish_drop();
  auto finished = co_await finishing;
  if (!finished) co_return fail(finished.error());
  co_return true;
}

/// Where the series must begin at the latest: nothing in the open segment is ever dropped.
Lsn LogCore::first_lsn_behind(SegmentKey) const { return writer_->segment().header.first_lsn; }

/// Does what the intent in node.meta says, from wherever a crash left it.
Task<> LogCore::finish_drop() {
  const ShardSlot slot = meta_->slot();
  if (slot.drop_count == 0) co_return Result<>{};
  const std::vector<DropName> drops(slot.drops.begin(), slot.drops.begin() + slot.drop_count);
  const SegmentKey next{drops.back().day, drops.back().number + 1};
  first_kept_ = std::max(first_kept_, next);
  view_->drop_before(next);
  while (working() && view_->pinned_before(next)) {
    const Nanos again = reactor_.now() + pin_look_again;
    co_await Sleep(reactor_, again);
  }
  if (!working()) co_return fail(Error::cancelled);
  for (const DropName& name : drops) {
    auto dropping = drop_segment({name.day, name.number});
    auto dropped = co_await dropping;
    if (!dropped) co_return fail(dropped.error());
  }
  std::vector<Day> days;
  for (const DropName& name : drops)
    if (days.empty() || days.back() != name.day) days.push_back(name.day);
  for (const Day day : days) {
    auto dropping = drop_day_if_empty(day);
    auto dropped = co_await dropping;
    if (!dropped) co_return fail(dropped.error());
  }
  auto clearing = meta_->write_drop_intent(Lsn{}, {});
  auto cleared = co_await clearing;
  if (!cleared) co_return fail(cleared.error());
  auto looking = note_first_lsn();
  (void)co_await looking;  // what stat shows; the next drop tries again
  dropped_segments_ += drops.size();
  pool_.look_now();
  co_return Result<>{};
}

/// Reads where the oldest segment left begins.
Task<> LogCore::note_first_lsn() {
  auto listing = list_days(reactor_, options_.directory);
  auto days = co_await listing;
  if (!days) co_return fail(days.error());
  for (const Day day : *days) {
    auto listing_day = list_day(reactor_, options_.directory, day);
    auto files = co_await listing_day;
    if (!files) co_return fail(files.error());
    if (files->segments.empty()) continue;
    const SegmentKey oldest{day, files->segments.front()};
    if (writer_->has_segment() && oldest == writer_->segment().key) {
      first_lsn_ = writer_->segment().header.first_lsn;
      break;
    }
    const std::string path = segment_path(options_.directory, oldest);
    auto opening = File::open(reactor_, path, open_read | direct_flag(options_.buffered));
    auto file = co_await opening;
    if (!file) co_return fail(file.error());
    AlignedMemory block(block_bytes);
    auto reading = file->read(0, block.bytes());
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    auto header = read_segment_header(block.bytes(), OpenFor::reading);
    if (!header) co_return fail(header.error());
    first_lsn_ = header->first_lsn;
    break;
  }
  co_return Result<>{};
}

Task<> LogCore::drop_segment(SegmentKey key) {
  const std::string path = segment_path(options_.directory, key);
  auto asking = Directory::status_of(reactor_, path);
  auto status = co_await asking;
  if (!status) {
    if (status.error() == Error::not_found) co_return Result<>{};
    co_return fail(status.error());
  }
  if (status->size == options_.segment_bytes) {
    auto recycling = pool_.recycle(path);
    auto recycled = co_await recycling;
    if (!recycled) co_return fail(recycled.error());
  } else {
    auto shrinking = remove_in_steps(path, status->size);
    auto removed = co_await shrinking;
    if (!removed) co_return fail(removed.error());
  }
  auto naming = make_name_durable(reactor_, day_path(options_.directory, key.day));
  auto named = co_await naming;
  co_return std::move(named);
}

// Unlinking or cutting a large file at once stalls commits on some mounts.
Task<> LogCore::remove_in_steps(std::string path, std::uint64_t size) {
  auto opening = File::open(reactor_, path, open_read | open_write | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  while (size > truncate_step) {
    size -= truncate_step;
    auto truncating = file->truncate(size);
    auto truncated = co_await truncating;
    if (!truncated) co_return fail(truncated.error());
  }
  auto removing = Directory::remove_file(reactor_, path);
  auto removed = co_await removing;
  co_return std::move(removed);
}

Task<> LogCore::drop_day_if_empty(Day day) {
  auto listing = list_day(reactor_, options_.directory, day);
  auto files = co_await listing;
  if (!files) {
    if (files.error() == Error::not_found) co_return Result<>{};
    co_return fail(files.error());
  }
  if (!files->segments.empty() || (last_key_ && last_key_->day <= day)) co_return Result<>{};
  view_->day_dropped(day);
  const std::string directory = day_path(options_.directory, day);
  auto listing_all = Directory::list(reactor_, directory);
  auto entries = co_await listing_all;
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    auto removing = Directory::remove_file(reactor_, directory + "/" + entry.name);
    auto removed = co_await removing;
    if (!removed && removed.error() != Error::not_found) co_return fail(removed.error());
  }
  auto removing = Directory::remove(reactor_, directory);
  auto removed = co_await removing;
  if (!removed && removed.error() != Error::not_found) co_return fail(removed.error());
  --days_;
  auto naming = make_name_durable(reactor_, options_.directory);
  auto named = co_await naming;
  co_return std::move(named);
}

}  // namespace millrace
