// How the limit on open files is divided: the process, its cores and its shards need theirs, connections get the rest. A
// server that would run out while it works is refused at its start.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "server/config.hpp"

namespace millrace {

/// Standard streams, what was inherited, the lock, the listener and its spare.
inline constexpr std::uint64_t files_of_process = 16;
/// Rings, eventfds and epoll; files that reads have open.
inline constexpr std::uint64_t files_of_core = 16;
/// Segments (open, spare, closing, being prepared), tail, state, index, finish files.
inline constexpr std::uint64_t files_of_shard = 16;
/// With fewer a server is of no use.
inline constexpr std::uint64_t connections_least = 8;

inline constexpr std::uint64_t files_needed(std::uint64_t cores, std::uint64_t shards) {
  return files_of_process + cores * files_of_core + shards * files_of_shard;
}

/// Why the limit cannot work, with the cure; empty = it can. `files_max` 0 = not known.
inline std::string files_complaint(std::uint64_t files_max, std::uint64_t cores, std::uint64_t shards) {
  std::uint64_t least = files_needed(cores, shards) + connections_least;
  if (files_max == 0 || files_max >= least) return {};
  return fmt::format(
      "the limit on open files is {}, and {} are needed at least (more for many connections); raise it (ulimit -n, "
      "LimitNOFILE= in a systemd unit, --ulimit nofile= of a container)",
      files_max, least);
}

/// How many connections may be open at once.
inline std::uint32_t connections_allowed(const ServerConfig& config, std::uint64_t files_max, std::uint64_t cores,
                                         std::uint64_t shards) {
  std::uint64_t needed = files_needed(cores, shards);
  if (files_max == 0) return config.connections_max;
  std::uint64_t left = files_max > needed ? files_max - needed : 1;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(config.connections_max, left));
}

}  // namespace millrace
