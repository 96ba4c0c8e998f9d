// A shard's part in the copying of its log: it follows, takes over, or gives way.
#include <fmt/format.h>

#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"

namespace millrace {

std::string_view Shard::part() const {
  if (log_->options().follow) return "follower";
  return log_->source().deposed() ? "deposed" : "leader";
}

std::string Shard::leader_text() const {
  const auto& leader = core_.server().config().follow;
  if (log_->options().follow && leader) return fmt::format("{}:{}", leader->host, leader->port);
  return deposed_by_;
}

void Shard::start_following() {
  const ServerConfig& config = core_.server().config();
  if (!config.follow) return;
  if (!log_->options().follow) {
    // It was promoted in an earlier life, and its old leader may still not know.
    fencing_ = true;
    reactor().spawn(keep_fencing(log_->source().known_epoch()));
    return;
  }
  FollowerOptions options;
  options.leader = {config.follow->host, config.follow->port};
  options.shard = index_;
  options.shard_count = core_.server().directory().shard_count;
  options.day_offset_seconds = core_.server().directory().day_offset_seconds;
  FollowerWatch& watch = *this;
  follower_ = std::make_unique<Follower>(*log_, options, watch);
  follower_->start();
}

void Shard::follower_says(ShardIndex shard, bool is_error, std::string_view text) {
  core_.server().say(is_error ? Severity::error : Severity::note, fmt::format("shard {}: {}", shard.value, text));
}

Task<> Shard::end_following() {
  while (fencing_ || promoting_) {
    Sleep pause(reactor(), reactor().now() + nanos_per_milli);
    co_await pause;
  }
  if (!follower_) co_return Result<>();
  follower_->stop();
  while (!follower_->ended()) co_await follower_->end_signal().wait();
  co_return Result<>();
}

PromotionOrder Shard::order_promotion() {
  const ServerConfig& config = core_.server().config();
  PromotionOrder order;
  order.leader = {config.follow->host, config.follow->port};
  order.own = fmt::format("{}:{}", config.host, core_.server().port());
  order.shard = index_;
  order.give_up = &stopping_;
  return order;
}

Task<PromotionFindings> Shard::promote(bool ask_only, bool accept_loss) {
  if (!log_ || stopping_) co_return fail(Error::not_ready);
  if (!follower_) co_return fail(Error::already_exists);
  if (promoting_) co_return fail(Error::retry_later);
  promoting_ = true;
  PromotionOrder order = order_promotion();
  order.ask_only = ask_only;
  order.accept_loss = accept_loss;
  auto preparing = prepare_promotion(*log_, *follower_, order);
  auto found = co_await preparing;
  if (!found || !found->lead || stopping_) {
    promoting_ = false;
    if (found) found->lead = false;
    co_return std::move(found);
  }
  follower_->stop();
  while (!follower_->ended()) co_await follower_->end_signal().wait();
  auto leading = log_->copy().lead(found->epoch);
  auto leads = co_await leading;
  promoting_ = false;
  if (!leads) {
    core_.server().say(Severity::error,
                       fmt::format("shard {}: could not take over: {}", index_.value, error_text(leads.error())));
    co_return fail(leads.error());
  }
  follower_.reset();
  core_.server().say(Severity::note, fmt::format("shard {}: leads from now on, under epoch {}: {}", index_.value,
                                                 found->epoch.value, found->text));
  if (!found->fenced && !stopping_) {
    fencing_ = true;
    reactor().spawn(keep_fencing(found->epoch));
  }
  co_return std::move(found);
}

/// The old leader did not answer: when it comes back, the first thing it hears is that it leads no more.
Task<> Shard::keep_fencing(Epoch epoch) {
  auto fencing = fence_for_good(reactor(), order_promotion(), epoch);
  auto fenced = co_await fencing;
  if (fenced)
    core_.server().say(Severity::note,
                       fmt::format("shard {}: the old leader knows that it leads no more", index_.value));
  fencing_ = false;
  co_return Result<>();
}

Task<bool> Shard::fence(wire::Fence request) {
  if (!log_ || stopping_) co_return fail(Error::not_ready);
  LogSource& source = log_->source();
  if (log_->options().follow) co_return source.known_epoch() >= request.epoch;
  if (source.known_epoch() >= request.epoch) co_return source.deposed();
  deposed_by_ = std::string(request.leader);
  // What is answered from here on would be an acknowledgement of a leader that is none.
  if (request.leads) end_unanswered();
  const Epoch epoch = request.epoch;
  auto deposing = source.depose(epoch);
  auto deposed = co_await deposing;
  core_.server().say(deposed ? Severity::note : Severity::error,
                     fmt::format("shard {}: {} leads under epoch {}: nothing is appended here any more{}", index_.value,
                                 deposed_by_, epoch.value,
                                 deposed ? "; start this node with --follow and that address"
                                         : ", but that could not be written down"));
  co_return deposed.has_value();
}

/// Those who wait learn from the end of their connection that the outcome is not known here.
void Shard::end_unanswered() {
  const std::vector<Connection*> waiting = waiting_for_commit_;
  for (Connection* connection : waiting) connection->end();
}

bool Shard::may_acknowledge() {
  const Nanos now = reactor().now();
  if (was_followed_ && ticked_ != 0 && now - ticked_ > leader_pause_max) {
    acknowledge_from_ = now + acknowledge_pause;
    ticked_ = now;
  }
  return now >= acknowledge_from_;
}

// ---- Acknowledgements that wait for followers.

bool Shard::wants_quorum() const { return core_.server().config().ack_quorum; }

void Shard::follower_moved() {
  std::vector<Lsn> ends;
  for (const LeaderStream* follower : followers_)
    if (follower->state().streaming) ends.push_back(follower->state().durable);
  quorum_.reported(std::move(ends));
  reactor().request(*this);
}

void Shard::watch_quorum() {
  if (!wants_quorum()) return;
  quorum_.tick(reactor().now());
  if (const Nanos deadline = quorum_.deadline(); deadline != 0 && !quorum_timer_.armed())
    reactor().arm(quorum_timer_, deadline);
  if (quorum_.missing() == missing_said_ || stopping_) return;
  missing_said_ = quorum_.missing();
  core_.server().say(
      missing_said_ ? Severity::warning : Severity::note,
      missing_said_
          ? fmt::format("shard {}: fewer than {} followers keep up: acknowledgements leave with level local",
                        index_.value, core_.server().config().followers_for_quorum)
          : fmt::format("shard {}: enough followers keep up: acknowledgements have level quorum again", index_.value));
}

}  // namespace millrace
