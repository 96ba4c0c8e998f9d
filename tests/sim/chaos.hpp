// What befalls a world from outside, second by second: kills, power cuts, pauses, partitions, full disks, clocks that
// jump, bits that rot. It draws at the rates of the world's FaultPlan and goes through the injector, so that each is
// counted, numbered and can be suppressed.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "tests/sim/sim_world.hpp"

namespace millrace::sim {

/// A machine with one process that is to be up: chaos ends it, and starts it again a while later.
struct ChaosTarget {
  SimNode* node = nullptr;
  std::function<SimProcess&()> start;
  bool power_cuts = true;         // else only kills
  bool disk = true;               // full disks and rotting bits strike here
  SimProcess* process = nullptr;  // the last one started
  bool starting = false;          // a start is due
};

class Chaos {
 public:
  explicit Chaos(SimWorld& world);
  Chaos(const Chaos&) = delete;
  Chaos& operator=(const Chaos&) = delete;

  /// Starts it at once.
  ChaosTarget& add(ChaosTarget target);
  /// From now until stop(): a draw for every class and target each simulated quarter of a second.
  void run();
  /// Ends all that lasts (partitions, full disks, frozen clocks, pauses) and starts what is down. Damage to bytes stays.
  void stop();
  /// Starts every target whose process has ended by itself. True when all run.
  bool all_running() const;

  /// A kill or a power cut of the target `delay` from now, where the plan has such. For moments at which much changes; `how` is
  /// drawn when it is not given.
  void crash_later(ChaosTarget& target, Nanos delay, std::optional<FaultClass> how = {});

  std::uint64_t crashes() const { return crashes_; }
  std::uint64_t ended_by_themselves() const { return ended_; }
  /// Called when a target's process is found ended without chaos having done it.
  std::function<void(ChaosTarget& target)> on_self_ended;

 private:
  void tick();
  bool due(FaultClass fault);
  void befall(ChaosTarget& target);
  void befall_disk(ChaosTarget& target);
  void befall_clock(ChaosTarget& target);
  void rot(SimNode& node);
  void start_later(ChaosTarget& target, Nanos delay);

  static constexpr Nanos tick_every = 250'000'000;

  SimWorld& world_;
  Random random_;
  std::vector<std::unique_ptr<ChaosTarget>> targets_;
  bool running_ = false;
  std::uint64_t crashes_ = 0;
  std::uint64_t ended_ = 0;
};

}  // namespace millrace::sim
