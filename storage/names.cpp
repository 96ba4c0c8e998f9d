#include "storage/names.hpp"

#include <charconv>

#include "base/mutant.hpp"
#include "reactor/file.hpp"

namespace millrace {

namespace {
constexpr std::string_view segment_prefix = "data";
constexpr std::size_t segment_digits = 6;

std::string under(std::string_view directory, std::string_view name) {
  std::string path(directory);
  path += '/';
  path += name;
  return path;
}
}  // namespace

std::string tail_path(std::string_view shard_directory) { return under(shard_directory, "tail"); }
std::string shard_path(std::string_view directory, ShardIndex shard) {
  return under(directory, (shard.value < 10 ? "shard-0" : "shard-") + std::to_string(shard.value));
}
std::string state_path(std::string_view shard_directory) { return under(shard_directory, "state"); }
std::string pool_path(std::string_view shard_directory) { return under(shard_directory, "pool"); }
std::string quarantine_path(std::string_view shard_directory) { return under(shard_directory, "quarantine"); }
std::string finish_path(std::string_view shard_directory, Day day) {
  return under(under(shard_directory, format_day(day)), "finish");
}

std::string pool_name(const Id128& id) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string name = "seg-";
  for (std::uint64_t half : {id.high, id.low})
    for (int shift = 60; shift >= 0; shift -= 4) name += digits[(half >> shift) & 15u];
  return name;
}

std::string parent_path(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

std::optional<std::uint32_t> segment_number(std::string_view name) {
  if (!name.starts_with(segment_prefix) || name.size() < segment_prefix.size() + segment_digits) return std::nullopt;
  const std::string_view digits = name.substr(segment_prefix.size());
  std::uint32_t number = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  // Exactly one way to write a number.
  if (digits.size() > segment_digits && digits[0] == '0') return std::nullopt;
  return number;
}

Task<> make_name_durable(Reactor& reactor, std::string directory) {
  if (mutant("skip_dir_fsync")) co_return Result<>{};
  auto syncing = Directory::sync(reactor, directory);
  co_return co_await syncing;
}

}  // namespace millrace
