// Which way a flush goes: figures in docs/benchmarks.md. No setting of the server; simulations make them small, so that clients of
// little load come to what a busy server does: groups in the segment at once, two of them in flight.
#pragma once

#include <cstdint>

#include "base/units.hpp"

namespace millrace {

struct CommitSizes {
  std::uint32_t slot_pending_max =
      32 * KiB;  // bytes of the open group below which a flush goes to the tail, at most 32 KiB
  std::uint32_t second_write_min = 256 * KiB;  // waiting bytes that are worth a second write in flight
};

}  // namespace millrace
