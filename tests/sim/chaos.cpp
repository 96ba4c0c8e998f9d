#include "tests/sim/chaos.hpp"

namespace millrace::sim {

namespace {
constexpr Nanos second = 1'000'000'000;
constexpr std::uint64_t restart_within = 3'000'000'000;
constexpr std::uint64_t ticks_per_second = 4;
}  // namespace

Chaos::Chaos(SimWorld& world) : world_(world), random_(world.stream("chaos")) {}

ChaosTarget& Chaos::add(ChaosTarget target) {
  targets_.push_back(std::make_unique<ChaosTarget>(std::move(target)));
  ChaosTarget& added = *targets_.back();
  added.process = &added.start();
  return added;
}

void Chaos::run() {
  running_ = true;
  world_.after(tick_every, [this] { tick(); });
}

/// Each tick draws for every class, struck or not, so that one class's rate does not move another's strikes.
bool Chaos::due(FaultClass fault) {
  std::uint32_t rate = world_.faults().plan()[fault];
  return random_.below(1'000'000 * ticks_per_second) < rate && running_ && !world_.faults().calm();
}

void Chaos::tick() {
  for (auto& target : targets_) {
    befall(*target);
    befall_disk(*target);
    befall_clock(*target);
  }
  for (auto& target : targets_) {
    if (target->process->running() || target->starting) continue;
    if (target->process->reason() == EndReason::finished) {
      ++ended_;
      if (on_self_ended) on_self_ended(*target);
    }
    start_later(*target, static_cast<Nanos>(random_.below(restart_within)));
  }
  world_.after(tick_every, [this] { tick(); });
}

void Chaos::crash_later(ChaosTarget& target, Nanos delay, std::optional<FaultClass> how) {
  bool by_power = random_.below(4) != 0;
  auto profile = static_cast<CutProfile>(random_.below(cut_profiles));
  const FaultClass drawn = by_power ? FaultClass::power_cut : FaultClass::kill;
  const FaultClass fault = target.power_cuts ? how.value_or(drawn) : FaultClass::kill;
  if (!running_ || world_.faults().plan()[fault] == 0) return;
  world_.after(delay, [this, &target, fault, profile] {
    if (!running_ || !target.process->running() || !world_.inject(fault, *target.node)) return;
    ++crashes_;
    if (fault == FaultClass::power_cut) world_.power_cut(*target.node, profile);
    else world_.kill(*target.process);
  });
}

void Chaos::start_later(ChaosTarget& target, Nanos delay) {
  target.starting = true;
  // Now and then the next crash hits the recovery from this one.
  bool again = random_.below(4) == 0;
  bool by_power = random_.below(2) == 0;
  auto profile = static_cast<CutProfile>(random_.below(cut_profiles));
  auto moment = static_cast<Nanos>(random_.below(20'000'000));
  world_.after(delay, [this, &target, again, by_power, profile, moment] {
    target.starting = false;
    target.process = &target.start();
    FaultClass fault = by_power && target.power_cuts ? FaultClass::power_cut : FaultClass::kill;
    if (!again || !running_ || world_.faults().plan()[fault] == 0 || !world_.inject(fault, *target.node)) return;
    world_.after(moment, [this, &target, process = target.process, fault, profile] {
      if (!process->running()) return;
      ++crashes_;
      if (fault == FaultClass::power_cut) world_.power_cut(*target.node, profile);
      else world_.kill(*process);
    });
  });
}

void Chaos::befall(ChaosTarget& target) {
  bool kill = due(FaultClass::kill);
  bool cut = due(FaultClass::power_cut);
  auto profile = static_cast<CutProfile>(random_.below(cut_profiles));
  bool pause = due(FaultClass::pause);
  auto pause_for = static_cast<Nanos>(random_.below(10 * second));
  bool stall = due(FaultClass::stall);
  std::uint64_t stalled = random_.next();
  auto stall_for = static_cast<Nanos>(random_.below(second << random_.below(3)));
  bool suspend = due(FaultClass::suspend);
  auto suspend_for = static_cast<Nanos>(random_.below(20 * second));
  bool partition = due(FaultClass::partition);
  auto partition_for = static_cast<Nanos>(random_.below(20 * second));
  std::uint64_t other = random_.below(world_.nodes().size());
  // Anywhere within the tick: not only at its edges.
  auto moment = static_cast<Nanos>(random_.below(tick_every));
  if (kill && world_.inject(FaultClass::kill, *target.node)) {
    world_.after(moment, [this, &target] {
      if (target.process->running()) ++crashes_;
      world_.kill(*target.process);
    });
  } else if (cut && target.power_cuts && world_.inject(FaultClass::power_cut, *target.node)) {
    world_.after(moment, [this, &target, profile] {
      if (target.process->running()) ++crashes_;
      world_.power_cut(*target.node, profile);
    });
  }
  if (pause && world_.inject(FaultClass::pause, *target.node)) world_.pause(*target.process, pause_for);
  if (stall && world_.inject(FaultClass::stall, *target.node))
    world_.stall(*target.process, stalled % target.process->shards(), stall_for);
  if (suspend && world_.inject(FaultClass::suspend, *target.node)) world_.suspend(*target.process, suspend_for);
  SimNode& peer = *world_.nodes()[other];
  if (partition && &peer != target.node && world_.inject(FaultClass::partition, *target.node)) {
    world_.network().partition(*target.node, peer);
    world_.after(partition_for, [this, &target, &peer] { world_.network().heal(*target.node, peer); });
  }
}

void Chaos::befall_disk(ChaosTarget& target) {
  bool full = due(FaultClass::disk_full);
  auto full_for = static_cast<Nanos>(random_.below(15 * second));
  std::uint64_t left = random_.below(4 * MiB);
  bool rotten = due(FaultClass::bit_rot);
  if (!target.disk) return;
  if (full && world_.inject(FaultClass::disk_full, *target.node)) {
    SimDisk& disk = target.node->disk;
    std::uint64_t used = disk.used_bytes();
    disk.foreign_bytes = disk.capacity_bytes - std::min(disk.capacity_bytes, used + left);
    world_.after(full_for, [&disk] { disk.foreign_bytes = 0; });
    target.node->disk_full.emplace_back(world_.now(), world_.now() + full_for);
  }
  if (rotten && world_.inject(FaultClass::bit_rot, *target.node)) rot(*target.node);
}

void Chaos::rot(SimNode& node) {
  Random& random = world_.faults().detail(FaultClass::bit_rot);
  std::string where = node.disk.rot(random);
  world_.say("%s: bit rot in %s", node.name.c_str(), where.empty() ? "nothing" : where.c_str());
}

void Chaos::befall_clock(ChaosTarget& target) {
  SimNode& node = *target.node;
  bool jump = due(FaultClass::wall_jump);
  // Mostly seconds to hours, either way; now and then days or years.
  Nanos scale = second << random_.below(random_.below(8) == 0 ? 28 : 14);
  Nanos by = static_cast<Nanos>(random_.below(static_cast<std::uint64_t>(2 * scale))) - scale;
  bool drift = due(FaultClass::wall_drift);
  auto ppm = static_cast<std::int64_t>(random_.below(20'000)) - 10'000;
  bool freeze = due(FaultClass::wall_freeze);
  auto freeze_for = static_cast<Nanos>(random_.below(30 * second));
  if (jump && world_.inject(FaultClass::wall_jump, node)) world_.jump_wall(node, by);
  if (drift && world_.inject(FaultClass::wall_drift, node)) {
    node.wall_offset = world_.wall_now(node) - world_.true_wall();
    node.drift_ppm = ppm;
    node.drift_since = world_.now();
  }
  if (freeze && node.frozen_at < 0 && world_.inject(FaultClass::wall_freeze, node)) {
    node.frozen_at = world_.wall_now(node);
    world_.after(freeze_for, [&node] { node.frozen_at = -1; });
  }
}

void Chaos::stop() {
  running_ = false;
  world_.network().heal_all();
  for (auto& target : targets_) {
    target->node->disk.foreign_bytes = 0;
    target->node->frozen_at = -1;
    world_.resume(*target->process);
  }
}

bool Chaos::all_running() const {
  for (const auto& target : targets_)
    if (!target->process->running()) return false;
  return true;
}

}  // namespace millrace::sim
