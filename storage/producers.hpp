// Exactly once: which batches of which producer a shard has stored lately. A pure function of the log.
//
// Per (producer, stream) the last 64 batches are remembered with their positions, so that a repeat is answered with the
// place of the first copy. Sequences are dense from 0 under each epoch of a producer. At most producers_max producers and
// windows_max (producer, stream) pairs are known; the producer unused longest leaves, whole.
// Memory: windows grow 4, 16, 64; nothing is allocated once a window is full.
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "storage/state_rows.hpp"

namespace millrace {

inline constexpr std::size_t producers_max = 65'536;
inline constexpr std::size_t windows_max = 65'536;

struct KnownProducer {
  ProducerId id{};
  std::uint32_t epoch = 0;
  Lsn last_lsn{};
  std::uint32_t first_window = UINT32_MAX;  // of its list
  std::uint32_t older = UINT32_MAX;         // in order of use
  std::uint32_t newer = UINT32_MAX;
  bool known = false;

  std::uint32_t touched = 0;  // as in Stream
  bool saved = false;
};

struct Window {
  ProducerId producer{};
  StreamId stream{};
  std::uint32_t epoch = 0;
  Lsn last_lsn{};
  std::uint64_t next_sequence = 0;
  std::uint32_t count = 0;           // batches remembered
  std::vector<WindowBatch> batches;  // sequence s stands at s % capacity; capacity is a power of two
  std::uint32_t next_of_producer = UINT32_MAX;
  bool known = false;

  std::uint32_t touched = 0;  // as in Stream
  bool saved = false;
};

/// What the dedupe says about a batch that is not stored yet.
struct DedupeVerdict {
  enum class Kind : std::uint8_t { fresh, repeat, refused } kind = Kind::fresh;
  Error error{};                      // refused
  std::uint64_t detail = 0;           // out_of_order: the sequence expected; fenced: the epoch
  WindowBatch first_copy{};           // repeat
  std::uint32_t window = UINT32_MAX;  // fresh: the window, none = it is the producer's first batch on the stream
  std::uint32_t producer = UINT32_MAX;
};

class Producers {
 public:
  static constexpr std::uint32_t none = UINT32_MAX;

  Producers();

  /// Changes nothing.
  DedupeVerdict check(ProducerId id, std::uint32_t epoch, StreamId stream, std::uint64_t sequence) const;
  /// The batch was stored. Returns the window's number; creates window and producer when the log says they exist.
  std::uint32_t stored(ProducerId id, std::uint32_t epoch, StreamId stream, std::uint64_t sequence, WindowBatch batch);
  /// `epoch` of `id` counts from now on; older ones are fenced. Returns the producer's number.
  std::uint32_t set_epoch(ProducerId id, std::uint32_t epoch, Lsn lsn);
  /// Current epoch, 0 = unknown.
  std::uint32_t epoch(ProducerId id) const;
  /// Numbers, or none.
  std::uint32_t find(ProducerId id) const;
  std::uint32_t find(ProducerId id, StreamId stream) const;

  /// Rows of a state file, run or state batch. Call finish_rows() behind the last one: rows come in any order of use.
  std::uint32_t put(const ProducerRow& row);
  std::uint32_t put(const WindowRow& row);
  void finish_rows();

  WindowRow row(const Window& window) const;
  /// Rows of those numbered [begin, end) that are known, sorted.
  void write_window_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const;
  void write_producer_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const;

  std::size_t producer_count() const { return producers_by_id_.size(); }
  std::size_t window_count() const { return windows_by_key_.size(); }
  std::vector<KnownProducer>& producers() { return producers_; }
  const std::vector<KnownProducer>& producers() const { return producers_; }
  std::vector<Window>& windows() { return windows_; }
  const std::vector<Window>& windows() const { return windows_; }

 private:
  struct Key {
    ProducerId producer{};
    StreamId stream{};
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept {
      return (key.producer.value * 0x9e3779b97f4a7c15ull) ^ key.stream.value;
    }
  };

  std::uint32_t find_or_add_producer(ProducerId id);
  std::uint32_t find_or_add_window(std::uint32_t producer, StreamId stream);
  void use(std::uint32_t producer, Lsn lsn);
  void link_newest(std::uint32_t producer);
  void unlink(std::uint32_t producer);
  void evict(std::uint32_t producer);
  bool evict_oldest_but(std::uint32_t producer);
  static void remember(Window& window, WindowBatch batch);

  std::vector<KnownProducer> producers_;
  std::vector<Window> windows_;
  std::vector<std::uint32_t> free_producers_;
  std::vector<std::uint32_t> free_windows_;
  std::unordered_map<ProducerId, std::uint32_t> producers_by_id_;
  std::unordered_map<Key, std::uint32_t, KeyHash> windows_by_key_;
  std::uint32_t oldest_ = none;
  std::uint32_t newest_ = none;
  bool loading_ = false;  // rows are put: limits hold again after finish_rows()
};

}  // namespace millrace
