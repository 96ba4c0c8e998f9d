// Compares a data directory with a node that holds the same log: chains first, which takes one block a segment, then every byte by
// its hash. It reads only. `millrace verify --against` shows what it finds.
//
// The directory may be live, stopped or a copy; the node may be ahead or behind. Compared is what both have durably: every segment
// that is closed on both, whole, and of one that is written to what lies before the end of the last group that stands there.
// What differs while it is being written is looked at again before it is believed.
//
// Thread: the reactor's.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/kernel.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"

namespace millrace {

struct CompareOptions {
  Address node;
  bool buffered = false;
};

/// The first byte at which a segment differs.
struct Difference {
  ShardIndex shard{};
  std::string file;  // below the data directory
  std::uint64_t offset = 0;
  std::string what;
};

struct CompareProgress {
  std::string file;
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
};

class CompareVisitor {
 public:
  virtual void difference(const Difference& difference) = 0;
  virtual void progress(const CompareProgress& progress) = 0;

 protected:
  ~CompareVisitor() = default;
};

struct CompareReport {
  std::uint32_t shards = 0;
  std::uint64_t segments = 0;   // compared, as far as both have them
  std::uint64_t chains = 0;     // header blocks compared: each holds the chain up to it
  std::uint64_t bytes = 0;      // compared
  std::uint64_t not_there = 0;  // segments that the node has not got to yet
  std::uint64_t expired = 0;    // segments that the node does not keep any more
  std::uint64_t differences = 0;
};

/// On an error `complaint` is one sentence naming cause and cure.
Task<CompareReport> compare_directory(Reactor& reactor, std::string directory, CompareOptions options,
                                      CompareVisitor& visitor, std::string& complaint);

}  // namespace millrace
