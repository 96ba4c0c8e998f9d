#include "storage/index_repair.hpp"

#include <algorithm>

#include "storage/state_load.hpp"
#include "storage/step_sort.hpp"

namespace millrace {

namespace {
constexpr std::size_t scan_bytes = 1 * MiB;
constexpr std::size_t streams_per_step = 4096;
}  // namespace

/// A segment's batches on their way into tables and run.
class IndexRepair::Replay final : public RecoveryVisitor {
 public:
  Replay(Tables& tables, OpenRun* run) : tables_(tables), run_(run) {}
  void batch(const FoundBatch& found) override {
    LogRow at = tables_.log();
    at.next_lsn = Lsn{found.header.lsn};
    tables_.set_log(at);
    // What recovery kept was applied when it was live; a control body that cannot be read changes nothing.
    static_cast<void>(tables_.apply(found.header, found.body));
    if (run_ == nullptr) return;
    if (run_->end_lsn() < Lsn{found.header.lsn}) run_->skip_to(Lsn{found.header.lsn});
    run_->append(found.header, found.position);
  }

 private:
  Tables& tables_;
  OpenRun* run_;
};

IndexRepair::IndexRepair(Reactor& reactor, const IndexRepairOptions& options, Index& index, IndexBuilder& builder)
    : reactor_(reactor), options_(options), index_(index), builder_(builder) {}

Task<> IndexRepair::repair(Day day, std::uint32_t until, SegmentKey first_kept) {
  auto opening = index_.file_of(day);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto listing = list(day, first_kept);
  auto segments = co_await listing;
  if (!segments) co_return fail(segments.error());
  std::vector<SegmentKey> missing;
  for (const SegmentKey key : *segments)
    if (key.number >= (*file)->next_segment() && key.number < until) missing.push_back(key);
  const bool table = until == all_segments && !(*file)->complete();
  if (missing.empty() && !table) co_return Result<>{};
  Tables tables;
  const SegmentKey from = missing.empty() ? SegmentKey{day, (*file)->next_segment()} : missing.front();
  auto bringing = bring_tables(tables, from, first_kept);
  auto brought = co_await bringing;
  if (!brought) co_return fail(brought.error());
  auto replaying = replay_all(*segments, missing, tables, file->get());
  auto replayed = co_await replaying;
  index_.stats().deriving = {};
  if (!replayed) co_return fail(replayed.error());
  if (!table || (*file)->spine().empty()) co_return Result<>{};
  auto appending = append_table(**file, tables);
  co_return co_await appending;
}

Task<> IndexRepair::replay_all(const std::vector<SegmentKey>& segments, const std::vector<SegmentKey>& missing,
                               Tables& tables, IndexFile* file) {
  for (std::size_t i = 0; i < missing.size(); ++i) {
    index_.stats().deriving = {missing[i].day, i, missing.size()};
    std::optional<SegmentKey> next;
    const auto place = std::upper_bound(segments.begin(), segments.end(), missing[i]);
    if (place != segments.end()) next = *place;
    auto replaying = replay(missing[i], next, tables, file);
    auto replayed = co_await replaying;
    if (!replayed) co_return fail(replayed.error());
  }
  co_return Result<>{};
}

Task<std::vector<SegmentKey>> IndexRepair::list(Day day, SegmentKey first_kept) {
  auto listing = Directory::list(reactor_, day_path(options_.shard_directory, day));
  auto entries = co_await listing;
  if (!entries) co_return fail(entries.error());
  std::vector<SegmentKey> segments;
  for (const DirectoryEntry& entry : *entries) {
    const auto key = parse_segment_name(day, entry.name);
    if (key && *key >= first_kept) segments.push_back(*key);
  }
  std::sort(segments.begin(), segments.end());
  co_return std::move(segments);
}

// The tables before `until`: state file and runs as far as they go, segments for the rest.
Task<> IndexRepair::bring_tables(Tables& tables, SegmentKey until, SegmentKey first_kept) {
  StateLoadOptions wanted{.shard_directory = options_.shard_directory,
                          .log_id = options_.log_id,
                          .day_offset_seconds = options_.day_offset_seconds,
                          .buffered = options_.buffered,
                          .first_kept = first_kept,
                          .until = until};
  auto loading = load_tables(reactor_, std::move(wanted), tables);
  auto load = co_await loading;
  if (!load) co_return fail(load.error());
  const std::vector<Day> days = index_.days();
  for (const Day day : days) {
    if (day < load->next.day || day > until.day) continue;
    auto listing = list(day, std::max(first_kept, load->next));
    auto segments = co_await listing;
    if (!segments) co_return fail(segments.error());
    for (std::size_t i = 0; i < segments->size() && (*segments)[i] < until; ++i) {
      std::optional<SegmentKey> next;
      if (i + 1 < segments->size()) next = (*segments)[i + 1];
      auto replaying = replay((*segments)[i], next, tables, nullptr);
      auto replayed = co_await replaying;
      if (!replayed) co_return fail(replayed.error());
    }
  }
  co_return Result<>{};
}

Task<> IndexRepair::replay(SegmentKey segment, std::optional<SegmentKey> next, Tables& tables, IndexFile* file) {
  AlignedMemory buffer(scan_bytes);
  auto opening = open_segment_file(reactor_, segment_path(options_.shard_directory, segment), segment,
                                   options_.buffered, buffer.bytes());
  auto opened = co_await opening;
  if (!opened && opened.error() == Error::not_found) co_return Result<>{};
  if (!opened) co_return fail(opened.error());
  if (!opened->header || opened->header->log_id != options_.log_id) co_return Result<>{};
  RecoveryInput input;
  input.log_id = options_.log_id;
  input.shard = options_.shard;
  input.in_flight_bytes_max = opened->header->in_flight_bytes_max;
  input.purpose = OpenFor::reading;
  if (next) {
    auto peeking = open_segment_file(reactor_, segment_path(options_.shard_directory, *next), *next, options_.buffered,
                                     buffer.bytes());
    auto after = co_await peeking;
    if (after && after->header && after->header->previous_segment_id == opened->header->segment_id)
      input.expected_end = SegmentEnd{after->header->previous_segment_id, after->header->previous_length,
                                      after->header->previous_chain, after->header->first_lsn};
  }
  std::unique_ptr<OpenRun> run;
  if (file != nullptr) {
    run = std::make_unique<OpenRun>();
    run->begin({segment, opened->header->segment_id, opened->header->first_lsn});
  }
  LogRow at = tables.log();
  at.epoch = std::max(at.epoch, opened->header->epoch);
  tables.set_log(at);
  tables.begin_segment();
  Replay visitor(tables, run.get());
  auto scanning = scan_segment(opened->file, opened->file_bytes, input, visitor, buffer.bytes());
  auto verdict = co_await scanning;
  if (!verdict) co_return fail(verdict.error());
  if (file == nullptr) co_return Result<>{};
  auto capture = tables.capture_segment();
  tables.begin_segment();
  auto appending = builder_.append_run(*file, *run, *capture);
  auto appended = co_await appending;
  if (!appended) co_return fail(appended.error());
  ++index_.stats().runs_derived;
  co_return Result<>{};
}

// The tables stand at the day's end: a stream that has no records in it begins and ends where it stands.
Task<> IndexRepair::append_table(IndexFile& file, const Tables& tables) {
  std::vector<DayRow> known;
  for (std::uint32_t number = 0; number < tables.streams().size(); ++number) {
    const Stream& stream = tables.streams().at(number);
    if (stream.exists())
      known.push_back({.stream_id = stream.id, .begin = stream.next_offset, .end = stream.next_offset});
    if (number % streams_per_step == streams_per_step - 1) co_await Yield{};
  }
  auto by_id = [](const DayRow& a, const DayRow& b) { return a.stream_id < b.stream_id; };
  auto sorting = sort_in_steps(reactor_, known, by_id);
  auto sorted = co_await sorting;
  if (!sorted) co_return fail(sorted.error());
  auto appending = builder_.append_day_table(file, nullptr, std::move(known));
  co_return co_await appending;
}

Task<bool> IndexRepair::verify(Day day) {
  auto opening = index_.file_of(day);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  if ((*file)->end() == 0) co_return false;
  for (std::uint64_t at = 0; at < (*file)->end();) {
    auto referring = (*file)->read_unit_ref(at);
    auto unit = co_await referring;
    bool fits = unit.has_value();
    if (!unit && unit.error() != Error::corrupt) co_return fail(unit.error());
    if (fits) {
      auto verifying = (*file)->verify(*unit);
      auto verified = co_await verifying;
      if (!verified) co_return fail(verified.error());
      fits = *verified;
      at = unit->end();
    }
    if (!fits) {
      (*file)->clear();
      co_return false;
    }
  }
  co_return true;
}

}  // namespace millrace
