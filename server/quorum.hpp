// When acknowledgements may leave that wait for followers: how far the log is durable on enough of them, and how long that is
// waited for. Pure; one a shard.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "base/time.hpp"
#include "base/units.hpp"

namespace millrace {

/// An acknowledgement waits at most so long for followers; then it leaves with level local, and so do the next ones at once, until
/// enough followers keep up again.
inline constexpr Nanos quorum_wait_max = 2 * nanos_per_second;
/// Batches that became durable within so long of each other wait as one.
inline constexpr Nanos quorum_wait_step = nanos_per_second / 20;

class Quorum {
 public:
  /// So many followers beside the leader; 0 = acknowledgements wait for nobody.
  explicit Quorum(std::uint32_t followers) : wanted_(followers) {}

  /// Everything below `end` is durable here.
  void durable(Lsn end, Nanos now);
  /// What each follower reported, under the epoch of this leader.
  void reported(std::vector<Lsn> ends);
  void tick(Nanos now);
  /// Nobody waits any more.
  void give_up() { missing_ = true; }

  /// Below it everything is durable on enough followers; never falls.
  Lsn replicated() const { return replicated_; }
  /// Acknowledgements below it may leave.
  Lsn answerable() const;
  /// Too few followers keep up: acknowledgements leave with level local.
  bool missing() const { return missing_; }
  /// tick() is due; 0 = nothing waits.
  Nanos deadline() const { return waits_.empty() ? 0 : waits_.front().since + quorum_wait_max; }

 private:
  void raise();
  struct Wait {
    Lsn end{};
    Nanos since = 0;
  };
  const std::uint32_t wanted_;
  Lsn durable_{};
  Lsn reported_{};  // by enough followers
  Lsn replicated_{};
  Lsn given_up_{};
  bool missing_ = false;
  std::deque<Wait> waits_;  // at most quorum_wait_max / quorum_wait_step
};

}  // namespace millrace
