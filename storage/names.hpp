// The names in a shard's directory beside days and segments (storage/place), and how they become durable.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/time.hpp"
#include "base/units.hpp"
#include "reactor/operation.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

std::string tail_path(std::string_view shard_directory);
/// "DIR/shard-00"
std::string shard_path(std::string_view directory, ShardIndex shard);
std::string state_path(std::string_view shard_directory);
std::string pool_path(std::string_view shard_directory);
std::string quarantine_path(std::string_view shard_directory);
std::string finish_path(std::string_view shard_directory, Day day);
/// "seg-" and 32 hex digits.
std::string pool_name(const Id128& id);
/// What stands before the last '/', "." when there is none.
std::string parent_path(std::string_view path);
/// The number in "data000012"; none for anything else.
std::optional<std::uint32_t> segment_number(std::string_view name);

inline unsigned direct_flag(bool buffered) { return buffered ? 0u : static_cast<unsigned>(open_direct); }

/// A name made or changed in `directory` survives a power cut when this has ended.
Task<> make_name_durable(Reactor& reactor, std::string directory);

}  // namespace millrace
