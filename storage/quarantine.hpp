// Where bytes go before they are taken away: nothing recovery removes is ever just deleted.
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <string>

#include "base/units.hpp"
#include "reactor/file.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"

namespace millrace {

/// Copies [begin, end) of `file` to quarantine/WHAT-LSN-N of the shard, N being the first number not in use. The copy and its
/// name are durable when the task ends; its value is the path. begin and end are multiples of 4 KiB.
Task<std::string> quarantine_range(File& file, std::string shard_directory, std::string what, Lsn lsn,
                                   std::uint64_t begin, std::uint64_t end, bool buffered);

/// Zeros [begin, end) of `file` and syncs it.
Task<> zero_range(File& file, std::uint64_t begin, std::uint64_t end);

}  // namespace millrace
