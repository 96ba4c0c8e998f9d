// Sockets of the posix kernel: non-blocking calls, and epoll (edge-triggered) for what has to wait. Each descriptor is
// watched once, on its first operation that would block; its state is a few pointers, so idle connections stay cheap.
//
// Thread: the kernel's.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/helper_thread.hpp"
#include "reactor/kernel.hpp"

namespace millrace {

class PosixSockets {
 public:
  static constexpr std::size_t events_per_wait = 256;
  static constexpr int turns_per_socket = 16;  // buffers or connections one socket may give in one poll(): fairness

  PosixSockets();
  ~PosixSockets();
  PosixSockets(const PosixSockets&) = delete;
  PosixSockets& operator=(const PosixSockets&) = delete;

  /// Also waits for this descriptor, level-triggered; wait() drains it (an eventfd). False when the system gave no epoll.
  bool watch_wake(int descriptor);

  /// Starts accept, connect, receive, send, shutdown or close; completions come out of reap().
  void start(Operation& operation);
  /// True when `target` was waiting here: it completes with -ECANCELED.
  bool cancel(Operation& target);

  Result<> provide_buffers(std::size_t count, std::size_t bytes_each);
  void recycle(const ProvidedBuffer& buffer);

  /// Waits up to `timeout` ns (0 = not at all) for the system to report something, and carries out what became possible.
  void wait(Nanos timeout);
  /// True when reap() has something, or a socket has more to give at once.
  bool has_work() const { return !done_.empty() || !eager_.empty(); }
  std::size_t reap(std::span<Completion> target);
  std::uint64_t starved() const { return starved_count_; }

 private:
  struct Socket {
    bool watched = false;
    bool readable = false;  // as far as we know: a read may succeed
    bool writable = false;
    bool eager = false;     // listed in eager_
    OperationList readers;  // receive or accept, in order; one at a time is served
    OperationList writers;  // send or connect
  };

  Socket& socket_of(int descriptor);
  void watch(int descriptor, Socket& socket);
  void make_eager(int descriptor, Socket& socket);
  void run_eager();
  void serve(int descriptor);
  void serve_readers(int descriptor, Socket& socket);
  void serve_writers(int descriptor, Socket& socket);
  bool receive_once(int descriptor, Socket& socket, Operation& operation);
  bool accept_once(int descriptor, Socket& socket, Operation& operation);
  bool send_some(int descriptor, Socket& socket, Operation& operation);
  void connect(Operation& operation);
  void close(Operation& operation);
  void complete(Operation& operation, std::int32_t result, const ProvidedBuffer& buffer = {}, bool more = false);
  void cancel_all(OperationList& list);

  int epoll_ = -1;
  int wake_ = -1;
  std::deque<Socket> sockets_;  // by descriptor; grows at the end, so references stay good
  std::vector<int> eager_;      // descriptors with something to do without asking the system
  std::deque<Completion> done_;

  std::vector<std::byte> memory_;  // provided buffers
  std::size_t bytes_each_ = 0;
  std::vector<std::int32_t> free_;
  std::uint64_t starved_count_ = 0;
  std::vector<int> starved_;  // descriptors whose receive found no free buffer
};

}  // namespace millrace
