// One shard as the server sees it: its log, and the connections that wait for it.
//
// Thread: the core's that serves it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "protocol/fence.hpp"
#include "reactor/reactor.hpp"
#include "replica/follower.hpp"
#include "replica/leader_stream.hpp"
#include "replica/promotion.hpp"
#include "replica/segment_ranges.hpp"
#include "server/quorum.hpp"
#include "storage/extent.hpp"
#include "storage/log.hpp"

namespace millrace {

class Connection;
class Core;
class ReadView;

/// Connections that follow one shard.
inline constexpr std::size_t followers_max = 16;
/// A leader that was followed and did not run for so long may have been deposed meanwhile: before it acknowledges anything it
/// listens for acknowledge_pause. Shorter than what a promotion waits for an answer (fence_wait_max).
inline constexpr Nanos leader_pause_max = 2 * nanos_per_second + nanos_per_second / 2;
inline constexpr Nanos acknowledge_pause = nanos_per_second / 4;

class Shard final : public LogListener, private FollowerWatch, private TurnHook {
 public:
  Shard(Core& core, ShardIndex index);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  Reactor& reactor();

  /// Opens the log. On an error report().diagnosis names cause and cure.
  Task<> open(LogOptions options);
  /// Everything appended becomes durable and is answered; then the log takes nothing more.
  Task<> stop();
  /// Destroys the log, after stop() and when no read is left.
  void close();

  ShardIndex index() const { return index_; }
  bool is_open() const { return log_ != nullptr; }
  Log& log() { return *log_; }
  ReadView& view();
  const OpeningReport& report() const { return report_; }
  /// What a client is told where its log says `error`: `closed` is only what stays closed, and whoever meets a server that is
  /// being stopped comes again.
  Error told(Error error) const;
  /// What the log takes on disk, counted now. The shard may be closed when it ends.
  Task<LogExtent> measure();
  /// Times a commit moved durable() and answers left for all it covered.
  std::uint64_t acknowledgement_rounds() const { return acknowledgement_rounds_; }

  /// `connection` has an append in line; it is told when durable() moves.
  void wait_for_commit(Connection& connection);
  /// The same, and what is answerable already goes out when this turn ends.
  void answer_soon(Connection& connection);
  /// `connection` holds an append that the log had no room for; resumed when there may be.
  void wait_for_room(Connection& connection);
  void forget(Connection& connection);
  /// Once a second.
  void tick();

  /// Another node takes over, or has: see LogSource::depose(). True when this one gives way, or did already.
  Task<bool> fence(wire::Fence request);
  /// This node takes over from the leader it follows, or finds out whether it could. Errors: already_exists (it leads),
  /// retry_later (it is under way), and those of LogCopy::lead().
  Task<PromotionFindings> promote(bool ask_only, bool accept_loss);
  /// leader, follower or deposed.
  std::string_view part() const;
  /// Where the leader is, HOST:PORT; empty = here, or not known.
  std::string leader_text() const;

  /// One of the followers reported, or left.
  void follower_moved();
  const Quorum& quorum() const { return quorum_; }
  /// Acknowledgements that were to wait for a quorum and left without.
  std::uint64_t quorum_missed() const { return quorum_missed_; }
  void note_missed() { quorum_missed_++; }
  bool wants_quorum() const;

  /// This node's own following; nullptr on a leader.
  const Follower* follower() const { return follower_.get(); }
  /// What others ask about the bytes of its segments.
  SegmentRanges& ranges() { return *ranges_; }
  /// Those that follow this shard.
  const std::vector<LeaderStream*>& followers() const { return followers_; }
  void add_follower(LeaderStream& stream) {
    followers_.push_back(&stream);
    was_followed_ = true;
  }
  void remove_follower(LeaderStream& stream) { std::erase(followers_, &stream); }

  void log_durable(Lsn durable) override;
  void log_stalled(Lsn first) override;
  void log_failed() override;
  void log_reopened() override;

 private:
  void turn_ended() override;
  void follower_says(ShardIndex shard, bool is_error, std::string_view text) override;
  void start_following();
  PromotionOrder order_promotion();
  Task<> end_following();
  Task<> keep_fencing(Epoch epoch);
  void end_unanswered();
  bool may_acknowledge();
  void watch_quorum();
  void acknowledge(Lsn durable);
  void resume_all();
  void watch_commits();
  void say_derivation();
  void say_supply();

  Core& core_;
  const ShardIndex index_;
  OpeningReport report_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<SegmentRanges> ranges_;
  std::unique_ptr<Follower> follower_;
  std::vector<LeaderStream*> followers_;
  Quorum quorum_;
  Timer quorum_timer_;
  std::uint64_t quorum_missed_ = 0;
  bool missing_said_ = false;
  std::string deposed_by_;
  bool promoting_ = false;
  bool fencing_ = false;  // the old leader is told
  bool stopping_ = false;
  bool was_followed_ = false;
  Nanos ticked_ = 0;
  Nanos acknowledge_from_ = 0;

  std::vector<Connection*> waiting_for_commit_;
  std::vector<Connection*> waiting_for_room_;
  bool room_ = false;  // those waiting for room are resumed when this turn ends

  ExtentMeter extent_;
  std::uint64_t acknowledgement_rounds_ = 0;
  std::uint64_t commits_seen_ = 0;
  Nanos commit_total_seen_ = 0;
  Nanos quiet_until_ = 0;
  Nanos quiet_supply_until_ = 0;
  Nanos quiet_derivation_until_ = 0;
};

}  // namespace millrace
