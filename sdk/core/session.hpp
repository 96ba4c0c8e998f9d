// One connection to one shard, without a socket: bytes in, bytes out, and what time it is. It shakes hands, keeps the byte
// credit of appends, gives answers to whom they belong, notices a dead peer, and asks for a new connection, waiting longer
// each time, when the old one is gone. Producers, consumers and single requests are its users.
//
// Whoever drives it (sdk/socket_thread, the simulator) does this, over and over:
//   when wants_connection() and there is no socket of this attempt(): open one; then connected() or disconnected();
//   when there is a socket and not wants_connection() or another attempt(): close it, and say nothing;
//   received() what arrives; write outbox() and tell it what was sent; advance() not later than deadline().
//
// Pure: no clock, no system call, no thread. All times are of one monotonic clock, in ns.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/credit.hpp"
#include "protocol/frame_parser.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"
#include "sdk/core/outbox.hpp"

namespace millrace {

inline constexpr Nanos no_deadline = std::numeric_limits<Nanos>::max();
/// From an attempt to connect to the welcome.
inline constexpr Nanos attempt_time_max = 5'000'000'000;
/// How long to wait for an answer where `retry` is how long to go on trying: with 0 there is one try, and that takes its time.
constexpr Nanos patience_of(Nanos retry) { return retry > 0 ? retry : attempt_time_max; }

/// Someone with requests on a session. All calls come from inside the session's own event functions.
class SessionUser {
 public:
  /// The handshake is done: requests may be sent. After every reconnect again.
  virtual void session_up(Nanos now) = 0;
  /// The connection is gone, and with it everything sent and not answered. `final`: it will not be tried again.
  virtual void session_down(Error error, bool final, Nanos now) = 0;
  /// An answer to a request of this user; `token` is what it sent. Acks come through session_ack.
  virtual void session_answer(const Frame& frame, std::uint32_t token, Nanos now) = 0;
  virtual void session_ack(const wire::AckEntry& entry, std::uint32_t token, Nanos now) = 0;
  /// Credit for which the user waited (want_credit) may be there.
  virtual void session_credit(Nanos now) = 0;

 protected:
  ~SessionUser() = default;
};

struct SessionSettings {
  ShardIndex shard = wire::any_shard;  // any: the shard the server gives is kept from then on
  std::string client_name = "millrace-sdk";
  Nanos connect_timeout = attempt_time_max;
  Nanos ping_after = 5'000'000'000;   // of silence
  Nanos dead_after = 15'000'000'000;  // of silence
  Nanos backoff_min = 10'000'000;     // before the second attempt; doubles
  Nanos backoff_max = 1'000'000'000;
  std::uint64_t seed = 1;  // spreads the attempts of many clients
  bool elsewhere = false;  // the next attempt goes to another server: one that does not lead is left, a silent one soon

  /// For a list of servers.
  void look_elsewhere() {
    elsewhere = true;
    connect_timeout = 2'000'000'000;
    ping_after = 1'000'000'000;
    dead_after = 3'000'000'000;
  }
};

/// Nobody leads for a while when a follower takes over: how long to wait before the next server of a list is asked.
inline constexpr std::uint64_t leader_wait_ms = 50;

class Session {
 public:
  explicit Session(const SessionSettings& settings);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The driver's side: events.
  void connected(Nanos now);
  void disconnected(Error error, Nanos now);
  /// `bytes` may be any cut of the stream; frames that lie whole in them are read in place.
  void received(Bytes bytes, Nanos now);
  void advance(Nanos now);

  // The driver's side: actions.
  bool wants_connection() const { return state_ != State::down && state_ != State::failed; }
  std::uint64_t attempt() const { return attempt_; }
  Outbox& outbox() { return outbox_; }
  Nanos deadline() const;

  // The users' side.
  /// A number that stands in the upper half of this user's request ids until leave().
  std::uint32_t join(SessionUser& user);
  void leave(std::uint32_t number);
  static std::uint64_t request_id(std::uint32_t number, std::uint32_t token) {
    return std::uint64_t{number} << 32 | token;
  }
  bool up() const { return state_ == State::up; }
  /// Why the server will never talk to us, if so.
  std::optional<Error> failure() const { return failure_; }
  /// Why the last connection ended or could not be made; timed_out while the first attempt goes on.
  Error last_error() const { return last_error_; }
  const wire::Welcome& welcome() const { return welcome_; }
  bool ever_up() const { return ever_up_; }
  /// The shard asked for; any_shard until a server has given one.
  ShardIndex wanted_shard() const { return settings_.shard; }

  /// Sends a request; only while up.
  template <class Message>
  void send(const Message& message) {
    scratch_.clear();
    wire::encode(scratch_, message);
    send_frame(scratch_);
  }
  bool has_credit(std::uint64_t cost) const { return !dropping_ && credit_.allows(cost); }
  /// Queues a whole append frame in place; its memory stays until outbox().sent_position() passes the returned position or
  /// the session goes down. Only while up and has_credit.
  std::uint64_t append(Bytes frame);
  /// session_credit() once credit has grown.
  void want_credit(std::uint32_t number);
  /// Ends the connection because the peer, or what it sent, cannot be trusted; opens another after the backoff. Safe inside
  /// callbacks.
  void drop(Error error);

 private:
  enum class State : std::uint8_t { down, connecting, greeting, up, failed };
  struct Seat {
    SessionUser* user = nullptr;
    std::uint32_t generation = 0;
    bool waits = false;  // for credit
  };

  void send_frame(Bytes frame);
  void go_down(Error error, Nanos now);
  void finish_drop(Nanos now);
  void handle(const Frame& frame, Nanos now);
  void handle_welcome(const Frame& frame, Nanos now);
  void handle_refused(const Frame& frame, Nanos now);
  void handle_acks(const Frame& frame, Nanos now);
  void serve_waiting(Nanos now);
  bool leave_follower(Error error, Nanos now);
  SessionUser* user_of(std::uint64_t id) const;
  Nanos backoff();

  SessionSettings settings_;
  HeapFrameMemory memory_;

  State state_ = State::down;
  std::uint64_t attempt_ = 0;
  Nanos attempt_at_ = 0;     // down: when to try again
  Nanos attempt_begun_ = 0;  // connecting, greeting
  Nanos heard_at_ = 0;
  bool pinged_ = false;
  Nanos backoff_next_ = 0;
  std::uint64_t random_ = 0;
  std::uint64_t wait_hint_ = 0;  // ms, from the server's refusal
  std::optional<Error> failure_;
  std::optional<Error> dropping_;
  Error last_error_ = Error::timed_out;  // of an attempt that has not ended
  bool ever_up_ = false;
  wire::Welcome welcome_;

  std::optional<FrameParser> parser_;
  Outbox outbox_;
  FrameOutput scratch_;
  CreditUse credit_;

  std::vector<Seat> seats_;
  std::vector<std::uint32_t> free_seats_;
  std::vector<std::uint32_t> waiting_;  // seats, in the order they asked
  std::vector<std::uint32_t> served_;
};

}  // namespace millrace
