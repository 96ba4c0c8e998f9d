#include "tests/sim/sim_network.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "tests/sim/sim_kernel.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::sim {

namespace {
constexpr Nanos retransmit_after = 200'000'000;
constexpr std::size_t slow_window = 1024;
std::pair<std::uint64_t, std::uint64_t> pair_of(const SimNode& a, const SimNode& b) {
  return {std::min(a.number, b.number), std::max(a.number, b.number)};
}
}  // namespace

SimNetwork::SimNetwork(SimWorld& world, std::uint64_t seed) : world_(world), random_(seed) {}

SimNetwork::~SimNetwork() {
  for (const auto& weak : sockets_)
    if (auto socket = weak.lock()) socket->peer.reset();
}

SocketPtr SimNetwork::new_socket(SimNode& node) {
  auto socket = std::make_shared<SimSocket>();
  socket->number = ++last_number_;
  socket->node = &node;
  if (sockets_.size() >= 64 && last_number_ % 64 == 0)
    std::erase_if(sockets_, [](const auto& weak) { return weak.expired(); });
  sockets_.push_back(socket);
  return socket;
}

SocketPtr SimNetwork::listen(SimNode& node, std::uint16_t port, std::size_t backlog_max) {
  for (const auto& weak : sockets_)
    if (auto other = weak.lock(); other && other->listening && other->node == &node && other->port == port && port != 0)
      return nullptr;
  auto socket = new_socket(node);
  socket->listening = true;
  socket->port = port != 0 ? port : ++last_port_;
  socket->backlog_max = std::max<std::size_t>(backlog_max, 1);
  return socket;
}

SocketPtr SimNetwork::find_listener(const SimNode& from, const Address& address) {
  bool own = address.host == "127.0.0.1" || address.host == "::1" || address.host == "0.0.0.0";
  for (const auto& weak : sockets_) {
    auto socket = weak.lock();
    if (!socket || !socket->listening || socket->port != address.port) continue;
    if (own ? socket->node == &from : socket->node->host == address.host) return socket;
  }
  return nullptr;
}

SocketPtr SimNetwork::connect(SimNode& node, const Address& address, int& error) {
  for (const auto& other : world_.nodes()) {
    if (other->host != address.host) continue;
    if (!other->powered || is_partitioned(node, *other)) {
      error = EAGAIN;
      return nullptr;
    }
  }
  SocketPtr listener = find_listener(node, address);
  if (!listener || world_.strike(FaultClass::connection_refused, node)) {
    error = ECONNREFUSED;
    return nullptr;
  }
  if (listener->backlog.size() >= listener->backlog_max) {
    error = EAGAIN;  // the handshake is dropped, as TCP does; the caller tries again
    return nullptr;
  }
  auto ours = new_socket(node);
  auto theirs = new_socket(*listener->node);
  ours->peer = theirs;
  theirs->peer = ours;
  bool small = world_.strike(FaultClass::small_pieces, node);
  ours->small_pieces = theirs->small_pieces = small;
  if (world_.strike(FaultClass::slow_reader, node)) {
    ours->slow = true;
    ours->window = slow_window;
  }
  listener->backlog.push_back(theirs);
  wake(listener->accepters);
  return ours;
}

bool SimNetwork::is_partitioned(const SimNode& a, const SimNode& b) const {
  return partitions_.contains(pair_of(a, b));
}

void SimNetwork::partition(const SimNode& a, const SimNode& b) {
  partitions_.insert(pair_of(a, b));
  world_.say("network: %s and %s are parted", a.name.c_str(), b.name.c_str());
}

void SimNetwork::heal(const SimNode& a, const SimNode& b) {
  if (partitions_.erase(pair_of(a, b)) > 0) world_.say("network: %s and %s meet again", a.name.c_str(), b.name.c_str());
}

void SimNetwork::heal_all() { partitions_.clear(); }

void SimNetwork::send_segment(const SocketPtr& to, Segment segment) {
  Nanos delay = latency_min + static_cast<Nanos>(random_.below(static_cast<std::uint64_t>(latency_max - latency_min)));
  if (to->slow) delay += static_cast<Nanos>(random_.below(50'000'000));
  if (world_.strike(FaultClass::network_delay, *to->node))
    delay += static_cast<Nanos>(world_.faults().detail(FaultClass::network_delay).below(2'000'000'000));
  segment.at = world_.now() + delay;
  if (!to->in_transit.empty()) segment.at = std::max(segment.at, to->in_transit.back().at);
  to->in_transit_bytes += segment.bytes.size();
  Nanos at = segment.at;
  to->in_transit.push_back(std::move(segment));
  world_.at(at, [this, to] { deliver(to); });
}

std::int64_t SimNetwork::push(const SocketPtr& socket, Bytes bytes) {
  if (socket->error != 0) return -std::exchange(socket->error, 0);
  SocketPtr peer = socket->peer;
  if (socket->shut || !peer) return -EPIPE;
  std::uint64_t used = peer->in_transit_bytes + peer->readable();
  std::size_t length = std::min<std::uint64_t>(bytes.size(), used < peer->window ? peer->window - used : 0);
  if (length == 0) return 0;
  world_.mix(10, socket->number, hash64(bytes.first(length)));
  std::size_t tiny_left = socket->small_pieces ? 8 : 0;
  for (std::size_t sent = 0; sent < length;) {
    std::size_t piece = length - sent;
    if (tiny_left > 0 && random_.below(2) == 0)
      piece = std::min<std::size_t>(piece, 1 + random_.below(3) * random_.below(40)), --tiny_left;
    else if (piece > 1 && random_.below(4) == 0) piece = 1 + random_.below(piece);
    auto part = bytes.subspan(sent, piece);
    if (world_.strike(FaultClass::connection_reset, *socket->node)) {
      std::size_t cut = random_.below(piece + 1);
      if (cut > 0)
        send_segment(peer, {0, Segment::Kind::data, {part.begin(), part.begin() + static_cast<std::ptrdiff_t>(cut)}});
      send_segment(peer, {0, Segment::Kind::reset, {}});
      reset(socket, ECONNRESET);
      return -std::exchange(socket->error, 0);
    }
    send_segment(peer, {0, Segment::Kind::data, {part.begin(), part.end()}});
    sent += piece;
  }
  if (world_.strike(FaultClass::half_open, *socket->node)) socket->black_hole = peer->black_hole = true;
  return static_cast<std::int64_t>(length);
}

/// True when what is under way to this end cannot arrive now; gives up for the sender after a long while.
bool SimNetwork::stalled(const SocketPtr& socket) {
  SocketPtr sender = socket->peer;
  bool stuck = socket->black_hole || !socket->node->powered;
  if (sender && sender->node != socket->node) stuck |= is_partitioned(*socket->node, *sender->node);
  if (!stuck) {
    socket->stalled_since = -1;
    return false;
  }
  if (socket->stalled_since < 0) socket->stalled_since = world_.now();
  if (world_.now() - socket->stalled_since < give_up_after) {
    world_.after(retransmit_after, [this, socket] { deliver(socket); });
  } else {
    socket->in_transit.clear();
    socket->in_transit_bytes = 0;
    if (sender && !sender->vanished) reset(sender, ETIMEDOUT);
  }
  return true;
}

void SimNetwork::deliver(const SocketPtr& socket) {
  if (socket->in_transit.empty() || socket->in_transit.front().at > world_.now()) return;
  if (stalled(socket)) return;
  while (!socket->in_transit.empty() && socket->in_transit.front().at <= world_.now()) {
    Segment segment = std::move(socket->in_transit.front());
    socket->in_transit.pop_front();
    socket->in_transit_bytes -= segment.bytes.size();
    arrive(socket, std::move(segment));
  }
}

void SimNetwork::arrive(const SocketPtr& socket, Segment segment) {
  SocketPtr peer = socket->peer;
  if (socket->vanished) {
    // Nobody here knows this connection: the answer is a reset.
    if (segment.kind != Segment::Kind::reset && peer && !peer->vanished)
      send_segment(peer, {0, Segment::Kind::reset, {}});
    return;
  }
  switch (segment.kind) {
    case Segment::Kind::data:
      if (socket->received_begin > 0 && socket->received_begin == socket->received.size()) {
        socket->received.clear();
        socket->received_begin = 0;
      }
      socket->received.insert(socket->received.end(), segment.bytes.begin(), segment.bytes.end());
      break;
    case Segment::Kind::end: socket->end_received = true; break;
    case Segment::Kind::reset: reset(socket, ECONNRESET); return;
  }
  world_.mix(11, socket->number, segment.bytes.size());
  wake(socket->receivers);
}

std::int64_t SimNetwork::pull(const SocketPtr& socket, MutableBytes target, bool& end) {
  end = false;
  std::size_t length = std::min(target.size(), socket->readable());
  if (length > 0) {
    if (socket->small_pieces && random_.below(4) == 0) length = 1 + random_.below(length);
    std::memcpy(target.data(), socket->received.data() + socket->received_begin, length);
    socket->received_begin += length;
    if (SocketPtr peer = socket->peer; peer && !peer->senders.empty())
      world_.after(latency_min, [this, peer] { wake(peer->senders); });
    return static_cast<std::int64_t>(length);
  }
  if (socket->error != 0) return -std::exchange(socket->error, 0);
  end = socket->end_received || socket->shut;
  return 0;
}

void SimNetwork::shutdown(const SocketPtr& socket) {
  if (socket->shut) return;
  socket->shut = true;
  if (SocketPtr peer = socket->peer) send_segment(peer, {0, Segment::Kind::end, {}});
  wake_all(socket);
}

void SimNetwork::close(const SocketPtr& socket) {
  if (socket->vanished) return;
  if (socket->listening) {
    socket->listening = false;
    for (auto& waiting : socket->backlog) reset(waiting, ECONNRESET), close(waiting);
    socket->backlog.clear();
  } else if (SocketPtr peer = socket->peer) {
    if (socket->readable() > 0) send_segment(peer, {0, Segment::Kind::reset, {}});
    else if (!socket->shut) send_segment(peer, {0, Segment::Kind::end, {}});
  }
  bury(socket);
}

/// This end exists no more; the two let go of each other when neither does.
void SimNetwork::bury(const SocketPtr& socket) {
  socket->vanished = true;
  if (SocketPtr peer = socket->peer; peer && peer->vanished) {
    peer->peer.reset();
    socket->peer.reset();
  }
}

void SimNetwork::vanish(const SocketPtr& socket) {
  for (auto& waiting : socket->backlog) bury(waiting);
  socket->backlog.clear();
  socket->listening = false;
  bury(socket);
}

void SimNetwork::reset(const SocketPtr& socket, int error) {
  socket->error = error;
  socket->end_received = true;
  socket->shut = true;
  wake_all(socket);
}

void SimNetwork::wake(const std::deque<SocketWaiter>& waiters) {
  // Always as events of their own: a waiter that goes on ends operations and changes sockets.
  for (const SocketWaiter& waiter : waiters)
    world_.at(
        world_.now(),
        [](void* object, std::uint64_t flight, std::uint64_t) {
          static_cast<SimKernel*>(object)->socket_changed(flight);
        },
        waiter.kernel, waiter.flight, 0);
}

void SimNetwork::wake_all(const SocketPtr& socket) {
  wake(socket->receivers);
  wake(socket->senders);
  wake(socket->accepters);
}

std::size_t SimNetwork::connections() {
  std::size_t count = 0;
  for (const auto& weak : sockets_)
    if (auto socket = weak.lock();
        socket && !socket->listening && !socket->vanished && socket->peer && !socket->peer->vanished)
      ++count;
  return count / 2;
}

}  // namespace millrace::sim
