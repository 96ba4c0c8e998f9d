#include "tests/sim/sim_world.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "base/assert.hpp"
#include "tests/sim/sim_kernel.hpp"

namespace millrace::sim {

namespace {
constexpr Nanos true_wall_at_zero = 1'795'248'000'000'000'000;  // 2026-11-21T08:00:00Z
constexpr std::uint64_t turn_cost_min = 300;
constexpr std::uint64_t turn_cost_spread = 2'700;
}  // namespace

DiskTempo DiskTempo::draw(Random& random) {
  auto factor = [&] {
    std::uint32_t slower = std::uint32_t{1} << random.below(7);
    return random.below(2) == 0 ? slower : 1;
  };
  DiskTempo tempo{factor(), factor(), factor(), factor(), factor()};
  return random.below(2) == 0 ? tempo : DiskTempo{};
}

SimWorld::SimWorld(std::uint64_t seed, const FaultPlan& plan)
    : seed_(seed),
      faults_(split_seed(seed, "faults"), plan),
      network_(*this, split_seed(seed, "network")),
      turn_random_(split_seed(seed, "turns")),
      cut_random_(split_seed(seed, "cuts")) {}

SimWorld::~SimWorld() {
  for (auto& process : processes_)
    if (process->running()) end(*process, EndReason::killed);
  for (Event& event : queue_)
    if (event.call == call_function) delete static_cast<std::function<void()>*>(event.object);
}

Nanos SimWorld::wall_now(const SimNode& node) const {
  if (node.frozen_at >= 0) return node.frozen_at;
  Nanos drift = static_cast<Nanos>((now_ - node.drift_since) / 1'000'000 * node.drift_ppm);
  return true_wall() + node.wall_offset + drift;
}

Nanos SimWorld::true_wall() const { return true_wall_at_zero + now_; }

SimNode& SimWorld::add_node(const std::string& name) {
  std::uint64_t number = nodes_.size() + 1;
  nodes_.push_back(std::make_unique<SimNode>(number, name, "10.0.0." + std::to_string(number)));
  return *nodes_.back();
}

SimProcess& SimWorld::start(SimNode& node, std::size_t shards, const ProgramFactory& factory) {
  if (!node.powered) {
    node.powered = true;
    node.boot_at = now_;
  }
  processes_.push_back(std::make_unique<SimProcess>(*this, node, next_number(), shards));
  SimProcess& process = *processes_.back();
  std::vector<Kernel*> kernels;
  for (auto& kernel : process.kernels_) kernels.push_back(kernel.get());
  process.program_ = factory(kernels);
  MR_ASSERT(process.program_ && process.program_->reactors().size() == shards);
  mix(1, process.number_, node.number);
  say("%s: process %llu starts", node.name.c_str(), static_cast<unsigned long long>(process.number_));
  for (std::size_t shard = 0; shard < shards; ++shard) schedule_turn(process, shard, now_);
  return process;
}

void SimWorld::end(SimProcess& process, EndReason reason) {
  MR_ASSERT(process.running());
  process.reason_ = reason;
  process.node_.ends.push_back(now_);
  mix(2, process.number_, static_cast<std::uint64_t>(reason));
  for (auto& kernel : process.kernels_) kernel->die();
  for (Reactor* reactor : process.program_->reactors()) reactor->abandon();
  process.program_.reset();
  for (auto& [number, file] : process.files_) {
    if (file.socket) {
      if (reason == EndReason::power_cut) network_.vanish(file.socket);
      else network_.close(file.socket);
      continue;
    }
    // The ring keeps its files for a moment after its process died, and with them their locks.
    Nanos lag = reason == EndReason::finished ? 0 : static_cast<Nanos>(cut_random_.below(2'000'000));
    if (reason == EndReason::killed && file.inode->lock_owner == file.number &&
        strike(FaultClass::lock_lingers, process.node_))
      lag = static_cast<Nanos>(faults_.detail(FaultClass::lock_lingers).below(4'000'000'000));
    if (lag == 0) process.node_.disk.release(file.inode, file.number);
    else
      after(lag, [&node = process.node_, inode = file.inode, open_file = file.number] {
        node.disk.release(inode, open_file);
      });
  }
  process.files_.clear();
  for (auto& shard : process.shards_) ++shard.generation;
}

void SimWorld::kill(SimProcess& process) {
  if (!process.running()) return;
  ++process.node_.kills;
  say("%s: process %llu is killed", process.node_.name.c_str(), static_cast<unsigned long long>(process.number_));
  end(process, EndReason::killed);
}

void SimWorld::power_cut(SimNode& node, CutProfile profile) {
  ++node.power_cuts;
  say("%s: power cut, %s", node.name.c_str(), std::string(cut_profile_name(profile)).c_str());
  node.powered = false;
  for (auto& process : processes_)
    if (&process->node_ == &node && process->running()) end(*process, EndReason::power_cut);
  node.disk.power_cut(cut_random_, profile);
  mix(3, node.number, static_cast<std::uint64_t>(profile));
}

void SimWorld::pause(SimProcess& process, Nanos duration) {
  process.paused_until_ = std::max(process.paused_until_, now_ + duration);
  say("%s: process %llu pauses for %.3f s", process.node_.name.c_str(),
      static_cast<unsigned long long>(process.number_), static_cast<double>(duration) / 1e9);
}

void SimWorld::stall(SimProcess& process, std::size_t shard, Nanos duration) {
  Nanos& until = process.shards_[shard].stalled_until;
  until = std::max(until, now_ + duration);
  say("%s: shard thread %zu stalls for %.3f s", process.node_.name.c_str(), shard, static_cast<double>(duration) / 1e9);
}

void SimWorld::suspend(SimProcess& process, Nanos duration) {
  if (!process.running() || process.suspended_at_ >= 0) return;
  process.suspended_at_ = now_;
  pause(process, duration);
}

void SimWorld::resume(SimProcess& process) {
  process.paused_until_ = 0;
  for (auto& shard : process.shards_) shard.stalled_until = 0;
  for (std::size_t shard = 0; shard < process.shards_.size(); ++shard) schedule_turn(process, shard, now_);
}

void SimWorld::jump_wall(SimNode& node, Nanos by) {
  node.wall_offset += by;
  say("%s: wall clock jumps by %.3f s", node.name.c_str(), static_cast<double>(by) / 1e9);
}

void SimWorld::at(Nanos when, Call call, void* object, std::uint64_t a, std::uint64_t b) {
  queue_.push_back({std::max(when, now_), ++last_event_, call, object, a, b});
  std::push_heap(queue_.begin(), queue_.end(), Later{});
}

void SimWorld::call_function(void* object, std::uint64_t, std::uint64_t) {
  std::unique_ptr<std::function<void()>> function(static_cast<std::function<void()>*>(object));
  (*function)();
}

void SimWorld::at(Nanos when, std::function<void()> event) {
  at(when, call_function, new std::function<void()>(std::move(event)), 0, 0);
}

bool SimWorld::step() {
  if (queue_.empty()) return false;
  std::pop_heap(queue_.begin(), queue_.end(), Later{});
  Event event = queue_.back();
  queue_.pop_back();
  now_ = event.at;
  ++event_count_;
  event.call(event.object, event.a, event.b);
  return true;
}

bool SimWorld::run_for(Nanos duration) {
  Nanos limit = now_ + duration;
  while (livelock_.empty() && !queue_.empty() && queue_.front().at <= limit) step();
  now_ = std::max(now_, limit);
  return livelock_.empty();
}

bool SimWorld::run_until(const std::function<bool()>& done, Nanos limit) {
  Nanos end = now_ + limit;
  while (!done()) {
    if (!livelock_.empty() || queue_.empty() || queue_.front().at > end) return false;
    step();
  }
  return true;
}

void SimWorld::schedule_turn(SimProcess& process, std::size_t shard, Nanos when) {
  auto& state = process.shards_[shard];
  when = std::max({when, now_, process.paused_until_, state.stalled_until});
  if (!process.running() || when >= state.next_turn) return;
  state.next_turn = when;
  at(when, call_turn, &process, shard, ++state.generation);
}

void SimWorld::call_turn(void* object, std::uint64_t shard, std::uint64_t generation) {
  auto& process = *static_cast<SimProcess*>(object);
  auto& state = process.shards_[shard];
  if (!process.running() || state.generation != generation) return;
  state.next_turn = wait_forever;
  SimWorld& world = process.world_;
  Nanos until = std::max(process.paused_until_, state.stalled_until);
  if (until > world.now_) return world.schedule_turn(process, shard, until);
  if (process.suspended_at_ >= 0) process.node_.boot_at += world.now_ - std::exchange(process.suspended_at_, -1);
  world.run_turn(process, shard);
}

void SimWorld::run_turn(SimProcess& process, std::size_t shard) {
  if (process.program_->shard_finished(shard)) return;
  ++turns;
  Reactor& reactor = *process.program_->reactors()[shard];
  reactor.turn(wait_never);
  if (process.program_->finished()) {
    say("%s: process %llu ends", process.node_.name.c_str(), static_cast<unsigned long long>(process.number_));
    end(process, EndReason::finished);
    return;
  }
  if (process.program_->shard_finished(shard)) return;
  auto& state = process.shards_[shard];
  Nanos soon = now_ + static_cast<Nanos>(turn_cost_min + turn_random_.below(turn_cost_spread));
  if (reactor.has_ready() || process.kernels_[shard]->has_work()) {
    bool idle = std::exchange(state.completions_seen, reactor.stats().completions) == state.completions_seen;
    state.idle_turns = idle ? state.idle_turns + 1 : 0;
    if (state.idle_turns > spin_turns_max && livelock_.empty())
      livelock_ = process.node_.name + ": shard " + std::to_string(shard) + " spins";
    schedule_turn(process, shard, soon);
  } else {
    state.idle_turns = 0;
    Nanos deadline = reactor.next_deadline();
    // The reactor's clock counts from boot; a timer that is due already still costs a turn.
    if (deadline != wait_forever)
      schedule_turn(process, shard, std::max(soon, now_ + (deadline - process.kernels_[shard]->now())));
  }
}

void SimWorld::mix(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  auto fold = [&](std::uint64_t value) { trace_hash_ = std::rotl((trace_hash_ ^ value) * 0x9e3779b97f4a7c15, 29); };
  fold(static_cast<std::uint64_t>(now_));
  fold(a);
  fold(b);
  fold(c);
}

void SimWorld::say(const char* format, ...) {
  if (!trace) return;
  char text[512];
  int begin = std::snprintf(text, sizeof text, "%14.9f  ", static_cast<double>(now_) / 1e9);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text + begin, sizeof text - static_cast<std::size_t>(begin), format, arguments);
  va_end(arguments);
  trace(text);
}

bool SimWorld::strike(FaultClass fault, const SimNode& node) {
  if (!faults_.strike(fault, now_, node.name)) return false;
  mix(4, static_cast<std::uint64_t>(fault), faults_.total());
  say("%s: FAULT %llu %s", node.name.c_str(), static_cast<unsigned long long>(faults_.total()),
      std::string(fault_name(fault)).c_str());
  return true;
}

bool SimWorld::inject(FaultClass fault, const SimNode& node) {
  if (!faults_.inject(fault, now_, node.name)) return false;
  mix(4, static_cast<std::uint64_t>(fault), faults_.total());
  say("%s: FAULT %llu %s", node.name.c_str(), static_cast<unsigned long long>(faults_.total()),
      std::string(fault_name(fault)).c_str());
  return true;
}

SimProcess::SimProcess(SimWorld& world, SimNode& node, std::uint64_t number, std::size_t shards)
    : world_(world), node_(node), number_(number), shards_(shards) {
  for (std::size_t shard = 0; shard < shards; ++shard)
    kernels_.push_back(
        std::make_unique<SimKernel>(world, *this, shard, split_seed(world.seed(), "kernel", number * 256 + shard)));
}

SimProcess::~SimProcess() = default;

std::int32_t SimProcess::add_descriptor(OpenFile file) {
  if (files_.size() >= descriptors_max) return -EMFILE;
  std::int32_t lowest = 3;
  for (const auto& [descriptor, open] : files_) {
    if (descriptor != lowest) break;
    ++lowest;
  }
  files_.emplace(lowest, std::move(file));
  return lowest;
}

SimProcess::OpenFile* SimProcess::descriptor(std::int32_t descriptor) {
  auto found = files_.find(descriptor);
  return found == files_.end() ? nullptr : &found->second;
}

void SimProcess::remove_descriptor(std::int32_t descriptor) { files_.erase(descriptor); }

}  // namespace millrace::sim
