// Amounts as people write them: "64KiB", "30s". Strict: what is not understood is refused, nothing is rounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.hpp"

namespace millrace {

/// "4096", "64KiB", "128MiB", "1GiB", "2TiB"; also KB, MB, GB, TB (powers of 1000) and a plain B.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// "30s", "250ms", "50us", "10ns", "5m", "1h"; a plain number is seconds.
std::optional<Nanos> parse_duration(std::string_view text);

/// Three digits and a unit of 1000: "1.25 GB", "640 MB", "17 B".
std::string format_bytes(double bytes);
/// "137 us", "4.02 ms", "1.50 s".
std::string format_duration(double nanoseconds);

}  // namespace millrace
