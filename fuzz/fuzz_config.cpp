// Configuration text: it is either refused with a sentence, or every setting is within its limits and means the same when it
// is set again from its own text.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.hpp"
#include "base/time.hpp"
#include "server/config.hpp"

namespace {

using namespace millrace;

void check_limits(const ServerConfig& config) {
  MR_ASSERT(config.shards <= server_shards_max && config.cores.size() <= server_cores_max);
  MR_ASSERT(config.segment_bytes == 0 ||
            (config.segment_bytes >= config_segment_bytes_min && config.segment_bytes <= config_segment_bytes_max));
  MR_ASSERT(config.memory_bytes >= memory_bytes_min);
  MR_ASSERT(config.connections_max >= 1 && config.connections_max <= connections_limit);
  MR_ASSERT(!config.host.empty());
}

void check_again(const ServerConfig& config) {
  ServerConfig again;
  MR_ASSERT(!set_option(again, "memory", format_byte_count(config.memory_bytes)));
  MR_ASSERT(again.memory_bytes == config.memory_bytes);
  MR_ASSERT(!set_option(again, "retain-bytes", format_byte_count(config.retain_bytes)));
  MR_ASSERT(again.retain_bytes == config.retain_bytes);
  if (config.day_offset_seconds) {
    MR_ASSERT(!set_option(again, "day-offset", format_day_offset(*config.day_offset_seconds)));
    MR_ASSERT(again.day_offset_seconds == config.day_offset_seconds);
  }
  std::string listen = config.host.find(':') == std::string::npos ? config.host : "[" + config.host + "]";
  MR_ASSERT(!set_option(again, "listen", listen + ":" + std::to_string(config.port)));
  MR_ASSERT(again.host == config.host && again.port == config.port);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  ServerConfig config;
  auto complaint = apply_toml(config, text);
  if (complaint) MR_ASSERT(!complaint->empty());
  check_limits(config);
  if (complaint) return 0;
  check_again(config);
  (void)check_config(config);
  return 0;
}
