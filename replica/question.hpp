// One question to another node over a connection of its own: hello, the question, the first frame of the answer's type.
//
// Thread: the reactor's.
#pragma once

#include <vector>

#include "protocol/fence.hpp"
#include "protocol/frame_parser.hpp"
#include "reactor/reactor.hpp"
#include "reactor/socket.hpp"

namespace millrace {

struct PeerAnswer {
  FrameHeader header;
  std::vector<std::byte> body;
  Frame frame() const { return {header, body}; }
};

struct PeerQuestion {
  Address peer;
  ShardIndex shard{};
  FrameOutput frame;
  FrameType answer{};             // what is waited for
  Nanos within = 0;               // for all of it
  const bool* give_up = nullptr;  // once it is true, it ends soon
};

/// Errors: those of a connection, timed_out, and what the peer refuses with.
Task<PeerAnswer> ask_peer(Reactor& reactor, PeerQuestion question);

}  // namespace millrace
