#include "server/directory_stat.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/time.hpp"
#include "embed/directory_reader.hpp"
#include "reactor/posix_kernel.hpp"
#include "server/json.hpp"

namespace millrace {

namespace {

using Opened = Result<std::unique_ptr<DirectoryReader>>;

Task<> open_reader(Reactor& reactor, DirectoryOptions options, std::string& diagnosis, std::optional<Opened>& out) {
  auto opening = DirectoryReader::open(reactor, std::move(options), diagnosis);
  auto opened = co_await opening;
  out.emplace(std::move(opened));
  co_return Result<>();
}

void write_shards(JsonWriter& json, const DirectoryReader& reader) {
  json.key("shards");
  json.begin_array();
  for (const DirectoryShard& shard : reader.shards()) {
    json.begin_object();
    json.field("shard", shard.shard.value);
    json.field("condition", "at rest");
    json.field("epoch", shard.epoch.value);
    json.field("day", format_day(shard.last_day));
    json.field("first_day", format_day(shard.first_day));
    json.field("finished_day", shard.finished.value == 0 ? std::string() : format_day(shard.finished));
    json.field("days", shard.days);
    json.field("segments", shard.segments);
    json.field("log_bytes", shard.log_bytes);
    json.key("watermarks");
    json.begin_object();
    json.field("first", shard.first_lsn.value);
    json.field("durable", shard.durable.value);
    json.end_object();
    json.end_object();
  }
  json.end_array();
}

/// Streams whose first readable offset is looked for.
constexpr std::size_t first_readable_max = 1000;

Task<> find_first_readable(Reactor&, DirectoryReader& reader, std::vector<std::optional<Offset>>& firsts, bool& ended) {
  const auto streams = reader.streams();
  firsts.resize(streams.size());
  for (std::size_t i = 0; i < std::min(streams.size(), first_readable_max); i++) {
    auto finding = reader.first_readable(streams[i].id);
    auto found = co_await finding;
    if (found) firsts[i] = *found;
  }
  ended = true;
  co_return Result<>();
}

void write_streams(JsonWriter& json, const DirectoryReader& reader, const std::vector<std::optional<Offset>>& firsts) {
  auto streams = reader.streams();
  json.field("streams_total", std::uint64_t{streams.size()});
  json.key("streams");
  json.begin_array();
  for (std::size_t i = 0; i < streams.size(); i++) {
    const DirectoryStream& stream = streams[i];
    json.begin_object();
    json.field("name", stream.name);
    json.field("id", hex_id(stream.id.value));
    json.field("shard", stream.shard.value);
    json.field("first_offset", stream.first_offset.value);
    if (firsts[i]) json.field("first_readable", firsts[i]->value);
    json.field("next_offset", stream.next_offset.value);
    json.field("day", format_day(stream.day));
    json.end_object();
  }
  json.end_array();
}

}  // namespace

std::expected<std::string, std::string> directory_stat(const std::string& directory, bool buffered) {
  PosixKernel kernel;
  Reactor reactor(kernel);
  std::string diagnosis;
  std::optional<Opened> opened;
  DirectoryOptions options;
  options.directory = directory;
  options.buffered = buffered;
  reactor.spawn(open_reader(reactor, std::move(options), diagnosis, opened));
  while (!opened) reactor.turn(wait_forever);
  if (!*opened) {
    if (diagnosis.empty()) diagnosis = error_text(opened->error());
    return std::unexpected(diagnosis);
  }
  DirectoryReader& reader = ***opened;
  std::vector<std::optional<Offset>> firsts;
  bool found = false;
  reactor.spawn(find_first_readable(reactor, reader, firsts, found));
  while (!found) reactor.turn(wait_forever);
  JsonWriter json;
  json.begin_object();
  json.key("directory");
  json.begin_object();
  json.field("data", directory);
  json.field("shards", reader.shard_count());
  json.field("day_offset", format_day_offset(reader.day_offset_seconds()));
  json.end_object();
  write_shards(json, reader);
  write_streams(json, reader, firsts);
  json.end_object();
  opened.reset();
  return json.take();
}

}  // namespace millrace
