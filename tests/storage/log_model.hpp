// A model of one segment, its tail and a disk that forgets: writes are in flight until the model completes them, and a
// crash keeps any subset of the 512-byte sectors of those in flight. It follows FORMAT.md's rules for who writes what when,
// and remembers every batch, so that a test can compare what recovery finds with what was there.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "storage/group.hpp"
#include "storage/recovery.hpp"
#include "storage/tail_slot.hpp"

namespace millrace::test {

inline constexpr std::size_t sector = 512;

/// What a disk holds at one instant.
struct Image {
  std::vector<std::byte> segment;
  std::vector<std::byte> tail;
  bool operator==(const Image&) const = default;
};

struct Write {
  bool to_tail = false;
  std::uint64_t offset = 0;
  std::vector<std::byte> bytes;
  Lsn end_lsn;                   // durable when this and all before are
  std::uint64_t group_end = 0;   // segment writes: end of the group
  std::uint64_t slot_begin = 0;  // tail writes that hold bytes: which part of the group
  bool done = false;
};

struct ModelOptions {
  std::uint64_t file_bytes = 512 * KiB;
  std::uint64_t ring_bytes = 64 * KiB;
  std::uint64_t in_flight_max = 128 * KiB;
  std::size_t slots_in_flight = 4;
};

class LogModel {
 public:
  LogModel(std::uint64_t seed, ModelOptions options = {});

  // One step of the log's life each. They do nothing when the rules do not allow them.
  void append(std::size_t body_bytes);
  bool flush_to_tail();
  bool flush_to_segment();
  bool record_durable_end();
  void complete(std::size_t which);  // of those in flight
  void complete_all();
  void random_steps(std::size_t steps);

  /// What a power cut now leaves: in-flight sectors with this probability each.
  Image crash(double persisted);
  /// Takes over what recovery said and did: a new life in a new epoch on `image`.
  void reopen(const Image& image, const Verdict& verdict);

  RecoveryInput input(const Image& image) const;
  Lsn durable() const { return durable_; }
  Lsn appended() const { return next_lsn_; }
  const std::map<std::uint64_t, std::vector<std::byte>>& batches() const { return batches_; }
  const std::vector<EpochRange>& led() const { return led_; }
  std::size_t in_flight() const { return flying_.size(); }
  const std::vector<Write>& flying() const { return flying_; }
  Id128 segment_id() const { return {11, 22}; }
  std::mt19937_64& random() { return random_; }

 private:
  void write_slot(std::uint32_t length, MutableBytes slot);
  void submit(Write write);
  void apply(const Write& write, Image& image, double persisted);
  void advance_durable();
  std::uint64_t durable_group_end() const;
  bool ring_has_room(std::uint64_t span);

  std::mt19937_64 random_;
  ModelOptions options_;
  std::vector<EpochRange> led_;
  Epoch epoch_{1};

  Image disk_;  // what is durable
  std::vector<Write> flying_;
  std::map<std::uint64_t, std::vector<std::byte>> batches_;

  Lsn next_lsn_{1};
  Chain chain_;
  Lsn durable_{1};
  bool header_written_ = false;
  SegmentHeader header_;
  std::vector<std::byte> pending_;  // of the open group, from its first batch on
  std::uint64_t group_at_ = block_bytes;
  Lsn group_lsn_{1};
  Chain group_chain_;
  std::uint32_t group_batches_ = 0;
  std::uint64_t slotted_ = 0;  // bytes of pending_ that slots hold
  Lsn slotted_lsn_{1};
  Chain slotted_chain_;
  std::uint64_t ring_at_ = 0;
  std::uint64_t slot_number_ = 0;
  struct LiveSlot {
    std::uint64_t begin, end, group;
  };
  std::vector<LiveSlot> live_;           // slots whose bytes are not durable in the segment
  std::uint64_t durable_group_end_ = 0;  // in the segment
};

/// Runs a recovery over an image, in pieces of `feed` bytes, and keeps what it visited.
struct Recovered : RecoveryVisitor {
  Verdict verdict;
  std::map<std::uint64_t, std::vector<std::byte>> batches;
  std::map<std::uint64_t, BatchSource> sources;
  std::vector<BatchHeader> lost_headers;
  std::vector<LostRange> ranges;
  bool in_order = true;

  Recovered(const RecoveryInput& input, Bytes segment, std::size_t feed = MiB);
  void batch(const FoundBatch& found) override;
  void lost_batch(const BatchHeader& header, std::uint64_t) override { lost_headers.push_back(header); }
  void lost(const LostRange& range) override { ranges.push_back(range); }
};

/// The writes that a verdict asks for: zeros over the cut range, then tail groups closed anew.
std::vector<Write> writes_of(const Verdict& verdict, Epoch epoch);
void apply_whole(const std::vector<Write>& writes, Image& image);
/// Any subset of the sectors of `write`.
void apply_torn(const Write& write, Image& image, double persisted, std::mt19937_64& random);

/// One batch: header and body and padding; `body_bytes` of any bytes.
std::vector<std::byte> make_batch(Lsn lsn, Chain before, std::size_t body_bytes, std::mt19937_64& random, Chain& after);

}  // namespace millrace::test
