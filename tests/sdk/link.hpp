// Drives one Session against one FakeServer with a clock that only the test moves.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "sdk/core/session.hpp"
#include "tests/sdk/fake_server.hpp"

namespace millrace::test {

class Link {
 public:
  explicit Link(const SessionSettings& settings = {}) : session(settings) {}

  Session session;
  FakeServer server;
  Nanos now = 1'000'000'000;
  bool reachable = true;
  std::size_t cut = 0;  // 0 = deliver whole; else pieces of so many bytes

  /// Everything that can happen without time passing.
  void settle() {
    for (int quiet = 0; quiet < 3;) {
      bool moved = step();
      quiet = moved ? 0 : quiet + 1;
    }
  }
  void pass(Nanos time) {
    now += time;
    settle();
  }
  /// The connection breaks; what is under way in both directions is lost.
  void cut_connection() {
    socket_ = 0;
    server.connect();
    session.disconnected(Error::connection_lost, now);
  }
  /// Called at every step: who has work on the session.
  std::function<void(Nanos)> work = [](Nanos) {};

 private:
  bool step() {
    bool moved = false;
    session.advance(now);
    work(now);
    if (!session.wants_connection() || socket_ != session.attempt()) socket_ = 0;
    if (session.wants_connection() && socket_ == 0) {
      moved = true;
      if (!reachable) {
        session.disconnected(Error::connection_refused, now);
        return true;
      }
      socket_ = session.attempt();
      server.connect();
      session.connected(now);
    }
    Bytes piece_to_send[1];
    while (socket_ != 0 && session.outbox().pieces(piece_to_send) == 1) {
      // Gone from the outbox before it is seen, as with a socket: the copy stands for the wire.
      const std::vector<std::byte> wire(piece_to_send[0].begin(), piece_to_send[0].end());
      session.outbox().sent(wire.size());
      server.receive(wire);
      moved = true;
    }
    if (socket_ != 0 && !server.out.empty()) {
      moved = true;
      const FrameOutput bytes = std::exchange(server.out, {});
      const std::size_t piece = cut == 0 ? bytes.size() : cut;
      for (std::size_t at = 0; at < bytes.size() && socket_ == session.attempt() && session.wants_connection();
           at += piece)
        session.received(Bytes(bytes).subspan(at, std::min(piece, bytes.size() - at)), now);
    }
    return moved;
  }

  std::uint64_t socket_ = 0;
};

}  // namespace millrace::test
