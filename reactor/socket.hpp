// One connection: a stream of received buffers with backpressure, and a queue of bytes to send.
//
// Receiving: receive() hands out the kernel's own buffers, without a copy; each goes back with recycle(). The socket
// reads ahead until `receive_queue_max` buffers wait unread at the end of a turn, then stops asking and the peer feels
// it. What waits unread for `spill_after` is moved to memory of the connection's own, so that an owner who does not read
// cannot keep the shared buffers from others. An idle connection holds no buffer. A connection with much on its way may lend
// its own memory instead: hold(), then receive_into() piece by piece, then resume().
//
// Sending: what send() appends within a turn leaves in one operation at the turn's end; one operation is in flight, and
// what is appended meanwhile forms the next. send_owned() sends the caller's memory without a copy, in order with the
// rest. Nothing waits: a full queue refuses.
//
// A failure ends both directions: receive() tells it once what came before has been handed out, send() refuses with it.
// close() must have ended before a Socket is destroyed while its reactor goes on.
//
// Thread: the reactor's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "base/time.hpp"
#include "reactor/reactor.hpp"
#include "reactor/send_queue.hpp"
#include "reactor/task.hpp"

namespace millrace {

struct SocketLimits {
  std::size_t send_bytes_max = 4 * MiB;  // queued and in flight, copied and owned together
  std::uint32_t receive_queue_max = 16;  // buffers that wait unread before the peer is held up
};

class Socket final : private TurnHook {
 public:
  /// Takes over a connected descriptor.
  Socket(Reactor& reactor, std::int32_t descriptor, const SocketLimits& limits = {});
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();

  static constexpr Nanos spill_after = 5 * nanos_per_milli;
  static constexpr Nanos discard_wait = 20 * nanos_per_milli;

  Reactor& reactor() { return reactor_; }
  std::int32_t descriptor() const { return descriptor_; }

  struct [[nodiscard]] Receive {
    Socket& socket;
    bool await_ready() const;
    void await_suspend(std::coroutine_handle<> handle);
    Result<ProvidedBuffer> await_resume();
  };
  /// `auto buffer = co_await socket.receive();` One waiter at a time. Length 0 = the peer will send no more.
  Receive receive() { return Receive{*this}; }
  /// Waits until nothing is received into shared buffers any more; what came before can be taken with try_receive().
  Task<> hold();
  struct [[nodiscard]] ReceiveInto {
    Socket& socket;
    MutableBytes target;
    bool await_ready() const { return socket.ended_ || socket.failure_.has_value(); }
    void await_suspend(std::coroutine_handle<> handle);
    Result<std::size_t> await_resume();
  };
  /// `auto count = co_await socket.receive_into(memory);` while held, with nothing left to take. 0 = the peer will send no more;
  /// cancelled = stop_waiting() came first. The memory belongs to the kernel until it returns.
  ReceiveInto receive_into(MutableBytes target) { return ReceiveInto{*this, target}; }
  /// Ends a receive_into() that waits.
  void stop_waiting();
  /// A buffer that is there already, also after detach().
  std::optional<ProvidedBuffer> try_receive();
  /// Gives back what this socket's receive() or try_receive() returned.
  void recycle(const ProvidedBuffer& buffer);
  /// Holds the peer up although buffers are taken; what has come already can still be received.
  void pause();
  void resume();

  /// Copies `bytes`. retry_later when the queue has no room for all of them (nothing was taken).
  Result<> send(Bytes bytes);
  /// `owned.done` is called exactly once, in a later turn, also when the connection fails before.
  Result<> send_owned(OwnedSend& owned);
  std::size_t send_queued() const { return sends_.bytes(); }
  /// Notified when queued bytes have left, and at every failure and end.
  Signal& progress() { return progress_; }

  /// Why the connection cannot be used any more.
  std::optional<Error> failure() const { return failure_; }
  /// Ends both directions at once: queued sends fail, receive() ends.
  void abort();
  /// Sends what is queued, until `deadline` at the latest, then ends both directions, waits for the last completions
  /// and closes the descriptor. Buffers not received yet are given back. A peer that is still sending is listened to for
  /// `discard_wait`, because unread bytes would turn the end into a reset, which may destroy the last answer on its way.
  Task<> close(Nanos deadline);
  /// Stops receiving and gives the descriptor up, for another reactor; take what came before with try_receive().
  /// Nothing may be queued to send. Bytes stay unread in the system, none are lost.
  Task<std::int32_t> detach();

 private:
  void turn_ended() override;
  void arm();
  void stop_receiving();
  void on_received(const Completion& completion);
  void on_sent(const Completion& completion);
  void start_send();
  void fail_with(Error error);
  void wake_receiver();
  void on_received_into(const Completion& completion);
  bool at_rest() const {
    return !receiving_ && !receiving_into_ && !sending_ && !cancelling_ && !stopping_wait_ && !shutting_down_;
  }
  std::size_t waiting() const { return received_.size() - received_at_; }
  bool wants_more(std::size_t waiting_max) const;
  ProvidedBuffer take();
  void discard();
  void spill();
  void linger_until(Nanos deadline);

  Reactor& reactor_;
  const SocketLimits limits_;
  std::int32_t descriptor_;

  std::vector<ProvidedBuffer> received_;  // those before received_at_ are handed out
  std::size_t received_at_ = 0;
  std::coroutine_handle<> receiver_{};
  std::coroutine_handle<> filler_{};  // waits in receive_into()
  std::int32_t filled_ = 0;           // what it gets
  bool started_ = false;              // somebody asked for bytes
  bool paused_ = false;
  bool ended_ = false;  // the peer sends no more
  bool closing_ = false;
  bool discarding_ = false;  // what is received goes straight back
  bool lingered_ = false;    // close() has waited long enough
  bool aborted_ = false;
  std::optional<Error> failure_;
  SendQueue sends_;
  Signal progress_;
  Timer linger_;
  Timer spill_;

  Operation receive_;
  Operation receive_into_;
  Operation stop_wait_;
  Operation send_;
  Operation cancel_;
  Operation shutdown_;
  bool receiving_ = false;
  bool receiving_into_ = false;
  bool stopping_wait_ = false;
  bool sending_ = false;
  bool cancelling_ = false;
  bool shutting_down_ = false;
};

/// A connected descriptor, or why there is none: connection_refused, timed_out at `deadline`, ...
Task<std::int32_t> connect(Reactor& reactor, Address address, Nanos deadline);

}  // namespace millrace
