#include "server/shard.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/quantity.hpp"
#include "base/time.hpp"
#include "server/config.hpp"
#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/server.hpp"
#include "storage/read_view.hpp"
#include "storage/segment_pool.hpp"

namespace millrace {

namespace {

/// Commits that average above this sit at a scheduler tick: a thread that never sleeps runs where the disk's interrupts go.
constexpr Nanos slow_commit = 3'500'000;
constexpr std::uint64_t slow_commits_min = 8;
constexpr Nanos slow_warning_interval = 60'000'000'000;
constexpr Nanos derivation_interval = 5'000'000'000;

}  // namespace

Shard::Shard(Core& core, ShardIndex index)
    : core_(core),
      index_(index),
      quorum_(core.server().config().ack_quorum ? core.server().config().followers_for_quorum : 0) {
  quorum_timer_.context = this;
  quorum_timer_.fire = [](Timer& timer) {
    auto& self = *static_cast<Shard*>(timer.context);
    self.reactor().request(self);
  };
}

Shard::~Shard() {
  reactor().disarm(quorum_timer_);
  reactor().withdraw(*this);
}

Reactor& Shard::reactor() { return core_.reactor(); }

Task<> Shard::open(LogOptions options) {
  auto opening = Log::open(reactor(), std::move(options), report_);
  auto log = co_await opening;
  if (!log) co_return fail(log.error());
  log_ = std::move(*log);
  log_->add_listener(*this);
  for (const std::string& note : report_.notes)
    core_.server().say(Severity::note, fmt::format("shard {}: {}", index_.value, note));
  if (report_.lost_batches != 0)
    core_.server().say(Severity::error,
                       fmt::format("shard {}: {} batches that were durable cannot be read any more; their ranges "
                                   "answer data_loss, all else is served",
                                   index_.value, report_.lost_batches));
  ranges_ = std::make_unique<SegmentRanges>(*log_);
  start_following();
  co_return Result<>();
}

ReadView& Shard::view() { return log_->view(); }

Error Shard::told(Error error) const {
  if (error != Error::closed && error != Error::not_ready) return error;
  const bool closed = log_ && log_->condition() == LogCondition::closed;
  return closed && !core_.stopping() ? Error::closed : Error::not_ready;
}

Task<> Shard::stop() {
  stopping_ = true;
  if (!log_) co_return Result<>();
  auto ending = end_following();
  (void)co_await ending;
  if (ranges_) {
    auto draining = ranges_->drain();
    auto drained = co_await draining;
    static_cast<void>(drained);
  }
  auto stopping = log_->stop();
  auto stopped = co_await stopping;
  quorum_.give_up();
  acknowledge(log_->watermarks().durable);
  co_return stopped;
}

void Shard::close() {
  waiting_for_commit_.clear();
  waiting_for_room_.clear();
  follower_.reset();
  ranges_.reset();
  log_.reset();
}

void Shard::wait_for_commit(Connection& connection) {
  if (std::exchange(connection.links.waits_for_commit, true)) return;
  waiting_for_commit_.push_back(&connection);
}

void Shard::answer_soon(Connection& connection) {
  wait_for_commit(connection);
  reactor().request(*this);
}

void Shard::wait_for_room(Connection& connection) {
  if (std::exchange(connection.links.waits_for_room, true)) return;
  waiting_for_room_.push_back(&connection);
}

void Shard::forget(Connection& connection) {
  if (connection.links.waits_for_commit) std::erase(waiting_for_commit_, &connection);
  if (connection.links.waits_for_room) std::erase(waiting_for_room_, &connection);
  connection.links = {};
}

/// Answering ends no connection and adds none, so the list stands still.
void Shard::acknowledge(Lsn durable) {
  if (!may_acknowledge()) return;
  quorum_.durable(durable, reactor().now());
  watch_quorum();
  const Lsn answerable = quorum_.answerable();
  std::size_t kept = 0;
  for (Connection* connection : waiting_for_commit_) {
    if (connection->acknowledge(answerable)) waiting_for_commit_[kept++] = connection;
    else connection->links.waits_for_commit = false;
  }
  waiting_for_commit_.resize(kept);
}

Task<LogExtent> Shard::measure() {
  const LogStats stats = log_->stats();
  LogExtentBounds bounds;
  bounds.first_kept = {stats.first_day, static_cast<std::uint32_t>(stats.first_kept_segment)};
  bounds.last_day = stats.day;
  bounds.segment_open = stats.segment_open;
  bounds.open_number = stats.segment_number;
  bounds.open_used = stats.segment_used;
  auto measuring = extent_.measure(reactor(), log_->options().directory, log_->options().segment_bytes, bounds);
  auto measured = co_await measuring;
  co_return measured;
}

void Shard::log_durable(Lsn durable) {
  acknowledgement_rounds_++;
  acknowledge(durable);
  resume_all();
}

void Shard::log_stalled(Lsn first) {
  Lsn durable = log_->watermarks().durable;
  for (Connection* connection : waiting_for_commit_) connection->fail_pending(first, durable);
  acknowledge(durable);
}

void Shard::log_failed() {
  Lsn durable = log_->watermarks().durable;
  for (Connection* connection : waiting_for_commit_) connection->fail_pending(durable, durable);
  acknowledge(durable);
  resume_all();
  core_.server().say(
      Severity::error,
      fmt::format("shard {}: a commit write failed; appends under way have an unknown outcome, the log {}",
                  index_.value, log_->condition() == LogCondition::closed ? "stays closed" : "reopens itself"));
}

void Shard::log_reopened() {
  core_.server().say(Severity::note, fmt::format("shard {}: the log is open and takes {}", index_.value,
                                                 follower_ ? "its leader's batches" : "appends"));
  resume_all();
}

/// Not from inside the log's call: who is resumed appends again.
void Shard::resume_all() {
  if (waiting_for_room_.empty()) return;
  room_ = true;
  reactor().request(*this);
}

void Shard::turn_ended() {
  if (!log_) return;
  acknowledge(log_->watermarks().durable);
  if (!std::exchange(room_, false)) return;
  for (Connection* connection : waiting_for_room_) {
    connection->links.waits_for_room = false;
    connection->resume();
  }
  waiting_for_room_.clear();
}

void Shard::tick() {
  if (!log_) return;
  may_acknowledge();
  ticked_ = reactor().now();
  if (!waiting_for_commit_.empty()) reactor().request(*this);
  resume_all();
  watch_commits();
  say_derivation();
  say_supply();
}

/// Without a file for the next segment appends are refused: clients are told, and whoever runs the server is as well.
void Shard::say_supply() {
  LogStats stats = log_->stats();
  if (!stats.supply_failure || reactor().now() < quiet_supply_until_) return;
  quiet_supply_until_ = reactor().now() + say_again_after;
  core_.server().say(
      Severity::warning,
      fmt::format(
          "shard {}: no segment can be opened, tried every second: {} ({} free; a segment takes {}, and {} are kept "
          "for seals and indexes)",
          index_.value, error_text(*stats.supply_failure), format_bytes(static_cast<double>(stats.free_bytes)),
          format_byte_count(log_->options().segment_bytes), format_byte_count(SegmentPool::reserve_bytes)));
}

/// An index that is made anew takes long and is nobody's fault: whoever waits for a read sees why.
void Shard::say_derivation() {
  const IndexProgress& deriving = view().index().stats().deriving;
  if (deriving.segments_total == 0 || reactor().now() < quiet_derivation_until_) return;
  quiet_derivation_until_ = reactor().now() + derivation_interval;
  core_.server().say(Severity::note,
                     fmt::format("shard {}: the index of {} is derived from its segments: {} of {} done", index_.value,
                                 format_day(deriving.day), deriving.segments_done, deriving.segments_total));
}

void Shard::watch_commits() {
  LogStats stats = log_->stats();
  std::uint64_t commits = stats.slot_writes + stats.group_writes;
  std::uint64_t fresh = commits - commits_seen_;
  Nanos total = stats.commit_total - commit_total_seen_;
  if (fresh < slow_commits_min) return;
  commits_seen_ = commits;
  commit_total_seen_ = stats.commit_total;
  Nanos average = total / static_cast<Nanos>(fresh);
  if (average < slow_commit || reactor().now() < quiet_until_) return;
  quiet_until_ = reactor().now() + slow_warning_interval;
  core_.server().say(Severity::warning,
                     fmt::format("shard {}: commits take {:.1f} ms on average; the usual cause is a busy thread on the "
                                 "core that takes the disk's "
                                 "interrupts: move it away, or give the server other cores with --cores",
                                 index_.value, static_cast<double>(average) / 1e6));
}

}  // namespace millrace
