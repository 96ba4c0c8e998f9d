// Limits of a log that more than one room must agree on.
#pragma once

#include <cstdint>

#include "storage/committer.hpp"
#include "storage/group.hpp"

namespace millrace {

/// Borders between a segment's extents that commits are split at; a file with more is scattered, and splitting would cost
/// more than the system's detour.
inline constexpr std::size_t borders_max = 64;

/// W of a segment's header: what can be in flight at once.
inline constexpr std::uint64_t in_flight_bytes_max = Committer::writes_max * group_span_max;

}  // namespace millrace
