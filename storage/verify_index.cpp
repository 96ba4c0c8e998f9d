#include "storage/verify_index.hpp"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "storage/state_rows.hpp"

namespace millrace {

namespace {

template <class Row>
bool same_bytes(const Row& a, const Row& b) {
  return std::memcmp(&a, &b, sizeof(Row)) == 0;
}

std::string compare_state(const UnitView& unit, const CheckedRun& expected, StreamId& stream) {
  StateRowReader reader(unit.state_rows());
  StateRow row;
  Result<bool> more = reader.next(row);
  for (; more && *more; more = reader.next(row)) {
    if (row.key.tag == StateTag::stream) {
      auto run = expected.streams.find(row.stream.id);
      if (run == expected.streams.end() || row.stream.next_offset >= run->second.end_offset) continue;
      stream = row.stream.id;
      return "a state row says the stream ends earlier than it does";
    }
    if (row.key.tag == StateTag::log && (row.log.next_lsn != expected.end_lsn || row.log.chain != expected.chain))
      return "the state row of the log is not where the segment ends";
  }
  return more ? "" : "its state rows cannot be read";
}

}  // namespace

std::string IndexCheck::compare_run(const UnitView& unit, const CheckedRun& expected, StreamId& stream) {
  const UnitHeader& header = unit.header();
  if (header.segment_id != expected.segment_id) return "it describes another segment";
  if (header.first_lsn != expected.first_lsn || header.end_lsn != expected.end_lsn)
    return "its lsns are not the segment's";
  if (header.first_leader_time != expected.first_time || header.last_leader_time != expected.last_time)
    return "its times are not the segment's";
  std::span<const StreamRun> runs = unit.stream_runs();
  if (runs.size() != expected.streams.size()) return "it lists other streams than the segment holds";
  std::uint64_t first_entry = 0;
  std::size_t at = 0;
  for (const auto& [id, made] : expected.streams) {
    StreamRun run = made;
    run.first_entry = first_entry;
    stream = id;
    if (!same_bytes(run, runs[at++])) return "a stream's row is not what the segment holds";
    const std::vector<RunEntry>& entries = expected.entries.at(id);
    for (const RunEntry& entry : entries)
      if (!same_bytes(entry, unit.run_entries()[first_entry++])) return "an entry is not what the segment holds";
  }
  stream = {};
  return compare_state(unit, expected, stream);
}

IndexCheck::Unit IndexCheck::unit_of(const UnitView& view, std::uint64_t offset) {
  Unit unit{.first_segment = view.header().first_segment, .rows = {}};
  if (view.header().kind == UnitKind::run) {
    for (const StreamRun& run : view.stream_runs())
      unit.rows.push_back({.stream_id = run.stream_id,
                           .unit_offset = offset,
                           .records = run.records,
                           .first_offset = run.first_offset,
                           .end_offset = run.end_offset,
                           .first_id = run.first_id,
                           .first_leader_time = run.first_leader_time,
                           .last_leader_time = run.last_leader_time});
    return unit;
  }
  for (const DirectoryRow& row : view.directory_rows()) {
    if (unit.rows.empty() || unit.rows.back().stream_id != row.stream_id) {
      unit.rows.push_back(row);
      unit.rows.back().unit_offset = offset;
      continue;
    }
    DirectoryRow& sum = unit.rows.back();
    sum.records += row.records;
    sum.end_offset = row.end_offset;
    sum.last_leader_time = row.last_leader_time;
  }
  return unit;
}

std::string IndexCheck::add(const UnitView& view, std::uint64_t offset, StreamId& stream) {
  const UnitHeader& header = view.header();
  std::string wrong;
  if (header.kind == UnitKind::directory) {
    if (levels_.size() < header.level || levels_[header.level - 1].empty()) return "a directory over nothing";
    std::vector<Unit>& below = levels_[header.level - 1];
    std::vector<DirectoryRow> rows;
    // Units below whose beginning retention took are not here: a directory may cover more than is left.
    for (const Unit& unit : below)
      if (unit.first_segment >= header.first_segment) rows.insert(rows.end(), unit.rows.begin(), unit.rows.end());
    std::ranges::sort(rows, [](const DirectoryRow& a, const DirectoryRow& b) {
      return std::tie(a.stream_id, a.first_offset) < std::tie(b.stream_id, b.first_offset);
    });
    std::span<const DirectoryRow> stated = view.directory_rows();
    for (std::size_t at = 0; at < std::max(rows.size(), stated.size()) && wrong.empty(); ++at) {
      if (at < rows.size() && at < stated.size() && same_bytes(rows[at], stated[at])) continue;
      stream = at < stated.size() ? stated[at].stream_id : rows[at].stream_id;
      wrong = "a directory row is not what the units below it hold";
    }
    below.clear();
  }
  if (levels_.size() <= header.level) levels_.resize(header.level + 1);
  levels_[header.level].push_back(unit_of(view, offset));
  return wrong;
}

std::string IndexCheck::compare_table(const UnitView& unit, const LogCheck& log, StreamId& stream) {
  for (const DayRow& row : unit.day_rows()) {
    auto known = log.streams().find(row.stream_id);
    if (known == log.streams().end()) continue;  // its batches are no longer here
    stream = row.stream_id;
    if (row.end != known->second.next_offset) return "the day table ends a stream elsewhere than the day does";
  }
  stream = {};
  return {};
}

}  // namespace millrace
