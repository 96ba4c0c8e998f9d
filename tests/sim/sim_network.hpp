// TCP as applications see it: two byte streams a connection, delivered in order, late, in any pieces; connections are
// refused, reset in the middle of a frame, or silently stop. No datagrams, no loss: TCP turns those into delay and reset.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "reactor/operation.hpp"
#include "reactor/random.hpp"

namespace millrace::sim {

class SimKernel;
class SimNode;
class SimWorld;
struct SimSocket;
using SocketPtr = std::shared_ptr<SimSocket>;

/// An operation that waits for a socket: one of a kernel's flights.
struct SocketWaiter {
  SimKernel* kernel;
  std::uint64_t flight;
};

struct Segment {
  enum class Kind : std::uint8_t { data, end, reset };
  Nanos at = 0;
  Kind kind = Kind::data;
  std::vector<std::byte> bytes;
};

/// One end of a connection, or a listener. Bytes on their way to this end are kept here.
struct SimSocket {
  std::uint64_t number = 0;
  SimNode* node = nullptr;
  bool listening = false;
  std::uint16_t port = 0;

  // Listener.
  std::size_t backlog_max = 0;
  std::deque<SocketPtr> backlog;

  // Connection.
  SocketPtr peer;  // until both ends are gone
  std::deque<Segment> in_transit;
  std::uint64_t in_transit_bytes = 0;
  std::vector<std::byte> received;
  std::size_t received_begin = 0;  // what was read already
  std::size_t window = 256 * 1024;
  Nanos stalled_since = -1;  // when the front segment first could not be delivered
  bool small_pieces = false;
  bool slow = false;
  bool black_hole = false;  // half-open: nothing arrives any more, and nobody says so
  bool end_received = false;
  bool shut = false;      // we ended our direction
  bool vanished = false;  // this end no longer exists; what arrives is answered with a reset
  int error = 0;          // told once, positive errno

  bool closed = false;  // the descriptor is gone; the socket lives while operations wait on it
  std::deque<SocketWaiter> receivers;
  std::deque<SocketWaiter> senders;
  std::deque<SocketWaiter> accepters;

  std::size_t readable() const { return received.size() - received_begin; }
};

class SimNetwork {
 public:
  SimNetwork(SimWorld& world, std::uint64_t seed);
  ~SimNetwork();

  /// A listening socket, or nullptr when the port is taken. Port 0 picks one.
  SocketPtr listen(SimNode& node, std::uint16_t port, std::size_t backlog_max);
  /// Tries once: our end of a new connection; else nullptr and `error` (positive errno, EAGAIN = no answer yet).
  SocketPtr connect(SimNode& node, const Address& address, int& error);
  /// Hands over what fits into the window; 0 = the peer does not read. Negative errno when the connection is gone.
  std::int64_t push(const SocketPtr& socket, Bytes bytes);
  /// Takes what has arrived. 0 with `end` set = end of stream; 0 without = nothing yet; negative errno after a reset.
  std::int64_t pull(const SocketPtr& socket, MutableBytes target, bool& end);
  void shutdown(const SocketPtr& socket);
  /// The owner is gone in an orderly way: the peer sees an end, or a reset when unread bytes were dropped.
  void close(const SocketPtr& socket);
  /// The machine is gone: nobody is told.
  void vanish(const SocketPtr& socket);
  void reset(const SocketPtr& socket, int error);

  void partition(const SimNode& a, const SimNode& b);
  void heal(const SimNode& a, const SimNode& b);
  void heal_all();
  bool is_partitioned(const SimNode& a, const SimNode& b) const;
  /// Connections whose two ends exist.
  std::size_t connections();

  Nanos latency_min = 5'000;
  Nanos latency_max = 60'000;
  /// A sender whose bytes cannot be delivered for this long is told ETIMEDOUT.
  Nanos give_up_after = 60'000'000'000;

 private:
  void send_segment(const SocketPtr& to, Segment segment);
  void deliver(const SocketPtr& socket);
  void arrive(const SocketPtr& socket, Segment segment);
  bool stalled(const SocketPtr& socket);
  void wake(const std::deque<SocketWaiter>& waiters);
  void wake_all(const SocketPtr& socket);
  static void bury(const SocketPtr& socket);
  SocketPtr new_socket(SimNode& node);
  SocketPtr find_listener(const SimNode& from, const Address& address);

  SimWorld& world_;
  Random random_;
  std::uint64_t last_number_ = 0;
  std::uint16_t last_port_ = 40'000;
  std::vector<std::weak_ptr<SimSocket>> sockets_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> partitions_;
};

}  // namespace millrace::sim
