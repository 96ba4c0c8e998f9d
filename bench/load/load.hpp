// The load itself: producers over one client, kept full or fed by the clock, and what came of it.
//
// Without a rate, requests are made where acknowledgements arrive, on the client's I/O thread: a connection always has `in_flight`
// requests under way. With a rate, a thread that sleeps between requests makes them at their times, and a request that finds no
// room counts as late from the time it should have been sent.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/load/options.hpp"
#include "bench/load/record_pattern.hpp"
#include "millrace/client.hpp"
#include "sdk/latency_histogram.hpp"

namespace millrace::load {

/// One acknowledged request: `count` records with numbers from `number` stand at offsets from `offset`.
struct Acknowledged {
  std::uint64_t number;
  std::uint64_t offset;
  std::uint32_t count;
};

struct Results {
  double seconds = 0;                // counted
  std::uint64_t records = 0;         // acknowledged within them
  std::uint64_t requests = 0;        // acknowledged within them
  LatencyHistogram latency;          // a sample a request
  std::uint64_t records_in_all = 0;  // acknowledged since the beginning, warm-up and end included
  std::uint64_t errors = 0;
  std::string first_error;
  std::uint64_t late = 0;    // requests that found no room at their time
  std::uint64_t unsent = 0;  // requests that were due before the end and never found room
  std::optional<double> server_cpu_seconds;
  double client_cpu_seconds = 0;
};

class Load {
 public:
  Load(Client& client, const Options& options, std::uint64_t run);
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  /// Makes the producers, all at once. Nothing when all are ready.
  std::optional<Problem> prepare();
  /// Runs warm-up and the counted seconds, then waits for what is under way.
  Results run();

  /// What the server acknowledged, by producer, in the order of their numbers (with `verify` only).
  const std::vector<Acknowledged>& acknowledged(std::size_t producer) const { return sources_[producer]->acknowledged; }
  std::size_t producers() const { return sources_.size(); }
  std::uint32_t stream_of(std::size_t producer) const {
    return static_cast<std::uint32_t>(producer % options_.streams);
  }
  std::string stream_name(std::uint32_t stream) const;

 private:
  /// More than a producer can have under way, so that a time is read before its place is used again.
  static constexpr std::size_t times_kept = 256;

  struct Source {
    Producer producer;
    std::uint32_t lane = 0;
    std::uint64_t requests = 0;  // begun
    std::atomic<std::uint64_t> commits{0};
    std::uint64_t number = 0;  // of the next record
    std::unique_ptr<std::int64_t[]> intended = std::make_unique<std::int64_t[]>(times_kept);
    std::vector<Acknowledged> acknowledged;
  };
  /// One connection: its sources take turns.
  struct Lane {
    explicit Lane(std::size_t record_bytes) : pattern(record_bytes) {}
    RecordPattern pattern;
    std::vector<std::uint32_t> sources;
    std::size_t next = 0;
    std::atomic<std::uint32_t> under_way{0};
  };

  void committed(std::uint32_t source, const Commit& commit);
  bool begin_request(Lane& lane, std::int64_t intended);
  void refill(Lane& lane);
  void feed(std::int64_t begin, std::int64_t end);
  void wait_for_rest();

  Client& client_;
  const Options options_;
  const std::uint64_t run_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<std::unique_ptr<Lane>> lanes_;

  std::atomic<bool> stopped_{false};
  std::atomic<std::uint64_t> late_{0};
  std::atomic<std::uint64_t> unsent_{0};
  std::atomic<bool> failed_{false};
  std::int64_t count_from_ = 0;
  std::int64_t count_until_ = 0;
  Results results_;
};

}  // namespace millrace::load
