// One thread's part of the server: a reactor, the shards it serves and their connections. Core 0 also opens the data
// directory and accepts connections.
//
// Thread: its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "reactor/listener.hpp"
#include "reactor/reactor.hpp"
#include "server/connection.hpp"
#include "server/data_directory.hpp"
#include "server/errand.hpp"
#include "server/frame_memory.hpp"
#include "server/shard.hpp"

namespace millrace {

class Server;

/// Provided receive buffers of a core.
inline constexpr std::size_t receive_buffers = 64;
/// A client that does not say hello in this time is refused.
inline constexpr Nanos hello_wait_max = 10'000'000'000;
/// While others wait for frame memory, a frame that does not go on for this long ends its connection.
inline constexpr Nanos frame_stall_max = 10'000'000'000;
/// While others wait for read memory, a client that takes nothing of what it asked for in this time loses its connection.
inline constexpr Nanos read_stall_max = 5'000'000'000;
/// How long the last answers may take to leave when the server stops.
inline constexpr Nanos drain_wait_max = 2'000'000'000;
/// How often the same trouble is said again.
inline constexpr Nanos say_again_after = 10'000'000'000;
/// How often a core looks at what takes long.
inline constexpr Nanos tick_interval = 1'000'000'000;

struct CoreCounters {
  std::uint64_t accepted = 0;
  std::uint64_t refused_connections = 0;
  std::uint64_t crowded_out = 0;  // of these: for want of a place or a descriptor
  std::uint64_t frames = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t acknowledged = 0;
  std::uint64_t append_errors = 0;
};

class Core final : private TurnHook {
 public:
  Core(Server& server, std::uint32_t number, Kernel& kernel);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  Reactor& reactor() { return reactor_; }
  Server& server() { return server_; }
  std::uint32_t number() const { return number_; }
  BudgetedFrameMemory& frame_memory() { return frame_memory_; }
  CoreCounters& counters() { return counters_; }
  std::vector<wire::AckEntry>& ack_scratch() { return ack_scratch_; }
  FrameOutput& output_scratch() { return output_scratch_; }

  /// Core 0: locks the directory and reads node.meta; everything else follows from there.
  void open_directory();
  void open_shards();
  void listen();
  /// Stops accepting, makes what was appended durable, answers it, ends all connections, and reports to core 0.
  void stop();
  /// The last word: the turn after this is none.
  void finish() { ended_ = true; }
  bool ended() const { return ended_; }

  Shard* shard(ShardIndex index);
  std::vector<std::unique_ptr<Shard>>& shards() { return shards_; }
  Connection* find(std::uint64_t connection_id);
  std::size_t connection_count() const { return connections_.size(); }
  bool stopping() const { return stopping_; }
  /// Something that spans turns and refers to shards begins, and ends; a stop waits for it.
  void begin_work() { work_under_way_++; }
  void end_work() {
    work_under_way_--;
    progress_.notify();
  }

  void adopt(std::int32_t descriptor, const wire::Hello& hello, std::vector<std::byte> bytes);
  /// Posts adopt() to the core of the shard that `hello` names.
  void hand_over(std::int32_t descriptor, const wire::Hello& hello, std::vector<std::byte> bytes);
  void greeted(Connection& connection);
  void forget(Connection& connection);
  /// `connection` may be finished; looked at when the turn ends.
  void reap_later(Connection& connection);

  /// `connection` waits for frame memory; resumed when some came back.
  void wait_for_memory(Connection& connection);
  /// Memory of a read's chunk; empty = none now, await read_memory_freed().
  MutableBytes take_read_memory(std::size_t bytes) { return read_memory_.take(bytes); }
  void give_read_memory_back(MutableBytes memory);
  Signal& read_memory_freed() { return read_memory_freed_; }

 private:
  Task<> run_open_directory();
  Task<> open_and_tell();
  Task<> run_open_shards();
  Task<> open_each_shard();
  Task<> run_listen();
  Task<> run_accept();
  Task<> run_stop();
  Task<> run_stop_shard(Shard& shard);
  void turn_ended() override;
  void accepted(Listener::Accepted connection);
  void say_crowded();
  void tick();
  void end_late_connections();
  void say_progress();
  LogOptions log_options(ShardIndex shard) const;

  Server& server_;
  const std::uint32_t number_;
  Reactor reactor_;
  BudgetedFrameMemory frame_memory_;
  BudgetedFrameMemory read_memory_;
  Signal read_memory_freed_;

  std::vector<std::unique_ptr<Shard>> shards_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t last_connection_ = 0;
  std::vector<Connection*> ungreeted_;  // oldest first
  std::vector<Connection*> waiting_for_memory_;
  std::vector<std::uint64_t> reaping_;
  Signal progress_;  // a connection went, accepting ended, a shard stopped
  std::size_t shards_stopped_ = 0;
  std::size_t work_under_way_ = 0;
  std::vector<wire::AckEntry> ack_scratch_;
  FrameOutput output_scratch_;
  CoreCounters counters_;

  Listener listener_;
  bool opening_ = false;
  bool listening_ = false;
  bool accepting_ended_ = true;
  bool stopping_ = false;
  bool ended_ = false;
  std::uint64_t crowded_out_said_ = 0;
  std::uint64_t accept_failures_said_ = 0;
  Nanos quiet_until_ = 0;
  Timer tick_;
};

}  // namespace millrace
