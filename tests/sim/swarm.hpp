// One seed of the swarm: a workload and a set of misfortunes drawn from it, the shipped server and the SDK's cores on a
// simulated world, then calm, a last look at everything, and the judgement.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_faults.hpp"
#include "tests/sim/workload.hpp"

namespace millrace::sim {

/// What kinds of misfortune a seed may meet.
enum class SwarmMode : std::uint8_t {
  quiet,   // none: everything must simply work
  crash,   // kills and power cuts alone: recovery may never refuse, nothing acknowledged may be missing (P17)
  errors,  // and disks, networks and clocks that fail honestly
  damage,  // and media that lie or decay: losses must be told
};
std::string_view mode_name(SwarmMode mode);

enum class SeedVerdict : std::uint8_t { passed, wrong, stuck };

struct SwarmOptions {
  bool trace = false;                                               // a readable line for every event, on stdout
  std::vector<std::pair<std::uint64_t, std::uint64_t>> suppressed;  // fault numbers that do not strike
  std::vector<FaultClass> without;                                  // classes switched off
  std::optional<SwarmMode> mode;                                    // else drawn
  std::optional<std::uint32_t> shards;                              // else drawn
  bool wide = false;            // disks of uneven tempo, crashes right after acknowledgements, more midnights
  bool check_directory = true;  // false: the server under test keeps no format of ours
};

struct SeedResult {
  std::uint64_t seed = 0;
  SeedVerdict verdict = SeedVerdict::passed;
  SwarmMode mode = SwarmMode::quiet;
  std::string workload;
  std::string faults;
  std::vector<std::string> violations;
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
  Nanos simulated = 0;
  /// Sums for the summary, by name: groups, crashes, records_acknowledged, fault.<class>, verdict.<recovery row>, …
  std::map<std::string, std::uint64_t> counts;
};

SeedResult run_seed(std::uint64_t seed, const SwarmOptions& options, const ServerFactory& factory);

}  // namespace millrace::sim
