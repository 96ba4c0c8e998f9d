// A deterministic world: virtual time, an event queue, nodes with disks, processes with one or more shards that run
// interleaved on this one thread, and misfortune. The same seed gives the same run, event by event; trace_hash() tells.
//
//     SimWorld world(seed, plan);
//     SimNode& node = world.add_node("server");
//     SimProcess& process = world.start(node, 1, [](std::span<Kernel* const> kernels) { return make_program(kernels); });
//     world.run_for(10 * nanos_per_second);
#pragma once

#include <cstdarg>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/reactor.hpp"
#include "tests/sim/sim_disk.hpp"
#include "tests/sim/sim_faults.hpp"
#include "tests/sim/sim_network.hpp"

namespace millrace::sim {

class SimProcess;

/// What runs in a process: it owns its reactors, one per kernel it was given. Destroyed when the process ends; after a
/// kill its kernels are dead by then (submissions vanish, nothing completes).
class SimProgram {
 public:
  virtual ~SimProgram() = default;
  virtual std::span<Reactor* const> reactors() = 0;
  /// True when the program has ended by itself.
  virtual bool finished() const { return false; }
  /// True when one of its threads has: that reactor gets no more turns.
  virtual bool shard_finished(std::size_t) const { return false; }
};
using ProgramFactory = std::function<std::unique_ptr<SimProgram>(std::span<Kernel* const> kernels)>;

/// How many times longer than usual a disk takes for each kind of operation: devices differ, and so does what overlaps.
struct DiskTempo {
  std::uint32_t durable_write = 1;
  std::uint32_t write = 1;
  std::uint32_t read = 1;
  std::uint32_t sync = 1;
  std::uint32_t other = 1;

  static DiskTempo draw(Random& random);
};

/// A write of a commit, by its first bytes, that came back failed.
struct FailedCommitWrite {
  std::uint32_t shard = 0;  // of the kernel that was asked: one a shard
  Nanos at = 0;
};

/// One machine: a disk, a wall clock, an address.
class SimNode {
 public:
  SimNode(std::uint64_t node_number, std::string node_name, std::string node_host)
      : number(node_number), name(std::move(node_name)), host(std::move(node_host)) {}

  const std::uint64_t number;
  const std::string name;
  const std::string host;  // "10.0.0.<number>"; every node is also its own 127.0.0.1
  SimDisk disk;
  bool powered = true;
  bool faulty_disk = true;  // disk faults strike here
  DiskTempo tempo;
  Nanos boot_at = 0;  // the monotonic clock counts from here
  // Wall clock = true time + offset + drift since drift_since, or frozen.
  Nanos wall_offset = 0;
  std::int64_t drift_ppm = 0;
  Nanos drift_since = 0;
  Nanos frozen_at = -1;
  // Power cuts and kills this node has had.
  std::uint64_t power_cuts = 0;
  std::uint64_t kills = 0;
  /// Called when the device has taken up a durable write: its bytes, and how long it will take.
  std::function<void(std::uint32_t bytes, Nanos latency)> on_durable_write;
  std::vector<FailedCommitWrite> failed_commits;
  std::vector<std::pair<Nanos, Nanos>> disk_full;  // from, to
  std::vector<Nanos> ends;                         // when a process here ended, whatever ended it
};

enum class EndReason : std::uint8_t { running, finished, killed, power_cut };

class SimWorld {
 public:
  SimWorld(std::uint64_t seed, const FaultPlan& plan);
  ~SimWorld();
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  Nanos now() const { return now_; }
  Nanos wall_now(const SimNode& node) const;
  /// What a perfect wall clock shows.
  Nanos true_wall() const;
  std::uint64_t seed() const { return seed_; }
  FaultInjector& faults() { return faults_; }
  SimNetwork& network() { return network_; }
  /// A random stream of its own.
  Random stream(std::string_view name, std::uint64_t number = 0) const {
    return Random(split_seed(seed_, name, number));
  }

  SimNode& add_node(const std::string& name);
  const std::vector<std::unique_ptr<SimNode>>& nodes() const { return nodes_; }
  SimProcess& start(SimNode& node, std::size_t shards, const ProgramFactory& factory);
  /// kill -9: what completed survives, what was in flight may or may not have happened.
  void kill(SimProcess& process);
  /// Every process of the node dies and its disk decides what was volatile. start() powers the node again.
  void power_cut(SimNode& node, CutProfile profile);
  /// SIGSTOP: the process does not run; the world goes on.
  void pause(SimProcess& process, Nanos duration);
  /// One shard's thread is not scheduled; the others run on.
  void stall(SimProcess& process, std::size_t shard, Nanos duration);
  /// The whole machine sleeps: as a pause, and its monotonic clock does not count it, while the wall clock does.
  void suspend(SimProcess& process, Nanos duration);
  /// Ends all of these.
  void resume(SimProcess& process);
  void jump_wall(SimNode& node, Nanos by);

  /// What a cheap event calls: `object` must live as long as the world.
  using Call = void (*)(void* object, std::uint64_t a, std::uint64_t b);
  void at(Nanos when, Call call, void* object, std::uint64_t a, std::uint64_t b);
  void at(Nanos when, std::function<void()> event);
  void after(Nanos delay, std::function<void()> event) { at(now_ + delay, std::move(event)); }

  /// Executes the next event; false when there is none (everything waits for ever).
  bool step();
  /// Steps until `limit` on the world's clock; time is `limit` afterwards. False when a livelock was found.
  bool run_for(Nanos duration);
  /// Steps until `done()`; false when `limit` more nanoseconds passed, nothing was left to do, or a livelock was found.
  bool run_until(const std::function<bool()>& done, Nanos limit);
  /// A shard that ran `spin_turns_max` turns in a row without any completion, or empty.
  const std::string& livelock() const { return livelock_; }
  static constexpr std::uint64_t spin_turns_max = 200'000;

  // The trace.
  void mix(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0);
  std::uint64_t trace_hash() const { return trace_hash_; }
  std::uint64_t events() const { return event_count_; }
  /// Lines go here when set.
  std::function<void(const std::string& line)> trace;
  bool tracing() const { return static_cast<bool>(trace); }
  void say(const char* format, ...) __attribute__((format(printf, 2, 3)));

  /// Draws from the fault's stream, records it, and shows it in the trace.
  bool strike(FaultClass fault, const SimNode& node);
  bool inject(FaultClass fault, const SimNode& node);

  /// (opcode, errno or 0) -> how often an operation completed so.
  std::map<std::pair<OperationCode, int>, std::uint64_t> outcomes;
  std::uint64_t operations = 0;
  std::uint64_t turns = 0;

  /// Asked before every file operation takes effect: 0 lets it happen, an errno fails it instead. For tests that fail, or
  /// end the world at, the nth one.
  std::function<int(SimNode& node, const Operation& operation)> before_file_operation;

  // For the kernels.
  /// Runs one turn of the shard at `when` or earlier.
  void schedule_turn(SimProcess& process, std::size_t shard, Nanos when);
  std::uint64_t next_number() { return ++last_number_; }

 private:
  struct Event {
    Nanos at;
    std::uint64_t sequence;
    Call call;
    void* object;
    std::uint64_t a;
    std::uint64_t b;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
    }
  };
  static void call_function(void* object, std::uint64_t, std::uint64_t);
  static void call_turn(void* object, std::uint64_t shard, std::uint64_t generation);
  void run_turn(SimProcess& process, std::size_t shard);
  void end(SimProcess& process, EndReason reason);

  const std::uint64_t seed_;
  Nanos now_ = 1'000'000'000;
  FaultInjector faults_;
  SimNetwork network_;
  Random turn_random_;
  Random cut_random_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::vector<std::unique_ptr<SimProcess>> processes_;
  std::vector<Event> queue_;  // a heap
  std::uint64_t last_event_ = 0;
  std::uint64_t last_number_ = 0;
  std::uint64_t event_count_ = 0;
  std::uint64_t trace_hash_ = 0;
  std::string livelock_;
};

/// One process on a node; it stays in the world after its end as a record of how it ended.
class SimProcess {
 public:
  SimProcess(SimWorld& world, SimNode& node, std::uint64_t number, std::size_t shards);
  ~SimProcess();

  SimNode& node() { return node_; }
  std::uint64_t number() const { return number_; }
  bool running() const { return reason_ == EndReason::running; }
  EndReason reason() const { return reason_; }
  SimProgram& program() { return *program_; }
  SimKernel& kernel(std::size_t shard) { return *kernels_[shard]; }

  // Descriptors are the process's: a connection accepted by one shard may be served by another.
  struct OpenFile {
    std::uint64_t number = 0;
    std::uint16_t flags = 0;
    InodePtr inode;
    SocketPtr socket;
  };
  std::int32_t add_descriptor(OpenFile file);
  OpenFile* descriptor(std::int32_t descriptor);
  void remove_descriptor(std::int32_t descriptor);
  std::size_t shards() const { return shards_.size(); }
  std::size_t open_descriptors() const { return files_.size(); }
  std::size_t descriptors_max = 100'000;

 private:
  friend class SimWorld;
  struct Shard {
    Nanos next_turn = wait_forever;
    Nanos stalled_until = 0;
    std::uint64_t generation = 0;
    std::uint64_t idle_turns = 0;
    std::uint64_t completions_seen = 0;
  };

  SimWorld& world_;
  SimNode& node_;
  const std::uint64_t number_;
  EndReason reason_ = EndReason::running;
  Nanos paused_until_ = 0;
  Nanos suspended_at_ = -1;
  std::vector<std::unique_ptr<SimKernel>> kernels_;
  std::vector<Shard> shards_;
  std::map<std::int32_t, OpenFile> files_;
  std::unique_ptr<SimProgram> program_;
};

}  // namespace millrace::sim
