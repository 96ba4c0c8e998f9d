// How --memory is divided: logs get most of it; receive buffers, frames that arrive in pieces and reads under way get fixed or
// bounded parts of each core.
#pragma once

#include <algorithm>
#include <cstdint>

#include "server/config.hpp"
#include "server/frame_memory.hpp"

namespace millrace {

struct MemoryPlan {
  std::uint64_t logs = 0;    // all shards together
  std::uint64_t frames = 0;  // each core
  std::uint64_t reads = 0;   // each core
};

inline MemoryPlan plan_memory(const ServerConfig& config, std::uint32_t cores) {
  MemoryPlan plan;
  plan.frames = std::max<std::uint64_t>(frame_memory_bytes_min, config.memory_bytes / 16 / cores);
  plan.reads = plan.frames;
  std::uint64_t receive = 64 * 64 * KiB;
  std::uint64_t taken = cores * (plan.frames + plan.reads + receive);
  plan.logs = std::max(config.memory_bytes / 2, config.memory_bytes - std::min(config.memory_bytes, taken));
  return plan;
}

}  // namespace millrace
