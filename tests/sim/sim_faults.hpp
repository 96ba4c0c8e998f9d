// Every kind of misfortune has a name, a rate, its own random stream, a count, and a number when it strikes. A run is
// its seed plus the set of suppressed fault numbers, so a failing run is shrunk by suppressing what it does not need.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/units.hpp"
#include "reactor/random.hpp"
#include "tests/sim/sim_file.hpp"

namespace millrace::sim {

enum class FaultClass : std::uint8_t {
  // The disk answers, differently.
  short_read,
  short_write,
  read_error_once,
  read_error_sticky,
  write_error_once,
  write_error_sticky,
  interrupted,
  again,
  no_space,
  failed_sync,
  slow_disk,
  reordered,
  too_many_files,
  write_zeroes_missing,
  lock_lingers,
  // The disk lies or decays: what an acknowledgement cannot know.
  lost_write,
  misdirected_write,
  duplicated_write,
  stale_read,
  bit_rot,
  lying_flush,
  // The network.
  connection_refused,
  connection_reset,
  half_open,
  small_pieces,
  network_delay,
  slow_reader,
  accept_aborted,
  multishot_ended,
  buffers_exhausted,
  partition,
  // Processes, machines and clocks.
  kill,
  power_cut,
  pause,
  stall,
  suspend,
  disk_full,
  wall_jump,
  wall_drift,
  wall_freeze,
  count_,
};
inline constexpr std::size_t fault_classes = static_cast<std::size_t>(FaultClass::count_);

std::string_view fault_name(FaultClass fault);
/// count_ when there is no fault of this name.
FaultClass fault_of(std::string_view name);
/// True for faults after which even a correct store may have lost acknowledged bytes; it must then say so (P18, P20).
bool damages_media(FaultClass fault);

/// Rates per million decisions; for the world's own events (bit_rot, partition and those from kill on) per simulated
/// second. 0 = off.
struct FaultPlan {
  std::array<std::uint32_t, fault_classes> rates{};
  std::uint32_t& operator[](FaultClass fault) { return rates[static_cast<std::size_t>(fault)]; }
  std::uint32_t operator[](FaultClass fault) const { return rates[static_cast<std::size_t>(fault)]; }

  static FaultPlan quiet() { return {}; }
  /// Swarm: which classes are on, and how often each, differs from seed to seed. `media` allows damaging classes.
  static FaultPlan draw(Random& random, bool media);
  std::string describe() const;
};

struct FaultEvent {
  std::uint64_t number = 0;  // from 1, in the order of the run
  Nanos at = 0;
  FaultClass fault{};
  std::string node;
};

class FaultInjector {
 public:
  FaultInjector(std::uint64_t seed, const FaultPlan& plan);

  /// Draws from the class's own stream. A suppressed fault takes its number and does not strike.
  bool strike(FaultClass fault, Nanos now, std::string_view node);
  /// For events the world decided on: only counts, and asks whether this number is suppressed.
  bool inject(FaultClass fault, Nanos now, std::string_view node);
  /// The stream of details (which sector, how long) of a class.
  Random& detail(FaultClass fault) { return details_[static_cast<std::size_t>(fault)]; }

  const FaultPlan& plan() const { return plan_; }
  void set_plan(const FaultPlan& plan) { plan_ = plan; }
  /// Nothing strikes while calm: the end of a run, in which the system must recover.
  void set_calm(bool calm) { calm_ = calm; }
  bool calm() const { return calm_; }
  /// Suppresses fault numbers first..last.
  void suppress(std::uint64_t first, std::uint64_t last) { suppressed_.emplace_back(first, last); }

  std::uint64_t count(FaultClass fault) const { return counts_[static_cast<std::size_t>(fault)]; }
  std::uint64_t total() const { return last_number_; }
  /// How many faults that damage media have struck.
  std::uint64_t media_faults() const;
  bool media_damaged() const { return media_faults() > 0; }
  /// The first `events_max` events.
  const std::vector<FaultEvent>& events() const { return events_; }
  static constexpr std::size_t events_max = 100'000;

 private:
  FaultPlan plan_;
  bool calm_ = false;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> suppressed_;
  std::vector<Random> decisions_;
  std::vector<Random> details_;
  std::array<std::uint64_t, fault_classes> counts_{};
  std::uint64_t last_number_ = 0;
  std::vector<FaultEvent> events_;
};

/// One seed, split by name and number: a draw more in one stream shifts no other.
std::uint64_t split_seed(std::uint64_t seed, std::string_view name, std::uint64_t number = 0);

/// One step of splitmix64: a good hash of one word.
std::uint64_t split_mix(std::uint64_t word);

std::string_view cut_profile_name(CutProfile profile);

}  // namespace millrace::sim
