// Drives one Session of the SDK's core over a simulated socket, as the SDK's socket thread does over a real one: opens a
// connection when the session wants one, moves bytes both ways, keeps its deadlines.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "reactor/reactor.hpp"
#include "sdk/core/session.hpp"
#include "tests/sim/history.hpp"

namespace millrace::sim {

class SessionDriver {
 public:
  /// `users_advance` and `users_deadline` stand for the producers and consumers on the session. `damage` is asked whenever
  /// bytes arrive. All outlive the driver.
  struct Users {
    std::function<void(Nanos now)> advance;
    std::function<Nanos()> deadline;
    std::function<std::uint64_t()> damage;
  };
  SessionDriver(Reactor& reactor, Session& session, Address address, HistoryRecorder& recorder, Users users);

  /// Runs until the program ends.
  Task<> run();
  /// A user has work.
  void poke();
  std::uint64_t connections_made() const { return connections_made_; }

 private:
  struct Connection {
    std::uint64_t number = 0;   // in the history
    std::uint64_t attempt = 0;  // of the session
    std::int32_t descriptor = -1;
    Operation receive;
    Operation send;
    std::vector<std::byte> in;
    std::vector<std::byte> out;
    bool receiving = false;
    bool sending = false;
    bool has_received = false;
    std::int32_t received = 0;
    std::int32_t sent = 0;
    bool has_sent = false;
    bool dead = false;
  };
  static void on_connected(Operation& operation, const Completion& completion);
  static void on_received(Operation& operation, const Completion& completion);
  static void on_sent(Operation& operation, const Completion& completion);

  void start_connect();
  void finish_connect(Nanos now);
  void take_received(Nanos now);
  void take_sent(Nanos now);
  void start_send();
  void start_receive();
  Task<> close_connection();

  static constexpr std::size_t receive_bytes = 64 * KiB;
  static constexpr std::size_t send_bytes_max = 128 * KiB;

  Reactor& reactor_;
  Session& session_;
  Address address_;
  HistoryRecorder& recorder_;
  const Users users_;

  Signal changed_;
  bool poked_ = false;
  Timer timer_;
  std::unique_ptr<Connection> connection_;
  Operation connect_;
  Operation cancel_;
  std::uint64_t connecting_attempt_ = 0;
  bool connecting_ = false;
  bool cancelling_ = false;
  bool connect_ended_ = false;
  std::int32_t connect_result_ = 0;
  std::uint64_t connections_made_ = 0;
};

}  // namespace millrace::sim
