// The two sides of a copied log. LogSource: what a log shows to those that follow it. LogCopy: how a follower's log takes what
// its leader submitted, byte for byte, at the same places. What goes between them is replica's; the argument stands in
// replica/REPLICATION.md.
//
// Thread: the shard's. Nothing here blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/reactor.hpp"
#include "reactor/task.hpp"
#include "storage/log_writer.hpp"
#include "storage/place.hpp"

namespace millrace {

class LogSource {
 public:
  /// The group at that place, as submitted, while it is not in its segment durably; nothing before anything of it was.
  virtual std::optional<SubmittedGroup> submitted(SegmentKey key, std::uint64_t offset) const = 0;
  /// The segment that takes appends, or took the last ones; nothing in a log that never had one.
  virtual std::optional<SegmentKey> newest_segment() const = 0;
  /// Its header; it may not have reached its file.
  virtual const SegmentHeader& newest_header() const = 0;
  virtual SegmentKey first_kept_segment() const = 0;
  virtual Epoch epoch() const = 0;
  /// The highest epoch this node has persisted, its own or not.
  virtual Epoch known_epoch() const = 0;
  /// Another node leads under `epoch`, which this one persists: nothing is appended here any more. Ends when what was appended is
  /// durable. Errors: fenced (a higher epoch is known), not_ready, closed, those of writing.
  virtual Task<> depose(Epoch epoch) = 0;
  virtual bool deposed() const = 0;
  virtual const Id128& log_id() const = 0;
  virtual const Id128& cluster_id() const = 0;
  /// Wakes when something was submitted, or became durable, and at every failure and end.
  virtual Signal& submitted_signal() = 0;

 protected:
  ~LogSource() = default;
};

/// Where a copy ends.
struct CopyEnd {
  bool damaged = false;  // its newest segment is: it takes nothing, and serves what it can
  bool begun = false;    // it has a segment; the next five are its
  SegmentKey key{};
  Id128 segment_id{};
  GroupMark last_group;  // offset 0: the segment holds none
  Lsn first_lsn{};       // of the segment
  Lsn next_lsn{1};       // pending batches included
  Chain chain{};
};

struct BatchEnd {
  Lsn lsn{};  // behind the batch
  Chain chain{};
};

/// A place in a copy's last segment.
struct CopyPlace {
  std::size_t groups = 0;  // of groups(): so many stay
  bool whole = false;      // nothing of the segment stays, not even its header
  Lsn pending{};           // batches below it that stand behind those groups stay, as pending ones
};

class LogCopy {
 public:
  /// Takes the leader's epoch, durably, before anything of it is written or answered. fenced = a higher one is known.
  virtual Task<> accept_epoch(Epoch epoch) = 0;
  virtual Epoch known_epoch() const = 0;

  virtual CopyEnd end() const = 0;
  /// The groups of the last segment, oldest first.
  virtual const std::vector<GroupMark>& groups() const = 0;

  /// The leader began this segment. Errors: retry_later (its file or memory is not there yet), diverged (it does not follow what is
  /// here), foreign, unsupported_version, not_ready, closed.
  virtual Result<> take_segment(Bytes block) = 0;
  /// Whole batches that the leader submitted at group + from; `header` is the group's when it was closed with them, else empty.
  /// Everything is verified first. Errors: retry_later, diverged, not_ready, closed.
  virtual Result<> take_placed(std::uint64_t group, std::uint64_t from, Bytes header, Bytes batches) = 0;
  /// Everything below is durable at the leader: readers may have it once it is durable here.
  virtual void take_durable(Lsn leader) = 0;

  /// Where each batch of groups()[group] ends, or of what is pending when there is no such group; oldest first.
  virtual Task<std::vector<BatchEnd>> batch_ends(std::size_t group) = 0;
  /// Gives back what lies behind the place, to quarantine first; then the log opens anew. diverged = readers have seen some of it.
  virtual Task<> cut(CopyPlace place) = 0;
  /// From now on this node leads, under `epoch`, which begins a term above all it knows; the log opens anew. What is not durable
  /// here yet is not part of it. Errors: fenced, not_ready, closed, those of writing.
  virtual Task<> lead(Epoch epoch) = 0;

 protected:
  ~LogCopy() = default;
};

}  // namespace millrace
