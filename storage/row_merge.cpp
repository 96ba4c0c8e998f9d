#include "storage/row_merge.hpp"

#include <algorithm>
#include <cstring>

namespace millrace {

namespace {
constexpr std::size_t window_bytes_max = 32 * KiB;
constexpr std::uint32_t rows_per_step = 1024;
static_assert(sizeof(StreamRun) == sizeof(DirectoryRow));
}  // namespace

RowMerge::RowMerge(IndexFile& file, std::vector<UnitRef> units) : file_(file) {
  for (const UnitRef& unit : units) {
    Source source;
    source.unit = unit;
    source.at = unit.offset + unit_header_bytes;
    std::uint64_t rows = unit.header.entries;
    if (unit.header.kind == UnitKind::run) {
      source.at += unit.header.entries * sizeof(RunEntry);
      rows = unit.header.streams;
    }
    source.end = source.at + rows * sizeof(DirectoryRow);
    source.memory = AlignedMemory(window_bytes_max);
    sources_.push_back(std::move(source));
  }
}

Task<> RowMerge::begin() {
  for (Source& source : sources_) {
    auto advancing = advance(source);
    auto advanced = co_await advancing;
    if (!advanced) co_return fail(advanced.error());
  }
  co_return {};
}

Task<std::optional<DirectoryRow>> RowMerge::next() {
  if (++steps_ % rows_per_step == 0) co_await Yield{};
  Source* least = nullptr;
  for (Source& source : sources_)
    if (source.has_row && (least == nullptr || source.row.stream_id < least->row.stream_id)) least = &source;
  if (least == nullptr) co_return std::optional<DirectoryRow>{};
  const DirectoryRow row = least->row;
  auto advancing = advance(*least);
  auto advanced = co_await advancing;
  if (!advanced) co_return fail(advanced.error());
  co_return std::optional<DirectoryRow>(row);
}

// All rows of one stream in the unit become one.
Task<> RowMerge::advance(Source& source) {
  source.has_row = false;
  while (source.at < source.end) {
    if (source.at + sizeof(DirectoryRow) > source.window + source.window_bytes) {
      auto filling = fill(source);
      auto filled = co_await filling;
      if (!filled) co_return fail(filled.error());
    }
    const DirectoryRow row = row_at(source);
    if (!source.has_row) {
      source.row = row;
      source.row.unit_offset = source.unit.offset;
      source.has_row = true;
    } else if (row.stream_id == source.row.stream_id) {
      source.row.records += row.records;
      source.row.end_offset = row.end_offset;
      source.row.last_leader_time = row.last_leader_time;
    } else {
      break;
    }
    source.at += sizeof(DirectoryRow);
  }
  co_return {};
}

Task<> RowMerge::fill(Source& source) {
  source.window = align_down(source.at, block_bytes);
  const std::uint64_t length =
      std::min<std::uint64_t>(align_up(source.end, block_bytes) - source.window, window_bytes_max);
  auto reading = file_.file().read(source.window, source.memory.bytes().first(length));
  auto got = co_await reading;
  if (!got) co_return fail(got.error());
  source.window_bytes = *got;
  if (source.at + sizeof(DirectoryRow) > source.window + source.window_bytes) co_return fail(Error::corrupt);
  co_return {};
}

DirectoryRow RowMerge::row_at(const Source& source) const {
  const Bytes bytes = source.memory.bytes().subspan(source.at - source.window, sizeof(DirectoryRow));
  if (source.unit.header.kind == UnitKind::directory) return load<DirectoryRow>(bytes);
  const auto run = load<StreamRun>(bytes);
  return {.stream_id = run.stream_id,
          .unit_offset = source.unit.offset,
          .records = run.records,
          .first_offset = run.first_offset,
          .end_offset = run.end_offset,
          .first_id = run.first_id,
          .first_leader_time = run.first_leader_time,
          .last_leader_time = run.last_leader_time};
}

}  // namespace millrace
