// Inside recovery: the machine that SegmentRecovery hides. Its steps are spread over recovery.cpp (the first pass over the
// file), recovery_verdict.cpp (the decision) and recovery_resume.cpp (the second pass, after damage).
#pragma once

#include "storage/recovery.hpp"
#include "storage/tail_scan.hpp"

namespace millrace {

class SegmentRecovery::Machine {
 public:
  Machine(const RecoveryInput& input, RecoveryVisitor& visitor);

  bool done() const { return phase_ == Phase::done; }
  std::uint64_t wanted() const { return window_at_ + window_.size(); }
  void feed(std::uint64_t offset, Bytes bytes);
  const Verdict& verdict() const { return verdict_; }

 private:
  enum class Phase : std::uint8_t { header, prefix, probe, resume, done };

  // First pass. Each step returns false when it needs more bytes.
  bool step();
  bool read_header();
  bool read_group();
  bool probe_block();
  void stop_prefix(bool explained);
  void note_evidence(const GroupHeader& header);
  void keep_group(const GroupHeader& header, Bytes group);
  void visit(const PlacedBatch& batch, std::uint64_t position, BatchSource source);
  void refuse(RecoveryRow row, Error error);

  // The decision.
  void decide();
  void decide_open();
  void decide_headless();
  void decide_closed();
  void place_tail_group(TailGroup group, const LogEnd& after);
  void take_tail_after_gaps();
  void finish(RecoveryRow row);
  void begin_resume(RecoveryRow row, std::uint64_t from);

  // Second pass.
  bool resume();
  bool resume_group(const GroupHeader& header);
  bool resume_batch();
  bool join_tail_group();
  void stop_joining();
  void close_hole(std::uint64_t end, Lsn end_lsn, std::uint64_t record_bytes);
  void end_resume();

  /// Bytes of the file from x_ on, at least `bytes` of them or all that are left; empty when they must be fed first.
  Bytes at_least(std::uint64_t bytes) const;
  std::uint64_t in_flight_max() const;

  const RecoveryInput input_;
  RecoveryVisitor& visitor_;
  std::uint64_t limit_ = 0;  // where the file, or a closed segment's content, ends: a multiple of 4 KiB

  Verdict verdict_;
  Phase phase_ = Phase::header;
  std::vector<std::byte> window_;  // bytes of the file from window_at_ on
  std::uint64_t window_at_ = 0;
  std::uint64_t x_ = 0;  // where the next step looks
  LogEnd end_;           // behind the last batch kept

  TailScan tail_;
  Lsn durable_{};          // D so far, from groups and from whoever knows
  bool explained_ = true;  // what stands at P can come from a crash
  bool header_zero_ = false;
  std::uint64_t nonzero_end_ = 0;
  std::uint64_t first_group_behind_ = 0;  // first valid group header behind P; 0 = none
  Lsn first_group_lsn_{};                 // without a header: of the first group found
  Lsn groups_end_lsn_{};                  // largest end any valid group header states

  // Second pass.
  bool joining_ = false;             // batches still continue the last tail group
  std::uint64_t hole_begin_ = 0;     // everything before is accounted for
  bool hole_nonzero_ = false;        // something stands in the hole
  bool hole_has_header_ = false;     // and the group header it begins with verifies
  std::uint64_t covered_upto_ = 0;   // end of the last group whose header verifies
  std::uint64_t uncovered_ = 0;      // bytes of the hole that no such header covers
  std::uint64_t known_in_hole_ = 0;  // lost batches whose headers verify
  Lsn known_upto_{};
};

}  // namespace millrace
