// How a follower takes over one shard, up to the step that makes it the leader: the old leader is asked whether it lives, is
// fenced if it does, and the copy is brought to its end. replica/REPLICATION.md, "Epochs, fencing, promotion".
//
// Thread: the shard's.
#pragma once

#include <string>

#include "reactor/socket.hpp"
#include "replica/follower.hpp"
#include "storage/log.hpp"

namespace millrace {

/// A leader that says nothing for so long counts as gone. Longer than leader_pause_max of those that wake up.
inline constexpr Nanos fence_wait_max = 3 * nanos_per_second;
/// How long the rest of a fenced leader's log may take to come.
inline constexpr Nanos drain_leader_max = 30 * nanos_per_second;

struct PromotionOrder {
  Address leader;   // the old one
  std::string own;  // HOST:PORT of this node
  ShardIndex shard{};
  bool ask_only = false;
  bool accept_loss = false;
  const bool* give_up = nullptr;
};

struct PromotionFindings {
  bool safe = false;    // nothing that the old leader acknowledged is missing here
  bool fenced = false;  // the old leader granted
  bool lead = false;    // what was ordered: the node leads now, under `epoch`
  Epoch epoch{};
  std::string text;  // a sentence for a person
};

/// Never fails: what went wrong is in the findings.
Task<PromotionFindings> prepare_promotion(Log& log, const Follower& follower, PromotionOrder order);

/// Tells the old leader that another one leads under `epoch`, until it knows. cancelled once *give_up.
Task<> fence_for_good(Reactor& reactor, PromotionOrder order, Epoch epoch);

}  // namespace millrace
