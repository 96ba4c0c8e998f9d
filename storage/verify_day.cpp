// The part of verify that looks at a day's derived files: its index and its finish.
#include <algorithm>

#include "storage/verify_walk.hpp"

namespace millrace {

namespace {

/// Larger units are refused: no segment can hold so much.
constexpr std::uint64_t unit_bytes_max = 4 * GiB;

}  // namespace

Task<> VerifyWalk::begin_index(Day day) {
  index_path_ = index_path(shard_directory_, day);
  index_check_ = {};
  index_at_ = index_bytes_ = 0;
  index_over_ = true;
  index_.reset();
  auto reading = read_front(day_path(shard_directory_, day) + "/finish", block_bytes);
  auto finish = co_await reading;
  if (!finish) co_return fail(finish.error());
  day_finished_ = finish->has_value();
  auto opening = open_file(index_path_);
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return {};
  if (!file) co_return fail(file.error());
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  index_ = std::move(*file);
  index_bytes_ = align_down(status->size, block_bytes);
  index_over_ = index_bytes_ == 0;
  co_return {};
}

/// Reads the unit at index_at_ into unit_. Nothing at the end of what verifies.
Task<std::optional<UnitHeader>> VerifyWalk::next_unit() {
  if (index_over_ || index_at_ + block_bytes > index_bytes_) co_return std::optional<UnitHeader>{};
  auto reading_head = index_->read(index_at_, buffer_.bytes().first(block_bytes));
  auto head = co_await reading_head;
  if (!head) co_return fail(head.error());
  Result<UnitHeader> header = read_unit_header(buffer_.bytes().first(block_bytes));
  bool fits =
      header && header->payload_bytes <= unit_bytes_max && unit_span(header->payload_bytes) <= index_bytes_ - index_at_;
  if (!fits) co_return std::optional<UnitHeader>{};
  unit_bytes_ = unit_span(header->payload_bytes);
  if (unit_.size() < unit_bytes_) unit_ = AlignedMemory(unit_bytes_);
  auto reading = index_->read(index_at_, unit_.bytes().first(unit_bytes_));
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (*read < unit_bytes_) co_return std::optional<UnitHeader>{};
  note_read(index_path_, unit_bytes_);
  co_return std::optional<UnitHeader>(*header);
}

void VerifyWalk::check_unit(const UnitHeader& header, const CheckedRun* run) {
  Damage damage{.kind = DamageKind::index_unit,
                .file = relative(index_path_),
                .begin = index_at_,
                .end = index_at_ + unit_bytes_};
  damage.first_lsn = header.first_lsn;
  damage.end_lsn = header.end_lsn;
  Result<UnitView> view = UnitView::parse(unit_.bytes().first(unit_bytes_));
  if (!view) {
    damage.what = "its header verifies, its rows do not";
    return tell(std::move(damage));
  }
  report_.index_entries += header.entries;
  damage.kind = DamageKind::index_entry;
  if (run != nullptr) damage.what = IndexCheck::compare_run(*view, *run, damage.stream);
  StreamId stream;
  std::string above = index_check_.add(*view, index_at_, stream);
  if (damage.what.empty()) {
    damage.what = above;
    damage.stream = stream;
  }
  if (!damage.what.empty()) tell(std::move(damage));
}

/// The units up to this segment's run and the directories right behind it. Of a damaged segment the run knows more than is left, so
/// only its own hashes are asked.
Task<> VerifyWalk::check_run(const CheckedRun& run, bool whole) {
  bool found = false;
  while (!index_over_) {
    auto reading = next_unit();
    auto header = co_await reading;
    if (!header) co_return fail(header.error());
    if (!*header) {
      index_over_ = true;
      break;
    }
    const UnitHeader& unit = **header;
    bool is_run = unit.kind == UnitKind::run;
    if (unit.kind == UnitKind::day_table || (is_run && (found || unit.first_segment > run.key.number))) break;
    bool ours = is_run && unit.first_segment == run.key.number;
    check_unit(unit, ours && whole ? &run : nullptr);
    found = found || ours;
    index_at_ += unit_bytes_;
  }
  ++(found ? report_.index_runs : report_.index_runs_lacking);
  if (found) co_return {};
  std::string file = relative(index_path_);
  if (!day_finished_) {
    visitor_.note(file + ": has no run of " + std::to_string(run.key.number) +
                  "; it is derived anew when it is needed");
  } else {
    Damage damage{.kind = DamageKind::index_unit, .file = file, .begin = index_at_, .end = index_bytes_};
    damage.first_lsn = run.first_lsn;
    damage.end_lsn = run.end_lsn;
    damage.what = "the run of segment " + std::to_string(run.key.number) + " does not verify or is missing";
    tell(std::move(damage));
  }
  co_return {};
}

Task<> VerifyWalk::check_finish(Day day, const LogCheck& log, const Verdict& last, std::uint32_t last_number) {
  const std::string path = day_path(shard_directory_, day) + "/finish";
  auto reading = read_front(path, block_bytes);
  auto bytes = co_await reading;
  if (!bytes) co_return fail(bytes.error());
  if (!*bytes) co_return {};
  Damage damage{.kind = DamageKind::finish, .file = relative(path), .end = block_bytes};
  Result<Finish> finish = fail(Error::corrupt);
  if ((**bytes).size() == block_bytes) finish = read_finish(**bytes, OpenFor::reading);
  const DayTotals& totals = log.day();
  if (!finish) {
    damage.what = "it does not verify";
  } else if (finish->log_id != node_.log_id || finish->shard != shard_ || finish->day != day) {
    damage.what = "it belongs to another log, shard or day";
  } else if (!totals.sealed && !last.damaged) {
    damage.what = "it says the day is complete, and the log has no seal";
  } else if (!last.damaged &&
             (finish->end_lsn != totals.end_lsn || finish->final_chain != totals.chain ||
              finish->last_segment_number != last_number || finish->last_segment_length != last.content_end)) {
    damage.what = "it does not fit the seal";
  } else if (totals.whole && (finish->batches != totals.batches || finish->records != totals.records ||
                              finish->body_bytes != totals.body_bytes)) {
    damage.what = "its totals are not those of the day";
  }
  if (!damage.what.empty()) tell(std::move(damage));
  ++report_.days_finished;

  // A complete day ends with its day table; the last segment's run comes before it.
  while (!index_over_) {
    auto reading_unit = next_unit();
    auto header = co_await reading_unit;
    if (!header) co_return fail(header.error());
    if (!*header) break;
    if ((**header).kind == UnitKind::day_table) {
      Result<UnitView> view = UnitView::parse(unit_.bytes().first(unit_bytes_));
      Damage wrong{.kind = DamageKind::index_unit,
                   .file = relative(index_path_),
                   .begin = index_at_,
                   .end = index_at_ + unit_bytes_};
      if (!view) wrong.what = "the day table does not verify";
      else if (totals.whole) wrong.what = IndexCheck::compare_table(*view, log, wrong.stream);
      if (view && !wrong.what.empty()) wrong.kind = DamageKind::index_entry;
      if (!wrong.what.empty()) tell(std::move(wrong));
      co_return {};
    }
    check_unit(**header, nullptr);
    index_at_ += unit_bytes_;
  }
  tell({.kind = DamageKind::index_unit,
        .file = relative(index_path_),
        .begin = index_at_,
        .end = index_bytes_,
        .what = "the day table of a complete day is missing"});
  co_return {};
}

}  // namespace millrace
