// What verify keeps while it walks a shard's batches in order: where each stream stands, the totals of the day, the entries the
// open segment's index run must have. Pure; one thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "storage/index_unit.hpp"
#include "storage/place.hpp"
#include "storage/recovery.hpp"
#include "storage/verify.hpp"

namespace millrace {

struct CheckedStream {
  std::string name;
  Offset next_offset{};
  Offset day_begin{};  // next_offset when the day began
  bool begin_known = false;
};

/// A closed segment as its index run must describe it.
struct CheckedRun {
  SegmentKey key{};
  Id128 segment_id{};
  Lsn first_lsn{};
  Lsn end_lsn{};
  Chain chain{};
  Nanos first_time = 0;
  Nanos last_time = 0;
  std::map<StreamId, std::vector<RunEntry>> entries;  // sorted as the run is
  std::map<StreamId, StreamRun> streams;
};

struct DayTotals {
  std::uint64_t batches = 0;  // the seal not counted
  std::uint64_t records = 0;
  std::uint64_t body_bytes = 0;
  bool sealed = false;
  bool whole = false;  // the day was seen from its beginning, without a loss
  Lsn end_lsn{};       // after the seal
  Chain chain{};
};

class LogCheck final : public RecoveryVisitor {
 public:
  using Report = std::function<void(Damage)>;

  explicit LogCheck(ShardIndex shard) : shard_(shard) {}

  void begin_day(Day day, bool from_its_beginning);
  /// Batches and losses that follow are of this file. `report` is called during the visits and ends with end_segment().
  void begin_segment(SegmentKey key, std::string file, Report report);
  /// The run the segment must have; `verdict` is the recovery's that visited.
  CheckedRun end_segment(const Verdict& verdict);

  void batch(const FoundBatch& found) override;
  void lost_batch(const BatchHeader& header, std::uint64_t position) override;
  void lost(const LostRange& range) override;

  const DayTotals& day() const { return day_; }
  const std::unordered_map<StreamId, CheckedStream>& streams() const { return streams_; }
  std::uint64_t tail_batches() const { return tail_batches_; }

 private:
  void tell(DamageKind kind, std::uint64_t position, std::uint64_t bytes, const BatchHeader& header, std::string what);
  void check_data(const FoundBatch& found);
  void check_control(const FoundBatch& found);
  void check_catalogue(const FoundBatch& found);
  void check_state(const FoundBatch& found);
  void check_seal(const FoundBatch& found);
  void note_entry(const FoundBatch& found);
  void bump_offsets(std::uint64_t by);

  ShardIndex shard_;
  std::unordered_map<StreamId, CheckedStream> streams_;
  DayTotals day_;
  Day day_number_{};
  Nanos last_time_ = 0;
  bool any_ = false;
  Lsn next_lsn_{};
  Offset offset_floor_{};   // where streams created now begin
  bool lost_some_ = false;  // offsets may jump once a stream after this
  std::uint64_t tail_batches_ = 0;
  CheckedRun run_;
  std::string file_;
  Report report_;
};

}  // namespace millrace
