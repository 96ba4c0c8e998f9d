// Group commit as a plain state machine: it decides what is written where and when, and what a completed write makes
// durable. No I/O and no clock inside: step(event) answers with actions, its owner (LogWriter) performs them and reports
// back. The rules are storage/FORMAT.md, "Tail", 1 to 7.
//
//   * A flush happens at the end of a turn when a commit slot is free: load makes groups bigger, nobody lingers.
//   * At most two writes in flight; the second only when what waits is at least `second_write_min`.
//   * Under `slot_pending_max` pending bytes the flush goes to a slot of the tail, while nothing else is in flight.
//   * The first group of a segment goes to the segment, when everything before it is durable and the file is there.
//   * Batches become durable in lsn order, whatever order writes complete in.
#pragma once

#include <array>
#include <cstdint>

#include "base/time.hpp"
#include "base/units.hpp"
#include "storage/commit_sizes.hpp"

namespace millrace {

struct CommitterConfig {
  CommitSizes sizes;
  std::uint64_t ring_bytes = 1 * MiB;  // of the tail
  Nanos record_end_after = 5 * nanos_per_milli;
  Nanos move_after = 10 * nanos_per_second;
  bool follows = false;  // groups are closed by the leader: nothing moves to the segment by itself
};

/// What an open group holds already in slots of the ring, for a committer that goes on with it.
struct HeldGroup {
  std::uint32_t bytes = 0;  // from its start, the header included
  Lsn first{};
  Lsn end{};
  std::uint64_t ring_next = 0;  // behind its newest slot
  std::uint64_t ring_live = 0;  // bytes of its slots, counted back from there
};

struct CommitEvent {
  enum class Kind : std::uint8_t {
    group_opened,    // group, first_of_segment, end = first lsn, bytes = the header's
    batch_appended,  // bytes = the open group's length now, end = lsn after the batch, now
    group_closed,    // the owner closed the open group: full, end of segment, seal
    segment_ready,   // the file of the newest group that is first of its segment exists
    move_wanted,     // what the tail holds goes to the segment (stop)
    turn_ended,      // now; also when a timer fires
    write_done,      // ticket, now
    write_failed,    // ticket
  };
  Kind kind{};
  bool first_of_segment = false;
  std::uint32_t ticket = 0;
  std::uint32_t bytes = 0;
  std::uint64_t group = 0;
  Lsn end{};
  Nanos now = 0;
};

struct CommitAction {
  enum class Kind : std::uint8_t {
    write_group,  // group whole, padded, with durable_upto in its header; closes it when `closes`
    write_slot,   // [from, to) of the open group, to the tail
    write_end,    // a slot that only records the durable end
    durable,      // everything below `durable`
    failed,       // outcome unknown from `durable` on; nothing more will be written
  };
  Kind kind{};
  bool closes = false;
  std::uint32_t ticket = 0;
  std::uint64_t group = 0;
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  Lsn first{};                // first lsn in [from, to)
  Lsn durable{};              // the durable end when submitted, or now
  std::uint64_t slot = 0;     // its number
  std::uint64_t ring_at = 0;  // its place in the ring, bytes
};

/// What one step asks for, in the order to do it.
class CommitActions {
 public:
  static constexpr std::size_t actions_max = 4;
  void add(const CommitAction& action);
  const CommitAction* begin() const { return actions_.data(); }
  const CommitAction* end() const { return actions_.data() + count_; }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  const CommitAction& operator[](std::size_t at) const { return actions_[at]; }

 private:
  std::array<CommitAction, actions_max> actions_{};
  std::size_t count_ = 0;
};

class Committer {
 public:
  static constexpr std::uint32_t writes_max = 2;  // in flight
  static constexpr std::size_t groups_max = 64;   // open, closed and in flight
  static constexpr std::uint32_t slot_header_bytes = 128;

  /// `next_slot`: above every number in the tail. `durable`: where the log stands.
  Committer(const CommitterConfig& config, Lsn durable, std::uint64_t next_slot);

  CommitActions step(const CommitEvent& event);
  /// Before anything else: group 0 is open and durable as far as it goes. Only for one that follows.
  void resume(const HeldGroup& held);
  /// Before anything else: the log begins at `first`.
  void begin_at(Lsn first);
  /// The same as step(batch_appended), which never asks for anything: the append path.
  void appended(std::uint32_t bytes, Lsn end, Nanos now);

  Lsn durable() const { return durable_; }
  std::uint32_t in_flight() const;
  bool failed() const { return failed_; }
  /// Nothing waits, nothing is in flight and nothing is in the tail alone.
  bool settled() const;
  /// True when a group could not be opened without exceeding groups_max.
  bool full() const { return newest_ - oldest_ >= groups_max; }
  /// When turn_ended should be told although nothing happened; 0 = never.
  Nanos deadline() const;
  /// Groups with smaller numbers stand in the segment durably: nothing reads their memory any more.
  std::uint64_t first_live_group() const { return oldest_; }
  std::uint64_t next_slot() const { return next_slot_; }

 private:
  struct Group {
    std::uint32_t bytes = 0;
    std::uint32_t covered = 0;  // bytes from its start that slots hold; its header counts as held
    Lsn covered_end{};          // lsn after them
    Lsn first{};
    Lsn end{};
    bool first_of_segment = false;
    bool ready = false;  // the segment's file exists
    bool closed = false;
    bool written = false;
  };
  struct Write {
    bool busy = false;
    bool done = false;
    std::uint64_t group = 0;
    bool is_group = false;
    Lsn from{};
    Lsn end{};
    Lsn recorded{};  // the durable end it carries
  };

  Group& group(std::uint64_t number) { return groups_[number % groups_max]; }
  const Group& group(std::uint64_t number) const { return groups_[number % groups_max]; }
  bool has_open() const { return newest_ > oldest_ && !group(newest_ - 1).closed; }
  void open_group(const CommitEvent& event);
  void flush(CommitActions& actions, Nanos now);
  bool flush_one(CommitActions& actions);
  void lull(CommitActions& actions, Nanos now);
  void submit_group(CommitActions& actions);
  bool submit_slot(CommitActions& actions);
  bool may_record_end() const { return !config_.follows || ring_live_ * 2 <= config_.ring_bytes; }
  bool place_slot(std::uint64_t bytes, std::uint64_t& ring_at);
  std::uint32_t take_ticket();
  std::uint64_t waiting_bytes() const;
  void complete(CommitActions& actions, const CommitEvent& event);
  void settle_groups();

  const CommitterConfig config_;

  std::array<Group, groups_max> groups_{};
  std::uint64_t oldest_ = 0;       // number of the first group that is not in the segment
  std::uint64_t next_submit_ = 0;  // first that was not submitted
  std::uint64_t newest_ = 0;       // number the next opened group gets
  Lsn durable_;
  Lsn recorded_{};  // newest durable end that stands durably in a slot or group header
  Nanos last_append_ = 0;
  bool move_wanted_ = false;
  bool failed_ = false;

  std::uint64_t next_slot_;
  std::uint64_t ring_next_ = 0;  // where the next slot goes
  std::uint64_t ring_live_ = 0;  // bytes before it, counted back around the ring, that may not be overwritten

  std::array<Write, writes_max> writes_{};
};

}  // namespace millrace
