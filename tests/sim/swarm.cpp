#include "tests/sim/swarm.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "tests/sim/chaos.hpp"
#include "tests/sim/checker/fields.hpp"

namespace millrace::sim {

namespace {

constexpr Nanos second = 1'000'000'000;
constexpr Nanos settle_within = 120 * second;  // of calm, until every append has an answer
constexpr Nanos serve_within = 60 * second;    // of calm, until the server serves
constexpr Nanos stop_within = 30 * second;

SwarmMode draw_mode(Random& random) {
  std::uint64_t draw = random.below(20);
  if (draw == 0) return SwarmMode::quiet;
  if (draw <= 6) return SwarmMode::crash;
  return draw <= 15 ? SwarmMode::errors : SwarmMode::damage;
}

FaultPlan draw_plan(Random& random, SwarmMode mode, bool wide) {
  FaultPlan drawn = FaultPlan::draw(random, mode == SwarmMode::damage);
  if (mode == SwarmMode::errors || mode == SwarmMode::damage) return drawn;
  FaultPlan plan;
  if (mode == SwarmMode::quiet) return plan;
  for (FaultClass fault : {FaultClass::reordered, FaultClass::small_pieces, FaultClass::network_delay,
                           FaultClass::pause, FaultClass::stall, FaultClass::suspend})
    plan[fault] = drawn[fault];
  if (wide && plan[FaultClass::reordered] == 0 && random.below(2) == 0) plan[FaultClass::reordered] = 300'000;
  plan[FaultClass::kill] = 100'000 + static_cast<std::uint32_t>(random.below(400'000));
  plan[FaultClass::power_cut] = 100'000 + static_cast<std::uint32_t>(random.below(400'000));
  return plan;
}

/// After damage to media these may be the damage's doing and not the server's: they are counted, not condemned. What is
/// served must still be what somebody sent, once, and in order.
bool excusable(const std::string& violation) {
  if (violation.find("unexplained:") != std::string::npos) return false;
  for (const char* promise : {"P01", "P04", "P06", "P18", "P24"})
    if (violation.starts_with(promise)) return true;
  // The directory itself is damaged on purpose: what the checker finds wrong with a file of a shard.
  return violation.find(" shard-") == 3;
}

class SeedRun {
 public:
  SeedRun(std::uint64_t seed, const SwarmOptions& options, const ServerFactory& factory)
      : factory_(factory), random_(split_seed(seed, "swarm")), world_(seed, {}), chaos_(world_) {
    result_.seed = seed;
    wide_ = options.wide;
    SwarmMode drawn = draw_mode(random_);
    result_.mode = options.mode.value_or(drawn);
    Random plan_random(split_seed(seed, "workload"));
    plan_ = WorkloadPlan::draw(plan_random, wide_);
    plan_.shards = options.shards.value_or(plan_.shards);
    // A server may refuse to start on a full disk; one that only crashes, or meets nothing, may not.
    if (result_.mode == SwarmMode::crash || result_.mode == SwarmMode::quiet) plan_.tight_disk_bytes = 0;
    check_directory_ = options.check_directory;
    Random fault_random(split_seed(seed, "fault plan"));
    FaultPlan faults = draw_plan(fault_random, result_.mode, wide_);
    for (FaultClass fault : options.without) faults[fault] = 0;
    last_power_cut_ = std::ranges::count(options.without, FaultClass::power_cut) == 0;
    recorder_.now = [this] { return world_.now(); };
    recorder_.on_acknowledged = [this] { acknowledged(); };
    world_.faults().set_plan(faults);
    for (const auto& [first, last] : options.suppressed) world_.faults().suppress(first, last);
    result_.workload = plan_.describe();
    result_.faults = faults.describe();
    if (options.trace) world_.trace = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  }

  SeedResult run() {
    start();
    world_.run_for(plan_.length);
    calm();
    if (!stuck_ && !refused_) read_back();
    if (!stuck_ && !refused_) stop_and_check();
    judge();
    return std::move(result_);
  }

 private:
  void start();
  void calm();
  void read_back();
  void stop_and_check();
  void judge();
  void stuck(const std::string& what);
  bool wait_serving(const char* what);
  void note_self_end(ChaosTarget& target);
  ServerProgram& server() { return static_cast<ServerProgram&>(server_target_->process->program()); }
  SimProcess& start_server();
  void come_to_midnight();
  void plan_end_of_life();
  void acknowledged();
  void writes(std::uint32_t bytes, Nanos latency);
  bool excused_by_damage(const std::string& violation) const;
  void note_disturbances(checker::History& history);

  const ServerFactory& factory_;
  Random random_;
  SeedResult result_;
  WorkloadPlan plan_;
  HistoryRecorder recorder_;
  Ledger ledger_;
  std::unique_ptr<WorkloadShared> shared_;
  SimNode* server_node_ = nullptr;
  SimNode* reader_node_ = nullptr;
  ChaosTarget* server_target_ = nullptr;
  std::vector<ChaosTarget*> client_targets_;
  ServerNotes notes_;
  SimWorld world_;  // behind what its processes refer to: those that still run end with it
  Chaos chaos_;
  bool check_directory_ = true;
  bool wide_ = false;
  std::uint64_t crash_in_ = 0;          // so many acknowledgements from now; 0 = not
  std::optional<FaultClass> crash_by_;  // else drawn
  std::uint64_t kill_in_bytes_ = 0;     // so many bytes of durable writes from now; 0 = not
  std::uint64_t kills_seen_ = 0;        // of the server, by its last start
  bool last_power_cut_ = true;          // the last look may be at what a power cut leaves
  bool stuck_ = false;
  bool refused_ = false;  // the server would not open a damaged directory, and said why
};

/// The end of a day is where a log does most: some lives begin shortly before one, and some of those end just after it.
void SeedRun::come_to_midnight() {
  constexpr Nanos day = 86'400 * second;
  Nanos left = day - world_.wall_now(*server_node_) % day;
  Nanos before = static_cast<Nanos>(random_.below(4 * second));
  bool come = server_target_ != nullptr && plan_.midnights && random_.below(4) != 0;
  // Around the moment itself, at every scale from microseconds to some milliseconds.
  Nanos moment = static_cast<Nanos>(random_.below(std::uint64_t{1000} << random_.below(16)));
  bool crash = random_.below(2) == 0;
  if (world_.faults().calm()) return;
  if (come && left > before) {
    world_.jump_wall(*server_node_, left - before);
    left = before;
  }
  if (crash && server_target_ != nullptr && left < plan_.length) chaos_.crash_later(*server_target_, left + moment);
}

/// A promise is worth most at the moment it is given: some lives end right after one. Some are killed in the middle of a write, which
/// leaves what was being written in the system's memory, where the next life finds it; that one's first promises say whether it
/// believed too much, when the power goes then.
void SeedRun::plan_end_of_life() {
  crash_in_ = kill_in_bytes_ = 0;
  const bool killed = server_node_->kills > kills_seen_;
  kills_seen_ = server_node_->kills;
  if (!wide_) return;
  const std::uint64_t end = random_.below(4);
  if (killed && end != 0) {
    crash_in_ = 1 + random_.below(std::uint64_t{1} << random_.below(6));
    crash_by_ = FaultClass::power_cut;
  } else if (end == 1) {
    kill_in_bytes_ = std::uint64_t{4096} << random_.below(11);
  } else if (end == 2) {
    crash_in_ = 1 + random_.below(std::uint64_t{1} << random_.below(11));
    crash_by_.reset();
  }
}

void SeedRun::acknowledged() {
  if (crash_in_ == 0 || --crash_in_ > 0 || world_.faults().calm()) return;
  const auto moment = static_cast<Nanos>(random_.below(std::uint64_t{1} << random_.below(20)));
  chaos_.crash_later(*server_target_, moment, crash_by_);
}

void SeedRun::writes(std::uint32_t bytes, Nanos latency) {
  if (kill_in_bytes_ == 0 || world_.faults().calm()) return;
  kill_in_bytes_ -= std::min<std::uint64_t>(kill_in_bytes_, bytes);
  if (kill_in_bytes_ > 0) return;
  const auto moment = static_cast<Nanos>(random_.below(static_cast<std::uint64_t>(latency)));
  chaos_.crash_later(*server_target_, moment, FaultClass::kill);
}

SimProcess& SeedRun::start_server() {
  come_to_midnight();
  plan_end_of_life();
  return world_.start(*server_node_, plan_.shards,
                      [this](std::span<Kernel* const> kernels) { return factory_(kernels, plan_, notes_); });
}

void SeedRun::start() {
  constexpr std::uint64_t disk_bytes = std::uint64_t{2} * GiB;
  server_node_ = &world_.add_node("server");
  server_node_->wall_offset = plan_.wall_offset;
  server_node_->on_durable_write = [this](std::uint32_t bytes, Nanos latency) { writes(bytes, latency); };
  Random tempo_random(split_seed(result_.seed, "tempo"));
  if (result_.mode != SwarmMode::quiet && wide_) server_node_->tempo = DiskTempo::draw(tempo_random);
  server_node_->disk.capacity_bytes = disk_bytes;
  if (plan_.tight_disk_bytes != 0) {
    server_node_->disk.capacity_bytes = plan_.tight_disk_bytes;
    const Nanos until = plan_.length * 3 / 5;
    server_node_->disk_full.emplace_back(0, until);
    world_.after(until, [this] { server_node_->disk.capacity_bytes = disk_bytes; });
  }
  shared_ = std::make_unique<WorkloadShared>(
      WorkloadShared{world_, plan_, recorder_, ledger_, server_node_->host, true, {}, 0, 0, 0});
  notes_.say = [this](const std::string& line) { world_.say("server: %s", line.c_str()); };
  chaos_.on_self_ended = [this](ChaosTarget& target) { note_self_end(target); };
  server_target_ = &chaos_.add({server_node_, [this]() -> SimProcess& { return start_server(); }});
  for (std::uint32_t i = 0; i < plan_.clients; ++i) {
    SimNode& node = world_.add_node("client-" + std::to_string(i));
    node.faulty_disk = false;
    ChaosTarget target{&node, [this, &node]() -> SimProcess& {
                         return world_.start(node, 1, [this](std::span<Kernel* const> kernels) {
                           return std::make_unique<ClientProgram>(kernels, *shared_, random_.next());
                         });
                       }};
    target.disk = false;
    client_targets_.push_back(&chaos_.add(std::move(target)));
  }
  reader_node_ = &world_.add_node("reader");
  reader_node_->faulty_disk = false;
  chaos_.run();
}

void SeedRun::note_self_end(ChaosTarget& target) {
  if (&target != server_target_) return;
  ++result_.counts["server_ended_itself"];
  world_.say("server: ended by itself: %s", notes_.complaint.c_str());
  if (result_.mode == SwarmMode::crash || result_.mode == SwarmMode::quiet)
    result_.violations.push_back("P17 server: refused a legal crash: " + notes_.complaint);
}

void SeedRun::stuck(const std::string& what) {
  stuck_ = true;
  result_.violations.push_back("stuck: " + what +
                               (world_.livelock().empty() ? "" : "; livelock: " + world_.livelock()));
}

bool SeedRun::wait_serving(const char* what) {
  bool serves =
      world_.run_until([&] { return server_target_->process->running() && server().serving(); }, serve_within);
  if (serves) return true;
  // The one that ended may have been started again just now: this one says the same, or serves.
  world_.run_until([&] { return !server_target_->process->running() || server().serving(); }, 5 * second);
  if (server_target_->process->running() && server().serving()) return true;
  // Both copies of what nothing can be derived from may be gone; then the refusal must name its reason.
  if (world_.faults().media_damaged() && !notes_.complaint.empty() && !server_target_->process->running()) {
    ++result_.counts["refused_after_damage"];
    refused_ = true;
    return false;
  }
  stuck(std::string(what) + ": the server does not serve; it last said: " + notes_.complaint);
  return false;
}

void SeedRun::calm() {
  chaos_.stop();
  world_.faults().set_calm(true);
  server_node_->disk.for_each_file([](const std::string&, SimInode& inode) { inode.writes_fail = false; });
  server_node_->wall_offset = plan_.wall_offset;
  server_node_->drift_ppm = 0;
  // A log that closed itself waits for a person: the restart is what the person does.
  if (random_.below(2) == 0 || result_.mode != SwarmMode::crash) world_.kill(*server_target_->process);
  world_.run_for(5 * second);
  if (!wait_serving("after the faults")) return;
  std::uint64_t before = recorder_.acknowledged();
  if (!world_.run_until([&] { return recorder_.acknowledged() > before; }, settle_within))
    return stuck("no append is acknowledged after the faults");
  shared_->appending = false;
  bool settled = world_.run_until(
      [&] {
        return std::all_of(client_targets_.begin(), client_targets_.end(), [](ChaosTarget* target) {
          return target->process->running() && static_cast<ClientProgram&>(target->process->program()).settled();
        });
      },
      settle_within);
  if (!settled) stuck("appends have no answer after the faults");
}

void SeedRun::read_back() {
  // The last look is at what a crash leaves, half of the time.
  if (random_.below(2) == 0 && last_power_cut_) {
    ++result_.counts["crashes"];
    world_.power_cut(*server_node_, static_cast<CutProfile>(random_.below(cut_profiles)));
    world_.run_for(5 * second);
    if (!wait_serving("after the last power cut")) return;
  }
  std::vector<ReaderProgram::Outcome> outcomes;
  recorder_.history().last_reader = recorder_.reader() + 1;
  SimProcess& reading = world_.start(*reader_node_, 1, [&](std::span<Kernel* const> kernels) {
    return std::make_unique<ReaderProgram>(kernels, *shared_, outcomes);
  });
  if (!world_.run_until([&] { return !reading.running(); }, settle_within)) {
    world_.kill(reading);
    return stuck("the streams cannot be read to their end");
  }
  for (std::uint32_t stream = 0; stream < plan_.streams; ++stream) {
    const auto& outcome = outcomes[stream];
    std::string name = shared_->stream_name(stream);
    world_.say("reader: %s: %llu records in [%llu, %llu) %s", name.c_str(),
               static_cast<unsigned long long>(outcome.records), static_cast<unsigned long long>(outcome.first),
               static_cast<unsigned long long>(outcome.next), outcome.error.c_str());
    if (!outcome.error.empty() && outcome.error != "unknown_stream")
      result_.violations.push_back("P01 " + name + ": reading ended with " + outcome.error);
    auto broken = ledger_.judge(name, outcome.first, outcome.next, world_.faults().media_damaged());
    result_.violations.insert(result_.violations.end(), broken.begin(), broken.end());
    result_.counts["records_read_back"] += outcome.records;
  }
  recorder_.history().reads_complete = true;
}

void SeedRun::stop_and_check() {
  for (ChaosTarget* client : client_targets_) world_.kill(*client->process);
  server().stop();
  SimProcess& stopping = *server_target_->process;
  chaos_.on_self_ended = nullptr;
  if (!world_.run_until([&] { return !stopping.running(); }, stop_within)) return stuck("the server does not stop");
  if (!check_directory_) return;
  checker::Image image;
  DirectoryImage whole = server_node_->disk.image();
  std::string prefix = std::string(server_data_path) + "/";
  for (const auto& [path, bytes] : whole)
    if (path.starts_with(prefix) && !path.ends_with("/")) image.emplace(path.substr(prefix.size()), bytes);
  checker::History& history = recorder_.history();
  history.damage_injected = world_.faults().media_damaged();
  note_disturbances(history);
  history.retention_ran = plan_.retain_days != 0 || plan_.retain_bytes != 0;
  checker::Options options;
  options.damage_expected = history.damage_injected;
  options.first_days_dropped = history.retention_ran;
  checker::Report report = checker::check(image, history, options);
  for (const auto& violation : report.violations)
    result_.violations.push_back(violation.promise + " " + violation.where + ": " + violation.what);
  result_.counts["batches_checked"] += report.batches;
  result_.counts["lost_acknowledged_reported"] += report.lost_acknowledged_reported;
  result_.counts["lost_acknowledged_silent"] += report.lost_acknowledged_silent;
  result_.counts["groups"] += report.groups;
  result_.counts["failed_commit_writes"] += history.failed_commits.size();
  result_.counts["refused_for_space"] += report.refused_for_space;
  result_.counts["refused_as_closed"] += report.refused_as_closed;
}

void SeedRun::note_disturbances(checker::History& history) {
  history.ends = server_node_->ends;
  history.short_of_space = server_node_->disk_full;
  for (const auto& failed : server_node_->failed_commits) history.failed_commits.push_back({failed.shard, failed.at});
  auto& times = history.disturbances;
  times = server_node_->ends;
  for (const FaultEvent& event : world_.faults().events()) {
    if (event.node != server_node_->name) continue;
    const bool space = event.fault == FaultClass::no_space;
    if (space) history.short_of_space.emplace_back(event.at, event.at);
    if (space || event.fault == FaultClass::write_error_once || event.fault == FaultClass::write_error_sticky ||
        event.fault == FaultClass::failed_sync)
      times.push_back(event.at);
  }
  std::ranges::sort(times);
}

/// Only what happened to the shard itself, or to what all shards share, explains what is wrong with it.
bool SeedRun::excused_by_damage(const std::string& violation) const {
  if (!excusable(violation)) return false;
  std::optional<std::uint32_t> shard;
  for (std::uint32_t stream = 0; stream < plan_.streams && !shard; ++stream) {
    StreamId id = stream_id_of(shared_->stream_name(stream));
    for (const std::string& name : {shared_->stream_name(stream) + " ", shared_->stream_name(stream) + ":",
                                    "stream " + checker::hex(id.value) + " "})
      if (violation.find(name) != std::string::npos) shard = wire::shard_of(id, plan_.shards).value;
  }
  if (std::size_t at = violation.find("shard-"); at == 4)
    shard = static_cast<std::uint32_t>(std::strtoul(violation.c_str() + at + 6, nullptr, 10));
  if (!shard) return true;
  for (const std::string& path : server_node_->disk.damaged_paths()) {
    std::size_t at = path.find("shard-");
    if (at == std::string::npos || std::strtoul(path.c_str() + at + 6, nullptr, 10) == *shard) return true;
  }
  return false;
}

void SeedRun::judge() {
  auto& all = result_.violations;
  all.insert(all.end(), shared_->violations.begin(), shared_->violations.end());
  all.insert(all.end(), notes_.violations.begin(), notes_.violations.end());
  if (world_.faults().media_damaged()) {
    result_.counts["excused_by_damage"] +=
        std::erase_if(all, [this](const std::string& violation) { return excused_by_damage(violation); });
  }
  bool wrong = std::any_of(all.begin(), all.end(), [](const std::string& text) { return !text.starts_with("stuck"); });
  result_.verdict = wrong ? SeedVerdict::wrong : stuck_ ? SeedVerdict::stuck : SeedVerdict::passed;
  result_.trace_hash = world_.trace_hash();
  result_.events = world_.events();
  result_.simulated = world_.now();
  auto& counts = result_.counts;
  counts["crashes"] += chaos_.crashes();
  counts["openings"] += notes_.openings;
  // What a crash alone may never cause, with how often it could have.
  if (result_.mode == SwarmMode::crash || result_.mode == SwarmMode::quiet) {
    counts["pure_crash.openings"] += notes_.openings;
    counts["pure_crash.refused"] += static_cast<std::uint64_t>(
        std::ranges::count_if(all, [](const std::string& text) { return text.starts_with("P17 server"); }));
    counts["pure_crash.acknowledged_records"] += ledger_.records_acknowledged();
    counts["pure_crash.silently_cut_batches"] += counts["lost_acknowledged_silent"];
  }
  counts["power_cuts"] += server_node_->power_cuts;
  counts["operations"] += world_.operations;
  counts["records_appended"] += ledger_.records_appended();
  counts["records_acknowledged"] += ledger_.records_acknowledged();
  counts["records_seen"] += ledger_.records_seen();
  counts["batches_acknowledged"] += recorder_.acknowledged();
  counts["producer_failures"] += shared_->producer_failures;
  for (const auto& [verdict, times] : notes_.verdicts) counts["verdict." + verdict] += times;
  for (std::size_t fault = 0; fault < fault_classes; ++fault)
    if (auto struck = world_.faults().count(static_cast<FaultClass>(fault)))
      counts["fault." + std::string(fault_name(static_cast<FaultClass>(fault)))] += struck;
  for (const auto& [key, times] : world_.outcomes)
    if (key.second != 0)
      counts["errno." + std::to_string(static_cast<int>(key.first)) + "." + std::to_string(key.second)] += times;
}

}  // namespace

std::string_view mode_name(SwarmMode mode) {
  constexpr std::array<std::string_view, 4> names{"quiet", "crash", "errors", "damage"};
  return names[static_cast<std::size_t>(mode)];
}

SeedResult run_seed(std::uint64_t seed, const SwarmOptions& options, const ServerFactory& factory) {
  return SeedRun(seed, options, factory).run();
}

}  // namespace millrace::sim
