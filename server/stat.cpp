#include "server/stat.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "base/time.hpp"
#include "server/core.hpp"
#include "server/json.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"
#include "storage/read_view.hpp"

namespace millrace {

namespace {

struct StreamRow {
  StreamId id;
  std::string name;
  ShardIndex shard;
  Offset first;
  Offset next;
  RecordId next_id;
  Day day;
  std::optional<Offset> first_readable{};
};

/// What one core says.
struct CorePart {
  std::string core;    // JSON object
  std::string shards;  // JSON objects, comma between
  std::vector<StreamRow> streams;
  std::uint64_t streams_total = 0;
};

struct Gathering {
  std::uint32_t asking_core = 0;
  std::uint64_t connection_id = 0;
  wire::Stat request;
  std::vector<CorePart> parts;
  std::atomic<std::uint32_t> left{0};
};

void write_names(JsonWriter& json, std::string_view key, const std::vector<std::string>& names) {
  json.key(key);
  json.begin_array();
  for (const std::string& name : names) json.value(name);
  json.end_array();
}

void write_files(JsonWriter& json, const FileTraffic& files) {
  json.key("files");
  json.begin_object();
  json.field("reads", files.reads);
  json.field("read_bytes", files.read_bytes);
  json.field("writes", files.writes);
  json.field("durable_writes", files.durable_writes);
  json.field("written_bytes", files.written_bytes);
  json.field("zeroed_bytes", files.zeroed_bytes);
  json.field("syncs", files.syncs);
  json.end_object();
}

std::string describe_core(Core& core) {
  const KernelFeatures& kernel = core.reactor().kernel().features();
  const ReactorStats& reactor = core.reactor().stats();
  const CoreCounters& counters = core.counters();
  JsonWriter json;
  json.begin_object();
  json.field("core", core.number());
  json.field("kernel", std::string_view(kernel.name));
  write_names(json, "used", kernel.used);
  write_names(json, "missing", kernel.missing);
  json.field("registered_bytes", std::uint64_t{kernel.registered_bytes});
  json.field("turns", reactor.turns);
  json.field("completions", reactor.completions);
  json.field("longest_turn_us", static_cast<double>(reactor.longest_turn) / 1e3);
  json.field("long_turns", reactor.long_turns);  // of more than 1 ms
  json.key("turns_by_length");                   // [n]: shorter than 2^n microseconds
  json.begin_array();
  for (std::uint64_t turns : reactor.turns_by_length) json.value(turns);
  json.end_array();
  json.field("coroutine_frames_allocated", core.reactor().frame_pool().heap_allocations());
  json.field("connections", std::uint64_t{core.connection_count()});
  json.field("accepted", counters.accepted);
  json.field("refused_connections", counters.refused_connections);
  json.field("frames", counters.frames);
  json.field("bytes_in", counters.bytes_in);
  json.field("bytes_out", counters.bytes_out);
  json.field("acknowledged", counters.acknowledged);
  json.field("append_errors", counters.append_errors);
  write_files(json, reactor.files);
  json.end_object();
  return json.take();
}

void write_commits(JsonWriter& json, const LogStats& stats) {
  json.field("appended_batches", stats.appended_batches);
  json.field("appended_records", stats.appended_records);
  json.field("appended_bytes", stats.appended_bytes);
  json.field("repeats", stats.repeats);
  json.field("refusals", stats.refusals);
  json.field("slot_writes", stats.slot_writes);
  json.field("group_writes", stats.group_writes);
  json.field("durable_end_writes", stats.durable_end_writes);
  json.field("write_bytes", stats.write_bytes);
  json.field("prepared_bytes", stats.prepared_bytes);
  std::uint64_t commits = stats.slot_writes + stats.group_writes;
  json.field("commit_mean_us",
             commits == 0 ? 0.0 : static_cast<double>(stats.commit_total) / 1e3 / static_cast<double>(commits));
  json.field("commit_max_us", static_cast<double>(stats.commit_max) / 1e3);
  json.field("staging_bytes", stats.staging_bytes);
  json.field("failures", stats.failures);
  json.field("held_days", stats.held_days);
  json.field("append_allocations", stats.append_allocations);
}

void write_opening(JsonWriter& json, const OpeningReport& report) {
  json.key("opening");
  json.begin_object();
  json.field("verdict", std::string_view(report.verdict));
  json.field("reads", report.reads);
  json.field("bytes_read", report.bytes_read);
  json.field("slots_taken", report.slots_taken);
  json.field("bytes_cut", report.bytes_cut);
  json.field("lost_batches", report.lost_batches);
  json.end_object();
}

void write_following(JsonWriter& json, const FollowingState& state, Nanos now) {
  json.key("following");
  json.begin_object();
  json.field("connected", state.connected);
  json.field("leader_epoch", state.epoch.value);
  json.field("leader_durable", state.leader_durable.value);
  json.field("heard_seconds", state.heard == 0 ? -1.0 : static_cast<double>(now - state.heard) / 1e9);
  json.field("sessions", state.sessions);
  json.field("cuts", state.cuts);
  json.field("bytes", state.bytes);
  json.field("error", state.last_error ? error_name(*state.last_error) : std::string_view());
  json.end_object();
}

void write_followers(JsonWriter& json, const std::vector<LeaderStream*>& followers, Lsn durable, Nanos now) {
  json.key("followers");
  json.begin_array();
  for (const LeaderStream* follower : followers) {
    const FollowerState& state = follower->state();
    json.begin_object();
    json.field("name", std::string_view(state.name));
    json.field("streaming", state.streaming);
    json.field("sent", state.sent.value);
    json.field("durable", state.durable.value);
    json.field("lag", durable.value - std::min(durable, state.durable).value);
    json.field("heard_seconds", static_cast<double>(now - state.heard) / 1e9);
    json.end_object();
  }
  json.end_array();
}

std::string describe_shard(Shard& shard, const LogExtent& extent) {
  LogStats stats = shard.log().stats();
  JsonWriter json;
  json.begin_object();
  json.field("shard", shard.index().value);
  json.field("role", shard.part());
  json.field("condition", condition_name(stats.condition));
  json.field("epoch", stats.epoch.value);
  json.field("day", std::string_view(format_day(stats.day)));
  json.field("first_day", std::string_view(format_day(stats.first_day)));
  json.field("days", stats.days);
  json.field("segments", extent.segments);
  json.field("segment_number", stats.segment_number);
  json.field("segment_used", stats.segment_used);
  json.field("log_bytes", extent.bytes);
  json.field("pool_ready", stats.pool_ready);
  json.field("free_bytes", stats.free_bytes);
  json.field("streams", stats.streams);
  json.field("producers", stats.producers);
  json.key("watermarks");
  json.begin_object();
  json.field("first", stats.first_lsn.value);
  json.field("durable", stats.watermarks.durable.value);
  json.field("written", stats.watermarks.written.value);
  json.field("appended", stats.watermarks.appended.value);
  json.end_object();
  json.field("acknowledgement_rounds", shard.acknowledgement_rounds());
  if (shard.wants_quorum()) {
    json.key("quorum");
    json.begin_object();
    json.field("replicated", shard.quorum().replicated().value);
    json.field("missing", shard.quorum().missing());
    json.field("missed", shard.quorum_missed());
    json.end_object();
  }
  const Nanos now = shard.reactor().now();
  if (shard.follower() != nullptr) write_following(json, shard.follower()->state(), now);
  else write_followers(json, shard.followers(), stats.watermarks.durable, now);
  write_commits(json, stats);
  write_opening(json, shard.report());
  json.end_object();
  return json.take();
}

/// A turn's part of visiting streams, and of writing them down.
constexpr std::size_t streams_per_turn = 512;

/// The streams with the smallest ids above `after`, at most `streams_max` of them.
Task<> collect_streams(Core&, Shard& shard, const wire::Stat& request, CorePart& part) {
  std::size_t most = request.streams_max == 0 ? wire::stat_streams_default : request.streams_max;
  auto by_id = [](const StreamRow& a, const StreamRow& b) { return a.id < b.id; };
  auto& rows = part.streams;
  auto visit = [&](const StreamInfo& info) {
    part.streams_total++;
    if (info.id <= request.after) return;
    if (rows.size() == most && rows.front().id < info.id) return;
    if (rows.size() == most) {
      std::pop_heap(rows.begin(), rows.end(), by_id);
      rows.pop_back();
    }
    rows.push_back(
        {info.id, std::string(info.name), shard.index(), info.first_offset, info.next_offset, info.next_id, info.day});
    std::push_heap(rows.begin(), rows.end(), by_id);
  };
  std::make_heap(rows.begin(), rows.end(), by_id);
  for (std::size_t from = 0; shard.is_open();) {
    from = shard.log().visit_streams(from, streams_per_turn, visit);
    if (from == 0) break;
    co_await Yield{};
  }
  co_return Result<>();
}

/// A shard's part of the disk reads of one stat, by which the first readable offsets are found. Streams stand in order of id here
/// and in the index, so neighbours share blocks: this is enough for thousands, and thin streams of a long log may be left out.
constexpr std::uint64_t stat_reads_max = 256;

/// Which streams of the shard lost what was at their front to retention: the index says.
Task<> find_first_readable(Core&, Shard& shard, CorePart& part) {
  std::sort(part.streams.begin(), part.streams.end(),
            [](const StreamRow& a, const StreamRow& b) { return a.id < b.id; });
  auto asking = shard.view().front_indexed();
  auto indexed = co_await asking;
  if (!indexed || !shard.is_open()) co_return Result<>();
  const std::uint64_t reads_before = shard.view().index().stats().block_reads;
  for (std::size_t i = 0; i < part.streams.size(); i++) {
    StreamRow& row = part.streams[i];
    if (row.shard != shard.index()) continue;
    if (!*indexed && shard.view().front_dropped()) break;
    auto finding = shard.view().first_readable(row.id);
    auto found = co_await finding;
    if (!shard.is_open()) break;
    if (found) row.first_readable = *found;
    if (shard.view().index().stats().block_reads - reads_before > stat_reads_max) break;
    if (i % streams_per_turn == streams_per_turn - 1) co_await Yield{};
  }
  co_return Result<>();
}

Task<> fill_part(Core& core, Gathering& gathering) {
  CorePart& part = gathering.parts[core.number()];
  part.core = describe_core(core);
  for (auto& shard : core.shards()) {
    if (!shard->is_open()) continue;
    auto measuring = shard->measure();
    auto extent = co_await measuring;
    if (!shard->is_open()) continue;
    if (!part.shards.empty()) part.shards += ',';
    part.shards += describe_shard(*shard, extent ? *extent : LogExtent{});
    auto collecting = collect_streams(core, *shard, gathering.request, part);
    (void)co_await collecting;
  }
  // Only now is it known which streams are shown.
  for (auto& shard : core.shards()) {
    if (!shard->is_open()) continue;
    auto finding = find_first_readable(core, *shard, part);
    (void)co_await finding;
  }
  co_return Result<>();
}

void write_server(JsonWriter& json, Core& core) {
  Server& server = core.server();
  const DataDirectory& directory = server.directory();
  const ServerConfig& config = server.config();
  json.key("server");
  json.begin_object();
  json.field("version", server_version);
  json.field("data", std::string_view(directory.path));
  json.field("listen", std::string_view(config.host));
  json.field("port", std::uint32_t{server.port()});
  const bool open = !core.shards().empty() && core.shards()[0]->is_open();
  json.field("role", open ? core.shards()[0]->part() : std::string_view(config.follow ? "follower" : "leader"));
  if (open && !core.shards()[0]->leader_text().empty()) json.field("follows", core.shards()[0]->leader_text());
  json.field("cluster_id", std::string_view(hex_id(directory.cluster_id.high) + hex_id(directory.cluster_id.low)));
  json.field("log_id", std::string_view(hex_id(directory.log_id.high) + hex_id(directory.log_id.low)));
  json.field("shards", directory.shard_count);
  json.field("cores", server.core_count());
  json.field("segment_bytes", directory.segment_bytes);
  json.field("memory_bytes", config.memory_bytes);
  json.field("day_offset", std::string_view(format_day_offset(directory.day_offset_seconds)));
  json.field("buffered", config.buffered);
  json.field("connections", server.connections().load(std::memory_order_relaxed));
  json.field("wall_time", std::string_view(format_time(core.reactor().wall_now())));
  if (server.environment().allocations != nullptr) json.field("heap_allocations", server.environment().allocations());
  json.end_object();
}

Task<> write_streams(Core&, JsonWriter& json, Gathering& gathering) {
  std::vector<const StreamRow*> rows;
  std::uint64_t total = 0;
  for (CorePart& part : gathering.parts) {
    total += part.streams_total;
    for (const StreamRow& row : part.streams) rows.push_back(&row);
  }
  std::size_t most = gathering.request.streams_max == 0 ? wire::stat_streams_default : gathering.request.streams_max;
  std::sort(rows.begin(), rows.end(), [](const StreamRow* a, const StreamRow* b) { return a->id < b->id; });
  if (rows.size() > most) rows.resize(most);
  json.field("streams_total", total);
  json.key("streams");
  json.begin_array();
  for (std::size_t i = 0; i < rows.size(); i++) {
    if (i % streams_per_turn == streams_per_turn - 1) co_await Yield{};
    const StreamRow& row = *rows[i];
    json.begin_object();
    json.field("name", std::string_view(row.name));
    json.field("id", std::string_view(hex_id(row.id.value)));
    json.field("shard", row.shard.value);
    json.field("first_offset", row.first.value);
    if (row.first_readable) json.field("first_readable", row.first_readable->value);
    json.field("next_offset", row.next.value);
    json.field("day", std::string_view(format_day(row.day)));
    json.field("next_id", row.next_id.value);
    json.end_object();
  }
  json.end_array();
  co_return Result<>();
}

Task<> answer(Core& core, std::shared_ptr<Gathering> gathering) {
  JsonWriter json;
  json.begin_object();
  write_server(json, core);
  json.key("cores");
  json.begin_array();
  for (CorePart& part : gathering->parts) json.raw(part.core);
  json.end_array();
  json.key("shards");
  json.begin_array();
  for (CorePart& part : gathering->parts)
    if (!part.shards.empty()) json.raw(part.shards);
  json.end_array();
  auto writing = write_streams(core, json, *gathering);
  (void)co_await writing;
  json.end_object();
  Connection* connection = core.find(gathering->connection_id);
  if (connection != nullptr && !connection->ending())
    connection->answer(wire::StatText{gathering->request.request_id, json.text()});
  core.end_work();
  co_return Result<>();
}

/// Asks one core, or, when it was the last to be asked, brings everything back.
class Ask final : public Errand {
 public:
  explicit Ask(std::shared_ptr<Gathering> gathering) : gathering_(std::move(gathering)) {}
  void run(Core& core) override {
    core.begin_work();
    core.reactor().spawn(complete_ ? answer(core, gathering_) : contribute(core, gathering_));
  }

 private:
  static Task<> contribute(Core& core, std::shared_ptr<Gathering> gathering) {
    auto filling = fill_part(core, *gathering);
    (void)co_await filling;
    if (gathering->left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      auto back = std::make_unique<Ask>(gathering);
      back->complete_ = true;
      core.server().post(gathering->asking_core, std::move(back));
    }
    core.end_work();
    co_return Result<>();
  }

  std::shared_ptr<Gathering> gathering_;
  bool complete_ = false;
};

}  // namespace

void gather_stat(Core& core, std::uint64_t connection_id, const wire::Stat& request) {
  auto gathering = std::make_shared<Gathering>();
  gathering->asking_core = core.number();
  gathering->connection_id = connection_id;
  gathering->request = request;
  gathering->parts.resize(core.server().core_count());
  gathering->left = core.server().core_count();
  for (std::uint32_t each = 0; each < core.server().core_count(); each++)
    core.server().post(each, std::make_unique<Ask>(gathering));
}

}  // namespace millrace
