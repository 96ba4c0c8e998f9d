// The one thread of a client: it owns the sockets, drives the sessions and whatever works on them, and blocks in
// epoll when there is nothing to do. It never spins: on a small machine a thread that does not sleep delays every commit.
//
// Threads: post, signal and wake from any; everything else runs on this thread, in turns.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sdk/core/session.hpp"

namespace millrace {

/// Now on the monotonic clock, and wall time, both in ns.
Nanos steady_now();
Nanos wall_clock_now();
/// Random bits, for what must differ between clients.
std::uint64_t random_seed();

/// Something the thread drives: it is advanced when it was signalled and when its deadline has come.
class Driven {
 public:
  virtual ~Driven() = default;
  virtual void advance(Nanos now) = 0;
  virtual Nanos deadline() const = 0;

 private:
  friend class SocketThread;
  std::atomic<Driven*> next_ready_{nullptr};
  std::atomic<bool> ready_{false};
  Nanos scheduled_ = no_deadline;  // its key among the timers
};

/// Where application threads wait for what the I/O thread frees or settles: opened at most once a turn.
class Gate {
 public:
  /// Waits until `condition()` or `deadline` (steady_now); the result is condition()'s last.
  template <class Condition>
  bool wait(Nanos deadline, Condition condition) {
    if (condition()) return true;
    waiters_.fetch_add(1, std::memory_order_seq_cst);
    bool met = false;
    {
      std::unique_lock lock(mutex_);
      while (!(met = condition()) && wait_until(lock, deadline)) {
      }
    }
    waiters_.fetch_sub(1, std::memory_order_relaxed);
    return met;
  }
  void open();

 private:
  bool wait_until(std::unique_lock<std::mutex>& lock, Nanos deadline);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<std::uint32_t> waiters_{0};
};

class SocketThread {
 public:
  struct Address {
    alignas(8) std::byte bytes[128] = {};
    std::uint32_t length = 0;
    int family = 0;
  };
  /// HOST:PORT, [V6]:PORT; asks the resolver. not_found when there is no such host, invalid_argument for what is no address.
  static Result<Address> resolve(const std::string& host_and_port);
  /// The same for a list with commas in between.
  static Result<std::vector<Address>> resolve_all(const std::string& servers);

  /// Several servers: each attempt to connect goes to the next one.
  explicit SocketThread(std::vector<Address> servers);
  /// False when the system gave no thread or no descriptors: nothing may be asked of it then.
  bool started() const { return thread_.joinable(); }
  /// Stops and joins.
  ~SocketThread();
  SocketThread(const SocketThread&) = delete;
  SocketThread& operator=(const SocketThread&) = delete;

  /// Runs `work` on the thread, soon.
  void post(std::function<void(Nanos now)> work);
  /// post() and wait until it has run. Not from the thread itself.
  void run(std::function<void(Nanos now)> work);
  /// `driven` has work. Without a lock; a system call only when the thread sleeps.
  void signal(Driven& driven);
  bool is_current() const { return std::this_thread::get_id() == thread_.get_id(); }
  Gate& gate() { return gate_; }

  // On the thread only.
  /// The session to `shard` (any_shard: to whichever answers), connection `index` of several; opened on first use.
  Session& session(ShardIndex shard, std::uint32_t index);
  void add(std::shared_ptr<Driven> driven, Nanos now);
  void remove(Driven& driven);
  /// `driven.deadline()` may have become earlier.
  void reschedule(Driven& driven);
  /// The gate opens at the end of this turn.
  void open_gate() { gate_wanted_ = true; }

 private:
  struct Connection {
    explicit Connection(const SessionSettings& settings, std::uint32_t connection_index)
        : session(settings), index(connection_index) {}
    Session session;
    std::uint32_t index;
    int fd = -1;
    std::uint64_t attempt = 0;  // of the session, for which fd was opened
    bool connecting = false;
    bool waits_to_write = false;
  };

  void loop();
  void turn(Nanos now);
  void advance_ready(Nanos now);
  void expire_timers(Nanos now);
  void run_posted(Nanos now);
  void sleep(Nanos now);
  void drive(Connection& connection, Nanos now);
  void open_socket(Connection& connection, Nanos now);
  void close_socket(Connection& connection);
  void finish_connect(Connection& connection, Nanos now);
  void read_socket(Connection& connection, Nanos now);
  void write_socket(Connection& connection, Nanos now);
  void watch(Connection& connection, bool writing);
  void wake();

  const std::vector<Address> servers_;
  int epoll_ = -1;
  int wake_ = -1;
  std::unique_ptr<std::byte[]> receive_memory_;
  std::byte* receive_ = nullptr;

  std::atomic<Driven*> ready_{nullptr};
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stop_{false};
  std::mutex posted_mutex_;
  std::vector<std::function<void(Nanos)>> posted_;
  std::atomic<bool> has_posted_{false};
  Gate gate_;

  std::vector<std::unique_ptr<Connection>> connections_;
  std::unordered_map<Driven*, std::shared_ptr<Driven>> driven_;
  std::set<std::pair<Nanos, Driven*>> timers_;
  std::vector<Driven*> turn_ready_;
  std::vector<std::function<void(Nanos)>> turn_posted_;
  bool gate_wanted_ = false;

  std::thread thread_;
};

}  // namespace millrace
