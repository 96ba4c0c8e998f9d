// Where appended batches stand and how they get to disk: the open group in memory, the segment it belongs to, and the writes
// in flight. It lays batches out, asks the Committer what to do at the end of a turn, and does it.
//
// It knows nothing of streams, days and producers. Its owner hands it completed batches and segments, and is told what became
// durable, which groups reached the segment, and that a write failed (then nothing more is written, ever).
// Thread: the shard's. append() allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/committer.hpp"
#include "storage/group.hpp"
#include "storage/place.hpp"
#include "storage/segment_header.hpp"
#include "storage/staging.hpp"
#include "storage/tail_slot.hpp"
#include "storage/watermarks.hpp"

namespace millrace {

/// A segment that takes, or took, batches.
struct WriterSegment {
  SegmentKey key{};
  SegmentHeader header;
  File file;  // open once attached
  bool attached = false;
  std::vector<std::uint64_t> borders;  // no write goes across one: File::borders()
  std::uint64_t end = 0;               // file offset behind the last closed group
};

class WriterOwner {
 public:
  /// In the turn's end hook, once a turn at most.
  virtual void writer_durable(Lsn durable) = 0;
  /// Everything of the segment up to `end` stands in its file, durably.
  virtual void writer_moved(const WriterSegment& segment, std::uint64_t end) = 0;
  virtual void writer_failed(Error error) = 0;
  /// What append() returned inside this memory is about to be overwritten.
  virtual void writer_reuses(Bytes memory) = 0;
  /// Bytes of a group are on their way to the device: submitted() has them.
  virtual void writer_submitted() {}

 protected:
  ~WriterOwner() = default;
};

struct WriterStats {
  std::uint64_t slot_writes = 0;
  std::uint64_t group_writes = 0;
  std::uint64_t end_writes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t short_writes = 0;
  Nanos commit_max = 0;
  Nanos commit_total = 0;
};

struct WriterStart {
  Epoch epoch{};
  Lsn next_lsn{1};
  Chain chain{};
  std::uint64_t next_slot = 1;
  std::uint64_t ring_bytes = tail_ring_bytes_default;
  CommitSizes commit_sizes{};
  bool separate_sync = false;  // fdatasync after each write instead of one DSYNC write
  bool follows = false;        // groups and segments are closed by a leader, their headers are its
};

/// Bytes of a group that is not in its segment durably yet, as they were submitted.
struct SubmittedGroup {
  SegmentKey key{};
  const SegmentHeader* segment = nullptr;
  std::uint64_t offset = 0;
  bool closed = false;  // the header in front is final
  Lsn first{};
  Chain before{};
  Bytes bytes;  // from the group's header on; good until the end of this turn
};

/// An open group of a copy, as its slots have it.
struct PendingGroup {
  std::uint64_t offset = 0;
  std::uint64_t ring_next = 0;  // as HeldGroup
  std::uint64_t ring_live = 0;
  Lsn first{};
  Chain before{};
  std::vector<std::byte> batches;
};

class LogWriter final : private TurnHook {
 public:
  /// `tail` is the tail's file, open for direct writing.
  LogWriter(Reactor& reactor, Staging& staging, WriterOwner& owner, File tail, const WriterStart& start);
  /// Nothing may be in flight any more, or the kernel is gone.
  ~LogWriter();

  // ---- Segments. ----

  /// The open group, if it holds anything, is closed; from now on no batch goes to the current segment. Returns its length.
  std::uint64_t end_segment();
  bool has_segment() const { return segment_ != nullptr; }
  const WriterSegment& segment() const { return *segment_; }
  /// Batches go to this segment from now on. Its previous_* fields are the caller's; first_lsn is filled here. The file may come
  /// later: until then nothing of it is written.
  void begin_segment(SegmentKey key, SegmentHeader header);
  /// Takes the memory that the next begin_segment() needs.
  void prepare_segment();
  void attach(File file, std::vector<std::uint64_t> borders);
  /// Goes on behind what recovery found.
  void resume_segment(SegmentKey key, const SegmentHeader& header, File file, std::vector<std::uint64_t> borders,
                      std::uint64_t end);

  // ---- Batches. ----

  enum class Room : std::uint8_t { ready, segment_full, no_memory };
  /// Makes place for `span` bytes of batches that belong in one group. `reserve`: the end of the segment may be used (seal).
  Room make_room(std::uint64_t span, bool reserve);
  /// File position the next batch gets; after make_room() said ready.
  std::uint64_t position() const { return open_offset_ + open_bytes_; }
  /// Bytes of the open group so far, its header included; 0 = none is open.
  std::uint64_t open_bytes() const { return open_ ? open_bytes_ : 0; }
  std::uint64_t open_offset() const { return open_offset_; }
  /// Batches of the open group so far.
  Bytes open_batches() const {
    const Group& opened = groups_[(next_group_ - 1) % Committer::groups_max];
    return open_ ? Bytes(opened.buffer.group + group_header_bytes, open_bytes_ - group_header_bytes) : Bytes{};
  }
  /// Takes the batch `header` + `body` at position(). Sets nothing in the header: chain and checksum are in it.
  /// Returns header, body and padding where they stand now: until writer_reuses() names that memory.
  Bytes append(const BatchHeader& header, Bytes body);

  // ---- A copy (WriterStart::follows). ----

  /// Fresh: the first batch will be this one.
  void begin_at(Lsn first, Chain chain);
  /// Fresh, with its segment resumed: room for what the slots hold of the open group. The caller appends it, then calls resumed().
  Room resume_group(const PendingGroup& pending);
  /// What was appended since is durable already.
  void resumed(const PendingGroup& pending);
  /// What the leader's header says of the open group so far, if it is closed after `more` batches that end with `chain`.
  GroupHeader expected_header(std::uint32_t more, std::uint64_t more_bytes, Chain chain) const;
  /// The leader closed the open group with this header.
  void close_group(const GroupHeader& header);
  /// Slots say so from now on.
  void set_epoch(Epoch epoch) { epoch_ = epoch; }

  // ---- For followers of this log. ----

  /// The group that stands at `offset`, while its memory is kept; nothing before anything of it was submitted.
  std::optional<SubmittedGroup> submitted(SegmentKey key, std::uint64_t offset) const;

  // ---- Durability. ----

  /// What the tail holds goes to the segment, and everything after it.
  void move_tail();
  bool settled() const { return committer_.settled(); }
  /// No group of a segment up to `key` still has to reach its file.
  bool settled(SegmentKey key) const;
  bool failed() const { return committer_.failed(); }
  bool idle() const { return writes_in_flight_ == 0; }
  const Watermarks& marks() const { return marks_.marks(); }
  Chain chain() const { return chain_; }
  const WriterStats& stats() const { return stats_; }
  /// Bytes appended and not in the segment yet.
  std::uint64_t staged_bytes() const { return staged_bytes_; }
  /// Nothing is written any more and nobody is told anything: the log is going away.
  void silence() { silent_ = true; }

 private:
  void tell_reused(const GroupBuffer& buffer);
  struct Group {
    GroupBuffer buffer;
    std::shared_ptr<WriterSegment> segment;
    bool first_of_segment = false;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint32_t batches = 0;
    std::uint64_t submitted = 0;       // bytes on their way, or there
    bool final = false;                // the header stands in front
    std::optional<GroupHeader> given;  // the leader's
    Lsn first{};
    Chain before{};
    Chain after{};
  };
  struct Write {
    LogWriter* writer = nullptr;
    Operation operation;
    CommitAction action;
    std::uint32_t rest = 0;  // bytes behind those of `operation`, beyond a border: the next piece
    Nanos begun = 0;
    bool syncing = false;
    std::uint32_t attempts = 0;
  };

  void turn_ended() override;
  void step(const CommitEvent& event);
  void perform(const CommitAction& action);
  void open_group(std::uint64_t bytes);
  bool fits_group(std::uint64_t span) const;
  void close_group();
  void freeze_group(Group& group);
  void finish_group(Group& group, Lsn durable_upto);
  void write_group(const CommitAction& action);
  void write_slot(const CommitAction& action);
  void submit(Write& write);
  void cut_at_border(Write& write);
  void completed(Write& write, std::int32_t result);
  void release_groups();
  void arm_timer();
  Group& group(std::uint64_t number) { return groups_[number % Committer::groups_max]; }

  Reactor& reactor_;
  Staging& staging_;
  WriterOwner& owner_;
  Epoch epoch_;
  const bool separate_sync_;
  const bool follows_;
  File tail_;
  AlignedMemory slot_;

  Committer committer_;
  WatermarkKeeper marks_;
  Chain chain_;
  std::shared_ptr<WriterSegment> segment_;
  std::shared_ptr<WriterSegment> next_segment_;  // empty, prepared
  std::array<Group, Committer::groups_max> groups_;
  std::uint64_t first_group_ = 0;  // oldest whose memory is in use
  std::uint64_t next_group_ = 0;   // number the next one gets
  bool open_ = false;              // group next_group_ - 1 takes batches
  bool resuming_ = false;          // what is appended stands in the tail
  std::uint64_t open_offset_ = 0;
  std::uint64_t open_bytes_ = 0;
  Chain covered_chain_{};  // chain behind what the tail holds of the open group
  std::uint64_t staged_bytes_ = 0;
  bool durable_news_ = false;
  bool silent_ = false;
  WriterStats stats_;
  Timer timer_;

  std::array<Write, Committer::writes_max> writes_;
  std::uint32_t writes_in_flight_ = 0;
};

}  // namespace millrace
