// One script of a log's life on a quiet simulated machine: the same batches, at the same moments, over a midnight. Tests run
// it again and again and let another one of its file operations fail, or be the last. What the log said about each batch is
// kept outside, so that a later life can be held to it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "storage/log.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace::test {

/// What was appended and what the log said of it.
class ScriptBook final : public LogListener {
 public:
  struct Sent {
    Hash128 body_hash{};
    std::uint64_t offset = 0;
    bool durable = false;
  };
  void appended(const AppendPosition& at, StreamId stream, const Hash128& body_hash);
  void log_durable(Lsn durable) override;
  void log_failed() override;
  /// Holds what a life read to what was promised: everything durable where it was said to stand, in order, nothing twice, and
  /// nothing that nobody appended. Goes to `wrong`.
  void check(StreamId stream, const std::vector<BatchHeader>& found);

  std::map<std::uint64_t, std::vector<Sent>> streams;
  std::uint64_t durable = 0;
  std::uint64_t failures = 0;
  std::vector<std::string> wrong;

 private:
  struct Waiting {
    Lsn lsn;
    std::uint64_t stream;
    std::size_t index;
  };
  std::vector<Waiting> waiting_;
};

struct ScriptLife {
  LogOptions options;
  ScriptBook* book = nullptr;
  int batches = 0;     // to append
  bool check = false;  // read everything first
  OpeningReport report;
  bool opened = false;
  bool ended = false;  // it stopped the log
};

LogOptions script_options();
/// The whole life: opens, checks, appends, stops. Whatever fails ends it early.
Task<> live_script(Reactor& reactor, ScriptLife& life);

/// A machine with an empty disk whose clock stands shortly before midnight.
struct ScriptWorld {
  explicit ScriptWorld(std::uint64_t seed);
  sim::SimProcess& start(ScriptLife& life);
  /// Runs a life to its end; false when it hangs.
  bool run(ScriptLife& life);
  sim::SimWorld world;
  sim::SimNode& node;
};

}  // namespace millrace::test
