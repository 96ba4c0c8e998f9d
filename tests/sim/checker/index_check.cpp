#include "tests/sim/checker/index_check.hpp"

#include <algorithm>
#include <tuple>

#include "base/time.hpp"
#include "tests/sim/checker/fields.hpp"

namespace millrace::checker {

namespace {

constexpr std::size_t unit_header = 128;
constexpr std::size_t block = 4096;

struct SegmentKey {
  std::uint32_t shard, day, number;
  auto operator<=>(const SegmentKey&) const = default;
};

/// One run against the data batches of its segment.
void check_run(const std::string& where, Bytes head, Bytes payload, const std::vector<const Batch*>& batches,
               std::vector<Violation>& violations) {
  auto broken = [&](const std::string& what) { violations.push_back({"P24", where, what}); };
  std::vector<const Batch*> sorted;
  for (const Batch* b : batches)
    if (b->kind == 0) sorted.push_back(b);
  std::sort(sorted.begin(), sorted.end(), [](const Batch* a, const Batch* b) {
    return std::tie(a->stream, a->first_offset) < std::tie(b->stream, b->first_offset);
  });
  if (u64(head, 72) != sorted.size()) {
    broken("the run has " + std::to_string(u64(head, 72)) + " entries, its segment " + std::to_string(sorted.size()) +
           " data batches");
    return;
  }
  if (!batches.empty() && (u64(head, 40) != batches.front()->lsn || u64(head, 48) != batches.back()->lsn + 1))
    broken("lsn range differs");
  std::size_t at = 0;
  for (const Batch* b : sorted) {
    Bytes entry = payload.subspan(at, 40);
    bool fits = u64(entry, 0) == b->first_offset && field<std::int64_t>(entry, 8) == b->leader_time &&
                field<std::int64_t>(entry, 16) == b->event_min && field<std::int64_t>(entry, 24) == b->event_max &&
                std::uint64_t{u32(entry, 32)} * 16 == b->position &&
                std::uint64_t{u32(entry, 36)} * 16 == up(192 + b->body.size(), 16);
    if (!fits) broken("entry of stream " + hex(b->stream) + " offset " + std::to_string(b->first_offset) + " differs");
    at += 40;
  }
  std::uint64_t rows = 0;
  for (std::size_t i = 0; i < sorted.size(); ++rows) {
    std::size_t end = i;
    std::uint64_t records = 0;
    for (; end < sorted.size() && sorted[end]->stream == sorted[i]->stream; ++end) records += sorted[end]->count;
    Bytes row = payload.subspan(at, 64);
    bool fits = u64(row, 0) == sorted[i]->stream && u64(row, 8) == i && u32(row, 16) == end - i &&
                u32(row, 20) == records && u64(row, 24) == sorted[i]->first_offset &&
                u64(row, 32) == sorted[end - 1]->first_offset + sorted[end - 1]->count &&
                u64(row, 40) == sorted[i]->first_id;
    if (!fits) broken("directory row of stream " + hex(sorted[i]->stream) + " differs");
    at += 64;
    i = end;
  }
  if (u64(head, 80) != rows) broken("the run counts another number of streams");
}

}  // namespace

void check_indexes(const Image& image, const ParsedLog& log, std::vector<Violation>& violations) {
  std::map<SegmentKey, std::vector<const Batch*>> segments;
  for (const Batch& b : log.batches)
    if (!b.in_tail) segments[{b.shard, b.day, b.segment}].push_back(&b);
  std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> directories;
  for (const auto& [key, batches] : segments) {
    char shard[16];
    std::snprintf(shard, sizeof shard, "shard-%02u/", key.shard);
    directories[shard + format_day(Day{key.day}) + "/index"] = {key.shard, key.day};
  }
  for (const auto& [path, key] : directories) {
    auto file = image.find(path);
    if (file == image.end()) continue;
    Bytes bytes = file->second;
    for (std::size_t at = 0; at + block <= bytes.size();) {
      Bytes head = bytes.subspan(at, unit_header);
      if (u32(head, 0) != magic("MRI1") || u64(head, 8) != hash_without(head, {8})) break;
      std::uint64_t length = u64(head, 24);
      if (length > bytes.size() - at - unit_header) break;
      Bytes payload = bytes.subspan(at + unit_header, length);
      if (hash(payload) != u64(head, 16)) break;
      std::string where = path + " @" + hex(at);
      auto segment = segments.find({key.first, key.second, u32(head, 32)});
      if (field<std::uint8_t>(head, 4) == 1 && segment != segments.end() && log.holes.empty())
        check_run(where, head, payload, segment->second, violations);
      at += up(unit_header + length, block);
    }
  }
}

}  // namespace millrace::checker
