// What this kernel really does, found by trying it, never by its version; and the one sentence for a person when
// io_uring is refused altogether.
#pragma once

#include <optional>
#include <string>

#include "reactor/uring_ring.hpp"

namespace millrace {

/// Receives from a socket pair through a ring of provided buffers. Nothing else may be in flight on `ring`.
enum class ReceiveSupport { plain, provided, provided_multishot };
ReceiveSupport try_receive(UringRing& ring);
/// False when the system starts no worker thread for what cannot be done at once (syncs, new names): such requests would be
/// cancelled.
bool try_worker(UringRing& ring);

/// Posts a completion with `user_data` into the ring `target` from any thread, without a ring of one's own. 0 or -errno.
int send_ring_message(int target, std::uint64_t user_data);

/// The value of kernel.io_uring_disabled; nothing where the kernel has no such setting.
std::optional<int> read_io_uring_disabled();
/// Cause and cure of a refused io_uring, one sentence. `system_errno` is positive.
std::string why_refused(int system_errno, std::optional<int> io_uring_disabled);

}  // namespace millrace
