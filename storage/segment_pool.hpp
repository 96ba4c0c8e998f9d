// Segments prepared ahead: files of segment_bytes that hold zeros in blocks already written, so that a commit into one needs
// no metadata journal. Made and kept up in the background: only while nothing is appended as long as more than a quarter of the
// pool is ready, else at twice the rate of what is appended. Expired segments are zeroed anew and used again. A file enters
// the pool only when its zeros and its name are durable; until then it is called NAME.tmp, and after a crash it is zeroed
// from the start.
//
// An empty pool gives a file of reserved, unwritten extents: they read as zeros too, and cost more to write. A full disk
// belongs here: out_of_space() until there is room for a segment and `reserve_bytes` more; looked at again every second.
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/place.hpp"

namespace millrace {

struct SegmentPoolOptions {
  std::string shard_directory;
  std::uint64_t segment_bytes = 128 * MiB;
  std::uint32_t segments = 2;  // kept prepared
  bool buffered = false;
};

/// What the pool needs to know of the log's load.
class PoolPressure {
 public:
  /// Bytes appended so far; only grows.
  virtual std::uint64_t appended_bytes() const = 0;
  /// Nobody waits for the log any more while it is being opened: what is being prepared is not wanted.
  virtual bool given_up() const { return false; }

 protected:
  ~PoolPressure() = default;
};

class SegmentPool {
 public:
  // Expired files that wait to be used again, beside what is kept ready; others are removed: a disk that is bounded by retention
  // holds so many segments more.
  static constexpr std::size_t recycled_max = 2;
  static constexpr std::uint64_t reserve_bytes = 4 * MiB;  // for seals, indexes and node.meta
  static constexpr std::size_t chunk_bytes = 256 * KiB;
  static constexpr Nanos look_again_after = nanos_per_second;

  SegmentPool(Reactor& reactor, SegmentPoolOptions options, const PoolPressure& pressure);
  Reactor& reactor() const { return reactor_; }

  /// Makes the directory and finds what is in it.
  Task<> open();
  /// Prepares one segment now, if there is none: the first start of a log. `cancelled` when the log is given up meanwhile.
  Task<> prepare_first();
  /// Begins to prepare in the background.
  void start();
  /// Ends when the background work has.
  Task<> stop();

  /// A segment under its final name, durably, open for direct writing. Errors: no_space and those of the operations.
  Task<File> take(SegmentKey key);
  /// A file that take() gave and nothing was written to.
  Task<> give_back(std::string path);
  /// An expired segment's file becomes a pool file, or goes. It has no readers.
  Task<> recycle(std::string path);

  bool out_of_space() const { return out_of_space_; }
  /// A take() can be expected to succeed.
  bool can_supply() const { return !ready_.empty() || !out_of_space_; }
  std::size_t ready() const { return ready_.size(); }
  std::uint64_t free_bytes() const { return free_bytes_; }
  std::uint64_t prepared_bytes() const { return prepared_bytes_; }
  /// As of a failed take().
  void note_out_of_space() { out_of_space_ = true; }
  /// Somebody freed space: look now.
  void look_now() { wake_.notify(); }

 private:
  Task<> run();
  Task<> prepare_one();
  Task<> prepare_file(std::string name, bool recycled);
  Task<> zero(File& file, bool recycled);
  Task<> zero_by_hand(File& file);
  Task<> pace();
  Task<bool> has_space();
  Task<> reserve_file(std::string path);
  Task<std::string> make_quickly();
  std::string path_of(std::string_view name) const;
  std::string new_name();

  Reactor& reactor_;
  const SegmentPoolOptions options_;
  const PoolPressure& pressure_;
  AlignedMemory zeros_;

  std::vector<std::string> ready_;
  std::vector<std::string> stale_;  // NAME.tmp: to be zeroed
  bool out_of_space_ = false;
  std::uint64_t free_bytes_ = 0;
  std::uint64_t prepared_bytes_ = 0;
  std::uint64_t paced_appended_ = 0;
  std::int64_t credit_ = 0;

  bool running_ = false;
  bool stopping_ = false;
  Signal wake_;
  Signal ended_;
};

}  // namespace millrace
