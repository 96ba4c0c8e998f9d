// What a swarm runs: a plan drawn from the seed, clients made of the SDK's core, and the face of the server under test.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sdk/core/consumer_core.hpp"
#include "sdk/core/producer_core.hpp"
#include "tests/sim/history.hpp"
#include "tests/sim/session_driver.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::sim {

/// What a seed decides about size and shape; faults are drawn apart from it.
struct WorkloadPlan {
  std::uint32_t shards = 1;
  std::uint32_t clients = 1;
  std::uint32_t streams = 1;
  std::uint32_t producers_per_client = 1;
  std::uint32_t consumers_per_client = 1;
  std::uint32_t batch_bytes = 4096;
  std::uint32_t batch_records = 64;
  std::uint32_t record_bytes_max = 200;
  std::uint32_t in_flight = 4;
  std::uint32_t batches_queued = 4;
  Nanos linger = 0;
  std::uint64_t bytes_per_second_max = 512 * KiB;  // of all clients together
  Nanos pace = 1'000'000;                          // mean time between a producer's bursts
  std::uint32_t burst = 4;                         // records at once, at most
  std::uint64_t segment_bytes = 16 * MiB;
  std::uint64_t memory_bytes = 256 * MiB;  // of the server
  std::uint64_t tight_disk_bytes = 0;      // what the server's disk holds for the first part of the run; 0 = enough
  std::uint32_t retain_days = 0;
  std::uint64_t retain_bytes = 0;
  Nanos wall_offset = 0;   // of the server's clock at the start: shortly before midnight, for a day's end
  bool midnights = false;  // and again after most restarts
  Nanos length = 20'000'000'000;

  static WorkloadPlan draw(Random& random, bool wide);
  Nanos pace_min() const;
  std::string describe() const;
};

inline constexpr const char* server_data_path = "data";
inline constexpr std::uint16_t server_port = 7070;

/// What the servers of a run, one life after the other, say about themselves; outlives them.
struct ServerNotes {
  std::map<std::string, std::uint64_t> verdicts;  // recovery's words, counted
  std::uint64_t openings = 0;                     // of a shard, that ended well
  std::map<std::uint32_t, std::uint64_t> epochs;  // by shard: the newest a life has taken
  std::vector<std::string> violations;
  std::string complaint;  // why the last life ended by itself, for a person; empty = it was asked to
  std::function<void(const std::string& line)> say;
};

/// The server under test as one process. Its reactors are one per shard thread.
class ServerProgram : public SimProgram {
 public:
  /// Begins a clean stop (SIGTERM); finished() when it is done.
  virtual void stop() = 0;
  /// True once it accepts connections.
  virtual bool serving() const = 0;
};
using ServerFactory = std::function<std::unique_ptr<ServerProgram>(std::span<Kernel* const> kernels,
                                                                   const WorkloadPlan& plan, ServerNotes& notes)>;

/// The shipped server: server/server.hpp on simulated kernels.
std::unique_ptr<ServerProgram> make_shipped_server(std::span<Kernel* const> kernels, const WorkloadPlan& plan,
                                                   ServerNotes& notes);

/// Everything clients of one run share; outlives them.
struct WorkloadShared {
  SimWorld& world;
  const WorkloadPlan& plan;
  HistoryRecorder& recorder;
  Ledger& ledger;
  std::string server_host;
  bool appending = true;                // producers go on appending
  std::vector<std::string> violations;  // what clients themselves found wrong
  std::uint64_t producer_failures = 0;
  std::uint64_t consumer_failures = 0;
  std::uint64_t connections = 0;
  std::string stream_name(std::uint32_t number) const { return "stream-" + std::to_string(number); }
  void violation(std::string text);
};

/// A client process: one session a shard, producers and following consumers spread over the streams.
class ClientProgram final : public SimProgram {
 public:
  ClientProgram(std::span<Kernel* const> kernels, WorkloadShared& shared, std::uint64_t seed);
  ~ClientProgram() override;
  std::span<Reactor* const> reactors() override { return reactors_; }
  /// Nothing appended is without an answer.
  bool settled() const;

  class Producing;
  class Consuming;

 private:
  friend class Producing;
  friend class Consuming;
  struct Line;  // a session with its driver and users
  Line& line_for(const std::string& stream);

  WorkloadShared& shared_;
  Random random_;
  std::vector<std::unique_ptr<Line>> lines_;  // by shard
  std::vector<std::unique_ptr<Producing>> producing_;
  std::vector<std::unique_ptr<Consuming>> consuming_;
  std::unique_ptr<Reactor> reactor_;  // destroyed first: its frames refer to what stands above
  std::vector<Reactor*> reactors_;
};

/// A client process that reads every stream from its beginning to its end, once, and then ends.
class ReaderProgram final : public SimProgram {
 public:
  struct Outcome {
    bool read = false;
    std::string error;  // name of the error it ended with, if any
    std::uint64_t first = 0;
    std::uint64_t next = 0;
    std::uint64_t records = 0;
  };
  ReaderProgram(std::span<Kernel* const> kernels, WorkloadShared& shared, std::vector<Outcome>& outcomes);
  ~ReaderProgram() override;
  std::span<Reactor* const> reactors() override { return reactors_; }
  bool finished() const override;

  struct Reading;

 private:
  std::vector<std::unique_ptr<Reading>> readings_;
  std::unique_ptr<Reactor> reactor_;
  std::vector<Reactor*> reactors_;
};

}  // namespace millrace::sim
