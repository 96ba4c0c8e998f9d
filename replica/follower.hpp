// A follower's side of one shard: finds the leader, states what it holds, takes what the leader submitted, and reports what
// became durable here. It keeps trying for as long as it lives; what can be judged for good is said once and ends it.
//
// Thread: the shard's. stop() ends it soon; ended() says when. The log outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/follow.hpp"
#include "reactor/kernel.hpp"
#include "reactor/reactor.hpp"
#include "reactor/socket.hpp"
#include "replica/frame_reader.hpp"
#include "storage/log.hpp"
#include "storage/log_copy.hpp"

namespace millrace {

inline constexpr Nanos follow_connect_max = 2 * nanos_per_second;
/// No frame for so long: the connection is given up. Leaders say something every second.
inline constexpr Nanos follow_silence_max = 10 * nanos_per_second;
inline constexpr Nanos follow_backoff_first = 100 * nanos_per_milli;
inline constexpr Nanos follow_backoff_max = 5 * nanos_per_second;

struct FollowerOptions {
  Address leader;
  ShardIndex shard{};
  std::uint32_t shard_count = 0;
  std::int32_t day_offset_seconds = 0;
};

/// Who hears what happens to a follower, one sentence each.
class FollowerWatch {
 public:
  virtual void follower_says(ShardIndex shard, bool is_error, std::string_view text) = 0;

 protected:
  ~FollowerWatch() = default;
};

struct FollowingState {
  bool connected = false;  // bytes come, or would
  Epoch epoch{};           // the leader's
  Lsn leader_durable{};
  Lsn leader_appended{};  // as far as was heard
  Nanos heard = 0;
  std::uint64_t sessions = 0;
  std::uint64_t cuts = 0;
  std::uint64_t bytes = 0;  // of batches
  std::optional<Error> last_error;
};

class Follower final : private LogListener, private TurnHook {
 public:
  Follower(Log& log, const FollowerOptions& options, FollowerWatch& watch);
  ~Follower();
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  Reactor& reactor() { return log_.reactor(); }

  void start();
  void stop();
  bool ended() const { return ended_; }
  Signal& end_signal() { return changed_; }
  const FollowingState& state() const { return state_; }

 private:
  Task<> run();
  Task<> session();
  Task<> converse();
  Task<> greet();
  Task<> agree();
  Task<wire::FollowBegin> ask(wire::Statement statement, bool probe);
  Task<> search();
  Task<> narrow(std::size_t groups);
  Task<> cut(CopyPlace place, Lsn first);
  Task<> take_frames();
  Task<> take(Frame frame);
  Task<> take_placed(wire::Placed placed);
  Task<> take_segment(wire::SegmentBegun segment);
  Task<> wait_for_log();
  /// The next frame; valid until the next call.
  Task<Frame> receive();
  Error refused_by(const Frame& frame);
  wire::Statement statement(std::size_t groups) const;
  bool is_final(Error error) const;
  void say(Error error);
  void report();

  void log_durable(Lsn) override { reactor().request(*this); }
  void log_failed() override;
  void turn_ended() override;

  Log& log_;
  LogCopy& copy_;
  const FollowerOptions options_;
  FollowerWatch& watch_;

  FollowingState state_;
  std::unique_ptr<Socket> socket_;
  std::unique_ptr<FrameReader> frames_;
  std::string said_by_leader_;
  FrameOutput output_;
  Lsn reported_{};
  Signal changed_;
  Timer silence_;
  bool streaming_ = false;
  bool stopping_ = false;
  bool started_ = false;
  bool ended_ = false;
};

/// Who a leader is, asked once: what a new directory is made with. Errors: those of a connection, and what the leader refuses with.
Task<wire::Identity> ask_identity(Reactor& reactor, Address leader);

}  // namespace millrace
