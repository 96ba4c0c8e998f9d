// Which core runs what: start-up code, called from main and from a shard's thread before its loop begins. It asks the
// system directly (affinity, /proc/interrupts, /sys) and is therefore named among the exceptions of the kernel seam.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace millrace {

/// "0,2-3" -> {0, 2, 3}, in the order given, without doubles. Nothing when it is not such a list.
std::optional<std::vector<unsigned>> parse_cores(std::string_view text);
/// The cores this process may use.
std::vector<unsigned> allowed_cores();
/// Binds the calling thread to `core`; invalid_argument when the process may not use it.
Result<> pin_this_thread(unsigned core);
/// The kernel's own threads, which finish the disk's writes on the same core, may interrupt the calling thread as soon as they
/// wake (from Linux 6.12 on; without effect before, and where it is refused). Nothing else about its share changes.
void let_disk_threads_first();

/// The core that takes the completion interrupts of the disk below `directory`: commits are fastest from there (about
/// a tenth), as long as its thread sleeps when it has nothing to do. Nothing when the system does not show it.
std::optional<unsigned> disk_interrupt_core(const std::string& directory);
/// The core with the most interrupts among the lines of /proc/interrupts whose name begins with `device`.
std::optional<unsigned> busiest_core(std::string_view interrupts, std::string_view device);

}  // namespace millrace
