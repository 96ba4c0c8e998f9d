// What this kernel really does, found by trying it, never by its version.
#pragma once

#include <cstdint>

#include "reactor/uring_ring.hpp"

namespace millrace {

/// How receiving from a socket pair through a ring of provided buffers went; an errno, 0 = it works.
struct ReceiveSupport {
  int provided_refusal = 0;
  int multishot_refusal = 0;  // one receive that goes on
};
/// Nothing else may be in flight on `ring`.
ReceiveSupport try_receive(UringRing& ring);
/// False when the system starts no worker thread for what cannot be done at once (syncs, new names): such requests would be
/// cancelled.
bool try_worker(UringRing& ring);

/// Posts a completion with `user_data` into the ring `target` from any thread, without a ring of one's own. 0 or -errno.
int send_ring_message(int target, std::uint64_t user_data);

}  // namespace millrace
