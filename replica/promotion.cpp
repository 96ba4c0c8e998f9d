#include "replica/promotion.hpp"

#include <algorithm>
#include <utility>

#include "protocol/fence.hpp"
#include "replica/peer.hpp"
#include "storage/node_meta.hpp"

namespace millrace {

namespace {

constexpr Nanos look_again = 5 * nanos_per_milli;
constexpr Nanos ask_again = nanos_per_second;
constexpr std::uint64_t fence_id = 2;

std::string lsn_text(Lsn lsn) { return std::to_string(lsn.value); }

Task<wire::Fenced> put_question(Peer& peer, ShardIndex shard, wire::Fence fence) {
  auto greeting = peer.greet(shard, "millrace-follower");
  auto welcome = co_await greeting;
  if (!welcome) co_return fail(welcome.error());
  FrameOutput request;
  encode(request, fence);
  auto asking = peer.ask(std::move(request), fence.request_id);
  auto answer = co_await asking;
  if (!answer) co_return fail(answer.error());
  co_return wire::decode_fenced(*answer);
}

Task<wire::Fenced> ask_fence(Reactor& reactor, PromotionOrder order, Epoch epoch, bool ask_only, bool leads) {
  wire::Fence fence;
  fence.request_id = fence_id;
  fence.epoch = epoch;
  fence.ask_only = ask_only;
  fence.leads = leads;
  fence.leader = order.own;
  Peer peer(reactor, order.leader);
  peer.limit(reactor.now() + fence_wait_max, order.give_up);
  auto asking = put_question(peer, order.shard, fence);
  auto answer = co_await asking;
  auto closing = peer.close();
  auto closed = co_await closing;
  static_cast<void>(closed);
  co_return std::move(answer);
}

/// The copy holds the leader's log up to `end`, durably; false when it does not come.
Task<bool> drained(Log& log, Lsn end, const bool* give_up) {
  const Nanos deadline = log.reactor().now() + drain_leader_max;
  while (log.watermarks().durable < end) {
    if (log.reactor().now() >= deadline || (give_up != nullptr && *give_up)) co_return false;
    const Nanos again = log.reactor().now() + look_again;
    co_await Sleep(log.reactor(), again);
  }
  co_return log.watermarks().durable == end&& log.watermarks().appended == end;
}

std::string unsafe_text(const Log& log, const Follower& follower, std::string_view why) {
  const FollowingState& heard = follower.state();
  return "the old leader " + std::string(why) + "; the last that was heard of it: durable " +
         lsn_text(heard.leader_durable) + ", submitted " + lsn_text(heard.leader_appended) + "; durable here " +
         lsn_text(log.watermarks().durable) +
         ". What it acknowledged beyond that would be lost: bring it back, or say --accept-loss";
}

}  // namespace

Task<PromotionFindings> prepare_promotion(Log& log, const Follower& follower, PromotionOrder order) {
  PromotionFindings found;
  const Epoch known = log.source().known_epoch();
  auto looking = ask_fence(log.reactor(), order, known, true, false);
  auto there = co_await looking;
  found.epoch = next_term(there ? std::max(known, there->epoch) : known);
  if (order.ask_only) {
    found.safe = there.has_value();
    found.text = there ? "the old leader answers, its log ends at " + lsn_text(there->next) + ", here at " +
                             lsn_text(log.watermarks().durable) + ": it can be taken over from without a loss"
                       : unsafe_text(log, follower, "does not answer (" + std::string(error_name(there.error())) + ")");
    co_return std::move(found);
  }
  if (there) {
    auto fencing = ask_fence(log.reactor(), order, found.epoch, false, false);
    auto fenced = co_await fencing;
    found.fenced = fenced && fenced->granted;
    if (found.fenced) {
      auto draining = drained(log, fenced->next, order.give_up);
      auto whole = co_await draining;
      found.safe = whole && *whole;
      found.lead = found.safe;
      found.text = "the old leader stopped at " + lsn_text(fenced->next) + ", and all of that is here";
      if (found.safe) co_return std::move(found);
    }
  }
  found.lead = order.accept_loss;
  found.text = order.accept_loss ? "the log ends here at " + lsn_text(log.watermarks().durable) +
                                       "; what the old leader acknowledged beyond that is lost"
                                 : unsafe_text(log, follower,
                                               found.fenced ? "stopped, but its log did not come to its end here"
                                               : there      ? "did not give way"
                                                            : "does not answer");
  co_return std::move(found);
}

Task<> fence_for_good(Reactor& reactor, PromotionOrder order, Epoch epoch) {
  while (order.give_up == nullptr || !*order.give_up) {
    auto fencing = ask_fence(reactor, order, epoch, false, true);
    auto fenced = co_await fencing;
    // A higher epoch there is somebody else's: whoever took that one over fences this node.
    if (fenced && (fenced->granted || fenced->epoch >= epoch)) co_return Result<>{};
    for (int i = 0; i < 10 && (order.give_up == nullptr || !*order.give_up); ++i) {
      const Nanos again = reactor.now() + ask_again / 10;
      co_await Sleep(reactor, again);
    }
  }
  co_return fail(Error::cancelled);
}

}  // namespace millrace
