#include "tests/sim/workload.hpp"

namespace millrace::sim {

WorkloadPlan WorkloadPlan::draw(Random& random, bool wide) {
  WorkloadPlan plan;
  auto between = [&](std::uint64_t least, std::uint64_t most) {
    return static_cast<std::uint32_t>(least + random.below(most - least + 1));
  };
  plan.shards = random.below(3) == 0 ? between(2, 3) : 1;
  plan.clients = between(1, 3);
  plan.streams = random.below(4) == 0 ? between(5, 40) : between(1, 4);
  plan.producers_per_client = between(1, 4);
  plan.consumers_per_client = between(0, 2);
  plan.batch_bytes = std::uint32_t{512} << random.below(9);  // 512 B .. 128 KiB
  plan.batch_records = random.below(3) == 0 ? 1 : between(1, 256);
  plan.record_bytes_max = between(1, std::min<std::uint64_t>(plan.batch_bytes - Ledger::record_bytes_min, 16 * KiB));
  plan.in_flight = between(1, 16);
  plan.batches_queued = between(1, 8);
  plan.linger = random.below(2) == 0 ? 0 : static_cast<Nanos>(random.below(5'000'000));
  plan.pace = static_cast<Nanos>(std::uint64_t{200'000} << random.below(9));  // 0.2 ms .. 51 ms
  plan.burst = between(1, 32);
  // Every sixth seed fills segments, so that they close, merge, and sometimes go.
  bool heavy = random.below(6) == 0;
  bool retains = random.below(3) == 0;
  if (heavy) {
    plan.bytes_per_second_max = 4 * MiB;
    plan.batch_bytes = 128 * KiB;
    plan.record_bytes_max = 16 * KiB;
    plan.pace = 200'000;
    if (retains) plan.retain_bytes = 40 * MiB;
    // What stands ready at the start and little more: the disk is full before the run is half over.
    if (plan.clients == 2) plan.tight_disk_bytes = plan.shards * 40 * MiB;
  }
  plan.pace = std::max(plan.pace, plan.pace_min());
  // A third of the seeds pass midnight (half of the wide ones), half of these again and again.
  constexpr Nanos to_midnight = 57'600'000'000'000;  // from the world's 08:00
  bool midnight = random.below(wide ? 2 : 3) == 0;
  Nanos before = static_cast<Nanos>(random.below(static_cast<std::uint64_t>(plan.length)));
  if (midnight) plan.wall_offset = to_midnight - before;
  plan.midnights = midnight && random.below(2) == 0;
  // Mostly the least a shard can do with: less to set up, and followers that fall behind read from the disk.
  plan.memory_bytes = random.below(8) == 0 ? 256 * MiB : plan.shards * 64 * MiB;
  return plan;
}

/// A seed's worth is what happens to its records, not how many there are: the clients together stay below these rates.
Nanos WorkloadPlan::pace_min() const {
  constexpr std::uint64_t records_per_second_max = 2'000;
  std::uint64_t records_per_pace = std::uint64_t{clients} * producers_per_client * (burst + 1) / 2;
  std::uint64_t bytes_per_pace = records_per_pace * (record_bytes_max / 2 + Ledger::record_bytes_min);
  constexpr std::uint64_t second = 1'000'000'000;
  return static_cast<Nanos>(
      std::max(records_per_pace * second / records_per_second_max, bytes_per_pace * second / bytes_per_second_max));
}

std::string WorkloadPlan::describe() const {
  auto item = [](const char* name, auto value) { return std::string(name) + "=" + std::to_string(value) + " "; };
  return item("shards", shards) + item("clients", clients) + item("streams", streams) +
         item("producers", producers_per_client) + item("consumers", consumers_per_client) +
         item("batch_bytes", batch_bytes) + item("batch_records", batch_records) +
         item("record_bytes", record_bytes_max) + item("in_flight", in_flight) + item("linger_us", linger / 1000) +
         item("pace_us", pace / 1000) + item("burst", burst) + item("retain_bytes", retain_bytes) +
         item("midnight", wall_offset == 0 ? 0
                          : midnights      ? 2
                                           : 1) +
         item("memory", memory_bytes) + item("tight_disk", tight_disk_bytes);
}

}  // namespace millrace::sim
