// Lives of a real Log on a simulated machine, for tests of what stands on disk afterwards: the index, the state file, a directory
// read by somebody else. What was appended and became durable is remembered.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "storage/log.hpp"
#include "storage/reader.hpp"
#include "tests/sim/sim_program.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace::test {

struct LogLife {
  LogOptions options;
  OpeningReport report;
  std::unique_ptr<Log> log;
  std::function<Task<>(Reactor&, LogLife&)> work;
  bool stop = true;
  bool ended = false;
  std::string trouble;  // empty = none
};

LogOptions small_log_options();

/// Makes the data directory where there is none, and opens the log in it.
Task<std::unique_ptr<Log>> open_in_data(Reactor& reactor, LogOptions options, OpeningReport& report);

/// Opens the log, does the work, stops it (or not).
Task<> live_once(Reactor& reactor, LogLife& life);

/// Runs the life to its end on the node; its trouble is the test's.
void run_life(sim::SimWorld& world, sim::SimNode& node, LogLife& life);

/// Appends `batches` of `body_bytes` to `streams` streams in turn, with a producer each, and waits until they are durable.
Task<> append_batches(Reactor& reactor, Log& log, std::uint64_t batches, std::uint32_t body_bytes,
                      std::uint64_t streams, std::map<StreamId, std::uint64_t>& sequences);

/// Waits until no closed segment's run is missing in the index.
Task<> wait_indexed(Reactor& reactor, Log& log);

/// Every stream of the log, read from its earliest record to the end: the headers' lsns by stream.
Task<std::map<std::uint64_t, std::vector<std::uint64_t>>> read_all_streams(Log& log);

// ---- Damage.

/// Where the last batch before `end` stands in the segment file at `path`; 0 = there is none.
std::uint64_t last_batch_in(sim::SimNode& node, const std::string& path, std::uint64_t end = UINT64_MAX);
/// Flips a bit of the byte at `position` on the medium.
void flip_bit(sim::SimNode& node, const std::string& path, std::uint64_t position);

}  // namespace millrace::test
