// What a server is told: from flags, from a TOML file, or both (flags win). Names and forms are those of `millrace serve`.
//
// Pure; any thread. Errors are one sentence for a person, naming the setting, what it holds and what it may hold.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/host_port.hpp"
#include "base/units.hpp"
#include "reactor/kernel_choice.hpp"
#include "storage/commit_sizes.hpp"

namespace millrace {

inline constexpr std::uint64_t config_segment_bytes_min = 16 * MiB;
inline constexpr std::uint64_t config_segment_bytes_max = 4 * GiB;
inline constexpr std::uint64_t config_segment_bytes_default = 128 * MiB;
inline constexpr std::uint32_t config_pool_segments_max = 1024;
inline constexpr std::uint64_t memory_bytes_min = 128 * MiB;
inline constexpr std::uint32_t server_shards_max = 256;
inline constexpr std::uint32_t followers_for_quorum_max = 8;
inline constexpr std::uint32_t server_cores_max = 256;
inline constexpr std::uint32_t connections_default = 20'000;
inline constexpr std::uint32_t connections_limit = 1'000'000;

struct ServerConfig {
  std::string data;                  // the directory; the only setting without a default
  std::string host = "127.0.0.1";    // numeric
  std::uint16_t port = 7070;         // 0 = one the kernel picks, named in the start line
  std::uint32_t shards = 0;          // 0 = what the directory has; 1 for a new one
  std::vector<std::uint32_t> cores;  // CPUs, one thread each; empty = one thread a shard, as many as there are CPUs
  std::uint32_t pool_segments = 2;   // each shard keeps so many segments prepared
  std::uint64_t segment_bytes = 0;   // 0 = what the directory has; config_segment_bytes_default for a new one
  std::uint64_t memory_bytes = 256 * MiB;          // of the whole server
  std::optional<std::int32_t> day_offset_seconds;  // none = what the directory has; UTC for a new one
  std::optional<HostPort> follow;                  // the leader whose log this node copies; none = it leads
  bool ack_quorum = false;                         // acknowledgements wait for followers
  std::uint32_t followers_for_quorum = 1;          // so many, beside the leader
  std::uint32_t retain_days = 0;                   // 0 = all
  std::uint64_t retain_bytes = 0;                  // 0 = all
  std::uint32_t connections_max = connections_default;
  KernelChoice kernel = KernelChoice::automatic;
  std::size_t receive_buffer_bytes = 64 * KiB;  // of each shared receive buffer; no setting, simulations make it small
  CommitSizes commit_sizes{};                   // no setting either
  bool buffered = false;
  bool insecure = false;
  bool accept_clock = false;
};

/// Nothing = fine; else what is wrong.
using Complaint = std::optional<std::string>;

/// One setting by its flag's name without the dashes ("segment-bytes"), from text as on a command line.
Complaint set_option(ServerConfig& config, std::string_view name, std::string_view value);
/// Every setting of a TOML file: the same names as keys at top level; numbers, booleans and arrays of numbers may be written
/// as TOML has them. An unknown key is a complaint.
Complaint apply_toml(ServerConfig& config, std::string_view text);
/// Checks what only the whole can tell: data is there, limits fit each other, a listen address beyond loopback has --insecure.
Complaint check_config(const ServerConfig& config);

/// "128MiB", "1GiB", "64KiB", "4096"; also KB, MB, GB (powers of 1000) and a plain B.
std::optional<std::uint64_t> parse_byte_count(std::string_view text);
/// "134217728" -> "128MiB"; exact, so not every number gets a unit.
std::string format_byte_count(std::uint64_t bytes);
/// "0,2-5"
std::optional<std::vector<std::uint32_t>> parse_core_list(std::string_view text);

/// "127.0.0.1:7070", "[::1]:7070", "localhost:7070" (becomes 127.0.0.1).
std::optional<HostPort> parse_listen_address(std::string_view text);
bool is_loopback(std::string_view host);

}  // namespace millrace
