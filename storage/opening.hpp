// Opening a log for writing: everything between a directory and a log that takes appends. The decisions are recovery's
// (storage/recovery, pure); here is the I/O around them, in the one order that survives a crash between any two steps:
//
//   sync what will be read → find the newest segment that was begun → tables as of some segment, and what came since → scan it
//   → copy what must go to quarantine, zero it, sync → take the new epoch durably → close the tail's group anew
//
// Nothing is ever deleted, and a log that is not what it should be (a foreign, doubled or missing segment) is refused with a
// sentence that says what and where. Thread: the shard's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reactor/file.hpp"
#include "storage/log.hpp"
#include "storage/log_writer.hpp"
#include "storage/node_meta_file.hpp"
#include "storage/place.hpp"
#include "storage/read_view.hpp"
#include "storage/recovery.hpp"
#include "storage/tables.hpp"

namespace millrace {

/// A segment file with its name, begun or not.
struct NamedSegment {
  SegmentKey key{};
  File file;
  std::uint64_t file_bytes = 0;
  std::vector<std::uint64_t> borders;  // of its extents, see File::borders()
};

struct OpenedLog {
  Epoch epoch{};
  Lsn next_lsn{1};
  Chain chain{};
  std::uint64_t next_slot = 1;
  File tail;
  std::uint64_t ring_bytes = 0;

  bool begun = false;  // there was a segment; the next four are its
  NamedSegment last;
  SegmentHeader header;
  SegmentEnd end;
  bool in_view = false;         // the view has it as the open one
  bool resume = false;          // appends go on in it, at end.length
  bool index_is_ahead = false;  // although the index describes it: what was derived of its day is removed first

  std::optional<NamedSegment> spare;  // the named successor, all zeros
  std::vector<NamedSegment> surplus;  // more such behind it: a crash came before the spare was begun
  bool sealed = false;                // the last batch is a seal
  bool finished = false;              // and its day's finish file verifies
  SegmentKey first_kept{};            // oldest segment
  Lsn first_lsn{1};                   // its first batch
  std::uint64_t days = 0;
  std::vector<DamagedRange> lost;  // all ranges known to be gone
  bool loss_is_new = false;        // the epoch batch must tell of [lost_first, lost_end)
  Lsn lost_first{};
  Lsn lost_end{};
  std::uint64_t offset_bump = 0;

  // A copy (LogOptions::follow): batches that stand only in the tail, unapplied, behind end, next_lsn and chain.
  bool copy_damaged = false;  // nothing is written any more
  PendingGroup pending;
  std::vector<GroupMark> groups;  // of the last segment
  Lsn leader_durable{1};          // below it everything was durable at the leader, say the groups that were read
};

/// What is in a day's directory.
struct DayFiles {
  std::vector<std::uint32_t> segments;  // ascending
  bool has_finish = false;
};

/// Days of a shard's directory, ascending; other names are passed over.
Task<std::vector<Day>> list_days(Reactor& reactor, std::string shard_directory);
Task<DayFiles> list_day(Reactor& reactor, std::string shard_directory, Day day);

class Opening final : private RecoveryVisitor {
 public:
  static constexpr std::size_t feed_bytes = 1 * MiB;

  /// All references outlive the task of run(). `view` is begun and fed here; ready() is the caller's.
  Opening(Reactor& reactor, const LogOptions& options, ShardMeta& meta, Tables& tables, ReadView& view,
          OpeningReport& report);
  Reactor& reactor() const { return reactor_; }

  /// On an error report.diagnosis says what and where.
  Task<OpenedLog> run();

 private:
  struct Candidate {
    NamedSegment segment;
    std::optional<SegmentHeader> header;  // when its block verifies
    bool has_bytes = false;               // its block is not all zeros
  };

  void group(const GroupHeader& header, Bytes bytes) override;
  void batch(const FoundBatch& found) override;
  void lost_batch(const BatchHeader& header, std::uint64_t position) override;
  void lost(const LostRange& range) override;
  std::uint64_t bump_for_lost_headers() const;
  void begin_nameless(Lsn first);

  Task<> open_tail();
  Task<> create_tail();
  Task<> read_tail();
  Task<> find_candidates();
  Task<> find_first_kept();
  SegmentKey dropped_before() const;
  Task<> add_candidates(Day day, const std::vector<std::uint32_t>& numbers);
  Task<Candidate> look_at(SegmentKey key);
  Task<> settle_files();
  Task<> load_tables();
  Task<> replay_closed(SegmentKey from, SegmentKey to);
  Task<> scan_newest();
  Task<Verdict> scan(NamedSegment& segment, RecoveryInput input);
  Task<> check_previous();
  Task<> act_on(Verdict verdict, Candidate& candidate);
  Task<> cut(NamedSegment& segment, std::uint64_t begin, std::uint64_t end, Lsn lsn);
  Task<> close_tail_groups(const Verdict& verdict, File& file);
  void hold_pending(Verdict& verdict);
  bool was_led(Epoch epoch) const { return epoch_led(epochs_led(meta_.slot()), epoch); }
  void step_before_pending();
  Task<> check_finish();
  void note_unreadable(const std::string& path, std::uint32_t blocks);
  Error refuse(Error error, std::string diagnosis);
  std::string path_of(SegmentKey key) const { return segment_path(options_.directory, key); }

  Reactor& reactor_;
  const LogOptions& options_;
  ShardMeta& meta_;
  Tables& tables_;
  ReadView& view_;
  OpeningReport& report_;

  OpenedLog opened_;
  AlignedMemory buffer_;
  AlignedMemory tail_bytes_;
  std::vector<Day> days_;
  std::vector<GroupMark> scanned_groups_;  // of the segment scanned last
  std::vector<Candidate> candidates_;      // from the newest begun segment on, ascending
  bool described_ = false;                 // the index has a run of the newest begun segment: it was closed
  SegmentKey derive_from_{};               // closed segments from here on get their runs anew
  bool feeding_view_ = false;              // batches come from the segment that stays open
  std::optional<SegmentKey> nameless_;     // being scanned without a readable header
  std::map<StreamId, Offset> lost_upto_;   // where batches end that are lost, and whose headers still verify
  bool replay_failed_ = false;
  BatchKind last_kind_ = BatchKind::data;
};

}  // namespace millrace
