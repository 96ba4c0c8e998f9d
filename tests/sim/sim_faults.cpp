#include "tests/sim/sim_faults.hpp"

#include "base/hash.hpp"

namespace millrace::sim {

namespace {

struct Row {
  FaultClass fault;
  std::string_view name;
  std::uint32_t rate_max;  // the highest rate a swarm draws
};

// Rates per million decisions; from `bit_rot` and `partition` on per simulated second where the world decides.
constexpr std::array rows{
    Row{FaultClass::short_read, "short_read", 100'000},
    Row{FaultClass::short_write, "short_write", 30'000},
    Row{FaultClass::read_error_once, "read_error_once", 30'000},
    Row{FaultClass::read_error_sticky, "read_error_sticky", 5'000},
    Row{FaultClass::write_error_once, "write_error_once", 20'000},
    Row{FaultClass::write_error_sticky, "write_error_sticky", 2'000},
    Row{FaultClass::interrupted, "interrupted", 50'000},
    Row{FaultClass::again, "again", 50'000},
    Row{FaultClass::no_space, "no_space", 20'000},
    Row{FaultClass::failed_sync, "failed_sync", 100'000},
    Row{FaultClass::slow_disk, "slow_disk", 10'000},
    Row{FaultClass::reordered, "reordered", 600'000},
    Row{FaultClass::too_many_files, "too_many_files", 50'000},
    Row{FaultClass::write_zeroes_missing, "write_zeroes_missing", 1'000'000},
    Row{FaultClass::lock_lingers, "lock_lingers", 500'000},
    Row{FaultClass::lost_write, "lost_write", 5'000},
    Row{FaultClass::misdirected_write, "misdirected_write", 5'000},
    Row{FaultClass::duplicated_write, "duplicated_write", 30'000},
    Row{FaultClass::stale_read, "stale_read", 50'000},
    Row{FaultClass::bit_rot, "bit_rot", 500'000},
    Row{FaultClass::lying_flush, "lying_flush", 20'000},
    Row{FaultClass::connection_refused, "connection_refused", 200'000},
    Row{FaultClass::connection_reset, "connection_reset", 20'000},
    Row{FaultClass::half_open, "half_open", 5'000},
    Row{FaultClass::small_pieces, "small_pieces", 500'000},
    Row{FaultClass::network_delay, "network_delay", 50'000},
    Row{FaultClass::slow_reader, "slow_reader", 50'000},
    Row{FaultClass::accept_aborted, "accept_aborted", 100'000},
    Row{FaultClass::multishot_ended, "multishot_ended", 50'000},
    Row{FaultClass::buffers_exhausted, "buffers_exhausted", 50'000},
    Row{FaultClass::partition, "partition", 150'000},
    Row{FaultClass::kill, "kill", 300'000},
    Row{FaultClass::power_cut, "power_cut", 300'000},
    Row{FaultClass::pause, "pause", 200'000},
    Row{FaultClass::stall, "stall", 300'000},
    Row{FaultClass::suspend, "suspend", 50'000},
    Row{FaultClass::disk_full, "disk_full", 100'000},
    Row{FaultClass::wall_jump, "wall_jump", 100'000},
    Row{FaultClass::wall_drift, "wall_drift", 100'000},
    Row{FaultClass::wall_freeze, "wall_freeze", 50'000},
};
static_assert(rows.size() == fault_classes);

}  // namespace

std::string_view fault_name(FaultClass fault) {
  for (const Row& row : rows)
    if (row.fault == fault) return row.name;
  return "unknown_fault";
}

FaultClass fault_of(std::string_view name) {
  for (const Row& row : rows)
    if (row.name == name) return row.fault;
  return FaultClass::count_;
}

bool damages_media(FaultClass fault) {
  switch (fault) {
    case FaultClass::lost_write:
    case FaultClass::misdirected_write:
    case FaultClass::bit_rot:
    case FaultClass::stale_read:
    case FaultClass::duplicated_write:
    case FaultClass::lying_flush:
    case FaultClass::read_error_sticky: return true;
    default: return false;
  }
}

FaultPlan FaultPlan::draw(Random& random, bool media) {
  FaultPlan plan;
  for (const Row& row : rows) {
    // Every row draws, so that leaving a class out does not shift the others.
    bool on = random.below(5) < 2;
    std::uint32_t rate = row.rate_max >> random.below(5);
    if (damages_media(row.fault) && !media) on = false;
    if (on) plan[row.fault] = std::max<std::uint32_t>(rate, 1);
  }
  return plan;
}

std::string FaultPlan::describe() const {
  std::string text;
  for (const Row& row : rows) {
    if ((*this)[row.fault] == 0) continue;
    if (!text.empty()) text += ' ';
    text += std::string(row.name) + "=" + std::to_string((*this)[row.fault]);
  }
  return text.empty() ? "none" : text;
}

std::uint64_t split_seed(std::uint64_t seed, std::string_view name, std::uint64_t number) {
  return hash64(bytes_of(name), hash64(as_bytes(&number, sizeof number), seed));
}

std::uint64_t split_mix(std::uint64_t word) {
  word += 0x9e3779b97f4a7c15;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
  word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
  return word ^ (word >> 31);
}

FaultInjector::FaultInjector(std::uint64_t seed, const FaultPlan& plan) : plan_(plan) {
  for (const Row& row : rows) {
    decisions_.emplace_back(split_seed(seed, row.name, 1));
    details_.emplace_back(split_seed(seed, row.name, 2));
  }
}

bool FaultInjector::strike(FaultClass fault, Nanos now, std::string_view node) {
  std::uint32_t rate = plan_[fault];
  if (rate == 0 || calm_) return false;
  if (decisions_[static_cast<std::size_t>(fault)].below(1'000'000) >= rate) return false;
  return inject(fault, now, node);
}

bool FaultInjector::inject(FaultClass fault, Nanos now, std::string_view node) {
  std::uint64_t number = ++last_number_;
  for (const auto& [first, last] : suppressed_)
    if (first <= number && number <= last) return false;
  ++counts_[static_cast<std::size_t>(fault)];
  if (events_.size() < events_max) events_.push_back({number, now, fault, std::string(node)});
  return true;
}

std::uint64_t FaultInjector::media_faults() const {
  std::uint64_t sum = 0;
  for (const Row& row : rows)
    if (damages_media(row.fault)) sum += count(row.fault);
  return sum;
}

std::string_view cut_profile_name(CutProfile profile) {
  constexpr std::array<std::string_view, cut_profiles> names{"uniform", "all_old", "all_new", "one_torn",
                                                             "last_writes_lost"};
  return names[static_cast<std::size_t>(profile)];
}

}  // namespace millrace::sim
