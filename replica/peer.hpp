// A connection to another node, for one question at a time: greets it as a follower does, sends a frame, waits for the answer.
//
// Thread: the reactor's. close() must have ended before it is destroyed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "protocol/handshake.hpp"
#include "protocol/ranges.hpp"
#include "reactor/kernel.hpp"
#include "reactor/reactor.hpp"
#include "reactor/socket.hpp"
#include "replica/frame_reader.hpp"

namespace millrace {

/// How long connecting, and each answer, may take.
inline constexpr Nanos peer_connect_max = 2 * nanos_per_second;
inline constexpr Nanos peer_answer_max = 10 * nanos_per_second;
/// A node that is busy with others is asked again after so long.
inline constexpr Nanos peer_retry_after = 20 * nanos_per_milli;
/// How often it is looked whether anybody wants the answer still.
inline constexpr Nanos peer_look_again = 100 * nanos_per_milli;

class Peer {
 public:
  Peer(Reactor& reactor, Address address);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  Reactor& reactor() { return reactor_; }

  /// All of it, connecting included, ends at the deadline (timed_out), or soon after `give_up` has become true.
  void limit(Nanos deadline, const bool* give_up);
  /// Errors: those of connecting, of the handshake, and what the node refuses with.
  Task<wire::Welcome> greet(ShardIndex shard, std::string name);
  /// The first frame with this request id that comes back; valid until the next call. A `refused` is its error, and its sentence
  /// stands in refusal().
  Task<Frame> ask(FrameOutput request, std::uint64_t request_id);
  /// A range of a segment; the request id is chosen here. Errors: as SegmentRanges::answer().
  Task<wire::RangeGiven> ask_range(wire::RangeAsked asked);
  /// Its sentence, when a node refused; else empty.
  const std::string& refusal() const { return refusal_; }
  /// Ends what waits, soon.
  void abort();
  Task<> close();

 private:
  void arm();

  Reactor& reactor_;
  const Address address_;
  std::unique_ptr<Socket> socket_;
  std::unique_ptr<FrameReader> frames_;
  std::string refusal_;
  std::uint64_t next_id_ = 2;
  Nanos deadline_ = wait_forever;
  const bool* give_up_ = nullptr;
  Nanos answer_by_ = 0;
  Timer silence_;
};

}  // namespace millrace
