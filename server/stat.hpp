// What `stat` answers: the whole server as JSON, gathered from every core.
//
// Thread: the asking connection's core; the others are asked by errand.
#pragma once

#include <cstdint>
#include <string>

#include "protocol/requests.hpp"

namespace millrace {

class Core;

/// Asks every core and answers the connection, if it is still there then. Of a stream `first_offset` is where it began, or what a
/// trim left; `first_readable` is the first record that can be read now, and lacks where finding it would cost more disk reads
/// than a stat may.
void gather_stat(Core& core, std::uint64_t connection_id, const wire::Stat& request);

}  // namespace millrace
