#include "tests/sim/checker/parsed_log.hpp"

#include <charconv>
#include <optional>

#include "base/time.hpp"
#include "tests/sim/checker/fields.hpp"
#include "tests/sim/checker/shard_walk.hpp"

namespace millrace::checker {

namespace {

struct SegmentFile {
  std::string path;
  Bytes bytes;
};
struct DayFiles {
  std::map<std::uint32_t, SegmentFile> segments;
  std::optional<std::pair<std::string, Bytes>> finish;
};
struct ShardFiles {
  std::map<std::uint32_t, DayFiles> days;
  std::optional<std::pair<std::string, Bytes>> tail;
};

std::optional<std::uint32_t> number_of(std::string_view text) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::map<std::uint32_t, ShardFiles> sort_files(const Image& image) {
  std::map<std::uint32_t, ShardFiles> shards;
  for (const auto& [path, bytes] : image) {
    if (path.rfind("shard-", 0) != 0) continue;
    auto slash = path.find('/');
    auto shard = number_of(std::string_view(path).substr(6, slash - 6));
    if (!shard || slash == std::string::npos) continue;
    std::string rest = path.substr(slash + 1);
    if (rest == "tail") shards[*shard].tail = {path, bytes};
    auto below = rest.find('/');
    if (below == std::string::npos) continue;
    auto day = parse_day(rest.substr(0, below));
    if (!day) continue;
    std::string name = rest.substr(below + 1);
    auto& files = shards[*shard].days[day->value];
    if (name == "finish") files.finish = {path, bytes};
    if (name.rfind("data", 0) == 0)
      if (auto number = number_of(std::string_view(name).substr(4))) files.segments[*number] = {path, bytes};
  }
  return shards;
}

void walk_shard(ParsedLog& log, const Options& options, std::uint32_t index, const ShardFiles& files) {
  ShardWalk walk(log, options, index);
  const SegmentFile* last = nullptr;
  for (const auto& [day, day_files] : files.days)
    for (const auto& [number, file] : day_files.segments)
      if (!zeros(file.bytes)) last = &file;
  for (const auto& [day, day_files] : files.days)
    for (const auto& [number, file] : day_files.segments)
      walk.segment(file.path, day, number, file.bytes, &file == last);
  if (files.tail) walk.tail(files.tail->first, files.tail->second);
  for (const auto& [day, day_files] : files.days)
    if (day_files.finish) walk.finish(day_files.finish->first, day, day_files.finish->second);
}

/// A vector field of a flatbuffers table: its elements, or nothing when absent or outside.
Bytes vector_of(Bytes body, std::size_t table, std::size_t field_number, std::size_t element_bytes) {
  std::size_t vtable = table - static_cast<std::size_t>(field<std::int32_t>(body, table));
  std::size_t slot = 4 + 2 * field_number;
  if (slot + 2 > field<std::uint16_t>(body, vtable)) return {};
  std::uint16_t at = field<std::uint16_t>(body, vtable + slot);
  if (at == 0) return {};
  std::size_t vector = table + at + u32(body, table + at);
  if (vector + 4 > body.size()) return {};
  std::size_t length = u32(body, vector) * element_bytes;
  if (length > body.size() - vector - 4) return {};
  return body.subspan(vector + 4, length);
}

}  // namespace

ParsedLog parse(const Image& image, const Options& options) {
  ParsedLog log;
  for (const auto& [index, files] : sort_files(image)) walk_shard(log, options, index, files);
  return log;
}

bool records_of(const Batch& batch, std::vector<Record>& target) {
  target.clear();
  if (batch.body.size() < 8) return false;
  std::size_t table = u32(batch.body, 0);
  if (table + 4 > batch.body.size()) return false;
  Bytes ends = vector_of(batch.body, table, 0, 4);
  Bytes types = vector_of(batch.body, table, 1, 2);
  Bytes times = vector_of(batch.body, table, 2, 8);
  Bytes payload = vector_of(batch.body, table, 3, 1);
  if (ends.size() != std::size_t{batch.count} * 4) return false;
  if (!types.empty() && types.size() != std::size_t{batch.count} * 2) return false;
  if (!times.empty() && times.size() != std::size_t{batch.count} * 8) return false;
  std::uint32_t begin = 0;
  for (std::uint32_t i = 0; i < batch.count; ++i) {
    std::uint32_t end = u32(ends, i * 4);
    if (end < begin || end > payload.size()) return false;
    target.push_back({payload.subspan(begin, end - begin),
                      types.empty() ? std::uint16_t{0} : field<std::uint16_t>(types, i * 2),
                      times.empty() ? batch.event_min : field<std::int64_t>(times, i * 8)});
    begin = end;
  }
  return begin == payload.size();
}

}  // namespace millrace::checker
