#include "storage/index_unit.hpp"

#include <tuple>

#include "base/hash.hpp"

namespace millrace {

namespace {

std::uint64_t checksum_of(UnitHeader header) {
  header.checksum = 0;
  return hash64(as_bytes(&header, sizeof(header)));
}

template <class Row>
std::span<const Row> rows_at(Bytes payload, std::uint64_t at, std::uint64_t count) {
  MR_ASSERT(is_aligned(reinterpret_cast<std::uintptr_t>(payload.data()) + at, alignof(Row)));
  Bytes bytes = payload.subspan(at, count * sizeof(Row));
  return {reinterpret_cast<const Row*>(bytes.data()), static_cast<std::size_t>(count)};
}

/// Each kind's payload length from its counts; the counts are bounded by the payload first, so nothing overflows.
bool lengths_fit(const UnitHeader& header) {
  std::uint64_t bytes = header.payload_bytes;
  if (header.entries > bytes || header.streams > bytes || header.state_bytes > bytes) return false;
  switch (header.kind) {
    case UnitKind::run:
      return header.level == 0 && header.segments == 1 && is_aligned(header.state_bytes, 8) &&
             bytes == header.entries * sizeof(RunEntry) + header.streams * sizeof(StreamRun) + header.state_bytes;
    case UnitKind::directory:
      return header.level > 0 && header.streams == 0 && header.state_bytes == 0 &&
             bytes == header.entries * sizeof(DirectoryRow);
    case UnitKind::day_table:
      return header.level == 0 && header.streams == 0 && header.state_bytes == 0 &&
             bytes == header.entries * sizeof(DayRow);
  }
  return false;
}

bool run_in_order(const UnitView& run) {
  std::span<const RunEntry> entries = run.run_entries();
  std::uint64_t at = 0;
  StreamId before{};
  for (const StreamRun& stream : run.stream_runs()) {
    if (stream.first_entry != at || stream.entries == 0 || stream.entries > entries.size() - at) return false;
    if (stream.stream_id <= before || stream.end_offset <= stream.first_offset) return false;
    before = stream.stream_id;
    if (entries[at].first_offset != stream.first_offset) return false;
    for (std::uint64_t entry = at + 1; entry < at + stream.entries; ++entry)
      if (entries[entry].first_offset <= entries[entry - 1].first_offset) return false;
    at += stream.entries;
    if (entries[at - 1].first_offset >= stream.end_offset) return false;
  }
  return at == entries.size();
}

bool in_order(const UnitView& unit) {
  if (unit.header().kind == UnitKind::run) return run_in_order(unit);
  if (unit.header().kind == UnitKind::directory) {
    const DirectoryRow* before = nullptr;
    for (const DirectoryRow& row : unit.directory_rows()) {
      if (before != nullptr &&
          std::tie(row.stream_id, row.first_offset) <= std::tie(before->stream_id, before->first_offset))
        return false;
      before = &row;
    }
    return true;
  }
  StreamId before{};
  for (const DayRow& row : unit.day_rows()) {
    if (row.stream_id <= before || row.end < row.begin || row.reserved != 0) return false;
    before = row.stream_id;
  }
  return true;
}

void append(std::vector<std::byte>& target, Bytes bytes) { target.insert(target.end(), bytes.begin(), bytes.end()); }

/// Appends the header with room for its hashes, lets the caller's payload follow, and completes both.
template <class WritePayload>
void write_unit(std::vector<std::byte>& target, UnitHeader header, WritePayload write_payload) {
  std::size_t at = target.size();
  target.resize(at + unit_header_bytes);
  write_payload();
  header.magic = unit_magic;
  header.version = 1;
  header.payload_bytes = target.size() - at - unit_header_bytes;
  header.payload_hash = hash64(Bytes(target).subspan(at + unit_header_bytes));
  seal_unit_header(header);
  store(MutableBytes(target), at, header);
  target.resize(at + unit_span(header.payload_bytes));
}

}  // namespace

void seal_unit_header(UnitHeader& header) {
  MR_ASSERT(lengths_fit(header));
  header.checksum = checksum_of(header);
}

Result<UnitHeader> read_unit_header(Bytes bytes) {
  if (bytes.size() < unit_header_bytes || load<std::uint32_t>(bytes) != unit_magic) return fail(Error::corrupt);
  auto header = load<UnitHeader>(bytes);
  if (header.checksum != checksum_of(header)) return fail(Error::corrupt);
  if (header.version != 1) return fail(Error::unsupported_version);
  if (!lengths_fit(header) || (header.covers != 0 && header.kind != UnitKind::directory)) return fail(Error::corrupt);
  return header;
}

Result<UnitView> UnitView::parse(Bytes unit) {
  Result<UnitHeader> header = read_unit_header(unit);
  if (!header) return fail(header.error());
  if (header->payload_bytes > unit.size() - unit_header_bytes) return fail(Error::corrupt);
  UnitView view;
  view.header_ = *header;
  view.payload_ = unit.subspan(unit_header_bytes, header->payload_bytes);
  if (hash64(view.payload_) != header->payload_hash) return fail(Error::corrupt);
  if (!in_order(view)) return fail(Error::corrupt);
  std::uint64_t end = unit_header_bytes + header->payload_bytes;
  std::uint64_t padded = unit_span(header->payload_bytes);
  if (padded <= unit.size() && !all_zero(unit.subspan(end, padded - end))) return fail(Error::corrupt);
  return view;
}

std::span<const RunEntry> UnitView::run_entries() const {
  MR_ASSERT(header_.kind == UnitKind::run);
  return rows_at<RunEntry>(payload_, 0, header_.entries);
}

std::span<const StreamRun> UnitView::stream_runs() const {
  MR_ASSERT(header_.kind == UnitKind::run);
  return rows_at<StreamRun>(payload_, header_.entries * sizeof(RunEntry), header_.streams);
}

Bytes UnitView::state_rows() const {
  MR_ASSERT(header_.kind == UnitKind::run);
  return payload_.last(header_.state_bytes);
}

std::span<const DirectoryRow> UnitView::directory_rows() const {
  MR_ASSERT(header_.kind == UnitKind::directory);
  return rows_at<DirectoryRow>(payload_, 0, header_.entries);
}

std::span<const DayRow> UnitView::day_rows() const {
  MR_ASSERT(header_.kind == UnitKind::day_table);
  return rows_at<DayRow>(payload_, 0, header_.entries);
}

void write_run(std::vector<std::byte>& target, UnitHeader header, std::span<const RunEntry> entries,
               std::span<const StreamRun> streams, Bytes state_rows) {
  header.kind = UnitKind::run;
  header.entries = entries.size();
  header.streams = streams.size();
  header.state_bytes = state_rows.size();
  write_unit(target, header, [&] {
    append(target, as_bytes(entries.data(), entries.size_bytes()));
    append(target, as_bytes(streams.data(), streams.size_bytes()));
    append(target, state_rows);
  });
}

void write_directory(std::vector<std::byte>& target, UnitHeader header, std::span<const DirectoryRow> rows) {
  header.kind = UnitKind::directory;
  header.entries = rows.size();
  header.streams = 0;
  header.state_bytes = 0;
  write_unit(target, header, [&] { append(target, as_bytes(rows.data(), rows.size_bytes())); });
}

void write_day_table(std::vector<std::byte>& target, UnitHeader header, std::span<const DayRow> rows) {
  header.kind = UnitKind::day_table;
  header.entries = rows.size();
  header.streams = 0;
  header.state_bytes = 0;
  write_unit(target, header, [&] { append(target, as_bytes(rows.data(), rows.size_bytes())); });
}

}  // namespace millrace
