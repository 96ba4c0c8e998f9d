#include "server/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/time.hpp"

namespace millrace {

namespace {

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

std::optional<bool> parse_bool(std::string_view text) {
  if (text.empty() || text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::string wrong(std::string_view name, std::string_view value, std::string_view allowed) {
  return fmt::format("--{} {}: expected {}", name, value, allowed);
}

Complaint set_bytes(std::uint64_t& target, std::string_view name, std::string_view value, std::uint64_t smallest,
                    std::uint64_t largest) {
  auto bytes = parse_byte_count(value);
  if (!bytes || *bytes < smallest || *bytes > largest)
    return wrong(
        name, value,
        fmt::format("bytes such as 256MiB, {} to {}", format_byte_count(smallest), format_byte_count(largest)));
  target = *bytes;
  return std::nullopt;
}

Complaint set_count(std::uint32_t& target, std::string_view name, std::string_view value, std::uint32_t smallest,
                    std::uint32_t largest) {
  auto number = parse_number<std::uint32_t>(value);
  if (!number || *number < smallest || *number > largest)
    return wrong(name, value, fmt::format("a number from {} to {}", smallest, largest));
  target = *number;
  return std::nullopt;
}

Complaint set_flag(bool& target, std::string_view name, std::string_view value) {
  auto flag = parse_bool(value);
  if (!flag) return wrong(name, value, "true or false");
  target = *flag;
  return std::nullopt;
}

Complaint set_data(ServerConfig& config, std::string_view name, std::string_view value) {
  if (value.empty() || value.size() > 4000) return wrong(name, value, "a directory");
  config.data = value;
  return std::nullopt;
}

Complaint set_listen(ServerConfig& config, std::string_view name, std::string_view value) {
  auto address = parse_listen_address(value);
  if (!address) return wrong(name, value, "HOST:PORT with a numeric host, such as 127.0.0.1:7070 or [::1]:7070");
  config.host = address->host;
  config.port = address->port;
  return std::nullopt;
}

Complaint set_follow(ServerConfig& config, std::string_view name, std::string_view value) {
  auto address = parse_listen_address(value);
  if (!address || address->port == 0)
    return wrong(name, value, "the leader's HOST:PORT with a numeric host, such as 127.0.0.1:7070");
  config.follow = address;
  return std::nullopt;
}

Complaint set_cores(ServerConfig& config, std::string_view name, std::string_view value) {
  auto cores = parse_core_list(value);
  if (!cores) return wrong(name, value, "CPU numbers such as 0,2-5, none twice");
  config.cores = *cores;
  return std::nullopt;
}

Complaint set_day_offset(ServerConfig& config, std::string_view name, std::string_view value) {
  auto seconds = parse_day_offset(value);
  if (!seconds) return wrong(name, value, "an offset from UTC such as +08:00");
  config.day_offset_seconds = *seconds;
  return std::nullopt;
}

struct Setting {
  std::string_view name;
  Complaint (*set)(ServerConfig& config, std::string_view name, std::string_view value);
};

Complaint set_kernel(ServerConfig& config, std::string_view name, std::string_view value) {
  auto choice = parse_kernel_choice(value);
  if (!choice) return fmt::format("{} is {}; it may be auto, uring or posix", name, value);
  config.kernel = *choice;
  return std::nullopt;
}

Complaint set_ack_default(ServerConfig& config, std::string_view name, std::string_view value) {
  if (value != "local" && value != "quorum") return fmt::format("{} is {}; it may be local or quorum", name, value);
  config.ack_quorum = value == "quorum";
  return std::nullopt;
}

constexpr std::uint64_t any_bytes = 1ull << 60;

constexpr Setting settings[] = {
    {"data", set_data},
    {"listen", set_listen},
    {"follow", set_follow},
    {"ack-default", set_ack_default},
    {"followers-for-quorum",
     [](ServerConfig& c, std::string_view n, std::string_view v) {
       return set_count(c.followers_for_quorum, n, v, 1, followers_for_quorum_max);
     }},
    {"cores", set_cores},
    {"day-offset", set_day_offset},
    {"kernel", set_kernel},
    {"shards", [](ServerConfig& c, std::string_view n,
                  std::string_view v) { return set_count(c.shards, n, v, 1, server_shards_max); }},
    {"segment-bytes",
     [](ServerConfig& c, std::string_view n, std::string_view v) {
       return set_bytes(c.segment_bytes, n, v, config_segment_bytes_min, config_segment_bytes_max);
     }},
    {"pool-segments", [](ServerConfig& c, std::string_view n,
                         std::string_view v) { return set_count(c.pool_segments, n, v, 1, config_pool_segments_max); }},
    {"memory", [](ServerConfig& c, std::string_view n,
                  std::string_view v) { return set_bytes(c.memory_bytes, n, v, memory_bytes_min, any_bytes); }},
    {"retain-days", [](ServerConfig& c, std::string_view n,
                       std::string_view v) { return set_count(c.retain_days, n, v, 0, 1'000'000); }},
    {"retain-bytes", [](ServerConfig& c, std::string_view n,
                        std::string_view v) { return set_bytes(c.retain_bytes, n, v, 0, any_bytes); }},
    {"connections-max", [](ServerConfig& c, std::string_view n,
                           std::string_view v) { return set_count(c.connections_max, n, v, 1, connections_limit); }},
    {"buffered", [](ServerConfig& c, std::string_view n, std::string_view v) { return set_flag(c.buffered, n, v); }},
    {"insecure", [](ServerConfig& c, std::string_view n, std::string_view v) { return set_flag(c.insecure, n, v); }},
    {"accept-clock",
     [](ServerConfig& c, std::string_view n, std::string_view v) { return set_flag(c.accept_clock, n, v); }},
};

bool is_numeric_host(std::string_view host) {
  if (host.find(':') != std::string_view::npos)
    return host.size() <= 45 && host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
  int parts = 0;
  while (true) {
    std::size_t dot = host.find('.');
    auto part = parse_number<std::uint8_t>(host.substr(0, dot));
    parts++;
    if (!part) return false;
    if (dot == std::string_view::npos) return parts == 4;
    host.remove_prefix(dot + 1);
  }
}

}  // namespace

Complaint set_option(ServerConfig& config, std::string_view name, std::string_view value) {
  for (const Setting& setting : settings)
    if (setting.name == name) return setting.set(config, name, value);
  return fmt::format("there is no setting named {}", name);
}

Complaint check_config(const ServerConfig& config) {
  if (config.data.empty()) return "--data DIR is needed: where the log lives";
  if (!config.insecure && !is_loopback(config.host))
    return fmt::format(
        "--listen {}: without TLS anyone on that network could read and write; listen on 127.0.0.1 behind a tunnel, or "
        "pass "
        "--insecure to accept it",
        config.host);
  if (config.follow && !config.insecure && !is_loopback(config.follow->host))
    return fmt::format(
        "--follow {}: without TLS anyone on that network could read along or change what comes; follow "
        "through a tunnel, or pass --insecure to accept it",
        config.follow->host);
  std::uint64_t shards = std::max<std::uint64_t>(config.shards, 1);
  if (config.memory_bytes / shards < 64 * MiB)
    return fmt::format("--memory {} is too little for {} shards: each needs 64MiB",
                       format_byte_count(config.memory_bytes), shards);
  std::uint64_t segment = config.segment_bytes != 0 ? config.segment_bytes : config_segment_bytes_default;
  if (config.retain_bytes != 0 && config.retain_bytes < 4 * segment)
    return fmt::format("--retain-bytes {} is too little: at least four segments of {} each",
                       format_byte_count(config.retain_bytes), format_byte_count(segment));
  return std::nullopt;
}

std::optional<std::uint64_t> parse_byte_count(std::string_view text) {
  struct Unit {
    std::string_view name;
    std::uint64_t bytes;
  };
  constexpr Unit units[] = {{"", 1},
                            {"B", 1},
                            {"KiB", KiB},
                            {"MiB", MiB},
                            {"GiB", GiB},
                            {"TiB", 1024 * GiB},
                            {"KB", 1000},
                            {"MB", 1'000'000},
                            {"GB", 1'000'000'000},
                            {"TB", 1'000'000'000'000}};
  std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  auto number = parse_number<std::uint64_t>(text.substr(0, digits));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (unit.name != text.substr(digits)) continue;
    if (*number > ~0ull / unit.bytes) return std::nullopt;
    return *number * unit.bytes;
  }
  return std::nullopt;
}

std::string format_byte_count(std::uint64_t bytes) {
  struct Unit {
    std::string_view name;
    std::uint64_t bytes;
  };
  constexpr Unit units[] = {{"TiB", 1024 * GiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}};
  for (const Unit& unit : units)
    if (bytes >= unit.bytes && bytes % unit.bytes == 0) return fmt::format("{}{}", bytes / unit.bytes, unit.name);
  return fmt::format("{}", bytes);
}

std::optional<std::vector<std::uint32_t>> parse_core_list(std::string_view text) {
  std::vector<std::uint32_t> cores;
  while (true) {
    std::size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    std::size_t dash = part.find('-');
    auto first = parse_number<std::uint32_t>(part.substr(0, dash));
    auto last = dash == std::string_view::npos ? first : parse_number<std::uint32_t>(part.substr(dash + 1));
    if (!first || !last || *last < *first || *last - *first >= server_cores_max) return std::nullopt;
    for (std::uint32_t core = *first; core <= *last; core++) {
      if (std::find(cores.begin(), cores.end(), core) != cores.end() || cores.size() == server_cores_max)
        return std::nullopt;
      cores.push_back(core);
    }
    if (comma == std::string_view::npos) return cores;
    text.remove_prefix(comma + 1);
  }
}

std::optional<HostPort> parse_listen_address(std::string_view text) {
  auto address = split_host_port(text);
  if (!address) return std::nullopt;
  if (address->host == "localhost") address->host = "127.0.0.1";
  if (!is_numeric_host(address->host)) return std::nullopt;
  return address;
}

bool is_loopback(std::string_view host) { return host == "::1" || host.starts_with("127."); }

}  // namespace millrace
