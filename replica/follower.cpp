#include "replica/follower.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/assert.hpp"
#include "protocol/answers.hpp"
#include "protocol/handshake.hpp"

namespace millrace {

namespace {

constexpr std::uint64_t hello_id = 1;
constexpr std::uint64_t follow_id = 2;
constexpr Nanos close_within = nanos_per_second;
constexpr Nanos room_look_again = nanos_per_milli / 4;

}  // namespace

Follower::Follower(Log& log, const FollowerOptions& options, FollowerWatch& watch)
    : log_(log), copy_(log.copy()), options_(options), watch_(watch) {
  log_.add_listener(*this);
  silence_.context = this;
  silence_.fire = [](Timer& timer) {
    auto& self = *static_cast<Follower*>(timer.context);
    if (!self.socket_) return;
    if (self.reactor().now() - self.state_.heard >= follow_silence_max) return self.socket_->abort();
    self.reactor().arm(timer, self.state_.heard + follow_silence_max);
  };
}

Follower::~Follower() {
  reactor().disarm(silence_);
  reactor().withdraw(*this);
  log_.remove_listener(*this);
}

void Follower::start() {
  MR_ASSERT(!std::exchange(started_, true));
  reactor().spawn(run());
}

void Follower::stop() {
  stopping_ = true;
  if (!started_) ended_ = true;
  if (socket_) socket_->abort();
}

Task<> Follower::run() {
  Nanos pause = follow_backoff_first;
  while (!stopping_) {
    const std::uint64_t bytes = state_.bytes;
    auto following = session();
    auto followed = co_await following;
    streaming_ = state_.connected = false;
    if (stopping_) break;
    const Error error = followed ? Error::connection_lost : followed.error();
    if (state_.last_error != error || state_.bytes != bytes) say(error);
    state_.last_error = error;
    if (is_final(error)) break;
    if (state_.bytes != bytes) pause = follow_backoff_first;
    const Nanos until = reactor().now() + pause / 2 + static_cast<Nanos>(reactor().random().next() % (pause / 2));
    pause = std::min(2 * pause, follow_backoff_max);
    while (!stopping_ && reactor().now() < until) {
      const Nanos again = std::min(until, reactor().now() + follow_backoff_first);
      co_await Sleep(reactor(), again);
    }
  }
  ended_ = true;
  changed_.notify();
  co_return Result<>{};
}

/// What trying again does not change: a person chose the wrong leader, or the copies contradict each other.
bool Follower::is_final(Error error) const {
  return error == Error::foreign || error == Error::diverged || error == Error::unsupported_version ||
         error == Error::wrong_shard || copy_.end().damaged;
}

void Follower::say(Error error) {
  std::string text = "following " + options_.leader.host + ":" + std::to_string(options_.leader.port) + ": " +
                     std::string(error_name(error)) + ": " +
                     (said_by_leader_.empty() ? std::string(error_text(error)) : said_by_leader_);
  text += is_final(error) ? "; this shard follows no more until the server is started again, and serves what it has"
                          : "; tried again";
  watch_.follower_says(options_.shard, is_final(error), text);
}

void Follower::log_failed() {
  if (socket_) socket_->abort();
}

Task<> Follower::session() {
  ++state_.sessions;
  said_by_leader_.clear();
  while (!stopping_ && log_.condition() == LogCondition::reopening) {
    const Nanos again = reactor().now() + follow_backoff_first;
    co_await Sleep(reactor(), again);
  }
  if (copy_.end().damaged) co_return fail(Error::data_loss);
  const Nanos deadline = reactor().now() + follow_connect_max;
  auto connecting = connect(reactor(), options_.leader, deadline);
  auto descriptor = co_await connecting;
  if (!descriptor) co_return fail(descriptor.error());
  socket_ = std::make_unique<Socket>(reactor(), *descriptor);
  frames_ = std::make_unique<FrameReader>(*socket_);
  state_.heard = reactor().now();
  const Nanos silent = state_.heard + follow_silence_max;
  reactor().arm(silence_, silent);
  auto conversing = converse();
  auto conversed = co_await conversing;
  streaming_ = false;
  reactor().disarm(silence_);
  frames_.reset();
  const Nanos until = reactor().now() + close_within;
  auto closing = socket_->close(until);
  auto closed = co_await closing;
  static_cast<void>(closed);
  socket_.reset();
  co_return std::move(conversed);
}

Task<> Follower::converse() {
  auto greeting = greet();
  auto greeted = co_await greeting;
  if (!greeted) co_return fail(greeted.error());
  auto agreeing = agree();
  auto agreed = co_await agreeing;
  if (!agreed) co_return fail(agreed.error());
  auto taking = take_frames();
  auto taken = co_await taking;
  co_return std::move(taken);
}

Task<> Follower::greet() {
  wire::Hello hello;
  hello.request_id = hello_id;
  hello.shard = options_.shard;
  hello.client_name = "millrace-follower";
  output_.clear();
  encode(output_, hello);
  if (!socket_->send(output_)) co_return fail(Error::connection_lost);
  auto receiving = receive();
  auto frame = co_await receiving;
  if (!frame) co_return fail(frame.error());
  if (frame->header.type == FrameType::refused) co_return fail(refused_by(*frame));
  auto welcome = wire::decode_welcome(*frame);
  if (!welcome) co_return fail(welcome.error());
  const bool ours = welcome->cluster_id == log_.source().cluster_id() && welcome->log_id == log_.source().log_id() &&
                    welcome->shard_count == options_.shard_count && welcome->shard == options_.shard &&
                    welcome->day_offset_seconds == options_.day_offset_seconds;
  if (!ours) co_return fail(Error::foreign);
  co_return Result<>{};
}

Error Follower::refused_by(const Frame& frame) {
  auto refused = wire::decode_refused(frame);
  if (!refused) return Error::bad_frame;
  said_by_leader_ = std::string(refused->text);
  return refused->error;
}

Task<Frame> Follower::receive() {
  auto reading = frames_->next();
  auto frame = co_await reading;
  if (frame) state_.heard = reactor().now();
  co_return std::move(frame);
}

// ---- Where it goes on.

wire::Statement Follower::statement(std::size_t groups) const {
  wire::Statement said;
  said.cluster_id = log_.source().cluster_id();
  said.log_id = log_.source().log_id();
  const CopyEnd end = copy_.end();
  said.end_lsn = said.pending_lsn = end.next_lsn;
  if (!end.begun) return said;
  said.segment_id = end.segment_id;
  said.day = end.key.day;
  said.number = end.key.number;
  said.end = block_bytes;
  said.end_lsn = said.pending_lsn = end.first_lsn;
  if (groups > 0) {
    const GroupMark& last = copy_.groups()[groups - 1];
    said.group_offset = last.offset;
    said.group_checksum = last.checksum;
    said.end = last.end;
    said.end_lsn = said.pending_lsn = last.end_lsn;
    said.end_chain = last.end_chain;
  }
  if (groups == copy_.groups().size()) {
    said.pending_lsn = end.next_lsn;
    said.pending_chain = end.chain;
  }
  return said;
}

Task<wire::FollowBegin> Follower::ask(wire::Statement statement, bool probe) {
  wire::Follow follow;
  follow.request_id = follow_id;
  follow.epoch = copy_.known_epoch();
  follow.statement = statement;
  follow.next_lsn = statement.pending_lsn;
  follow.probe = probe;
  output_.clear();
  encode(output_, follow);
  if (!socket_->send(output_)) co_return fail(Error::connection_lost);
  auto receiving = receive();
  auto frame = co_await receiving;
  if (!frame) co_return fail(frame.error());
  if (frame->header.type == FrameType::refused) co_return fail(refused_by(*frame));
  auto begin = wire::decode_follow_begin(*frame);
  if (!begin) co_return fail(begin.error());
  const bool ours = begin->identity.log_id == statement.log_id &&
                    begin->identity.segment_bytes == log_.options().segment_bytes &&
                    begin->identity.shard == options_.shard;
  if (!ours) co_return fail(Error::foreign);
  if (begin->epoch < copy_.known_epoch()) co_return fail(Error::fenced);
  co_return *begin;
}

Task<> Follower::agree() {
  // A cut for each segment that differs, and each brings the end closer to the front.
  using Reach = std::tuple<Lsn, SegmentKey, std::size_t>;
  for (std::optional<Reach> before;;) {
    const Reach here{copy_.end().next_lsn, copy_.end().key, copy_.groups().size()};
    const std::size_t held = copy_.groups().size();
    auto asking = ask(statement(held), false);
    auto begin = co_await asking;
    if (!begin) co_return fail(begin.error());
    if (!begin->differs && !begin->pending_differs) {
      auto accepting = copy_.accept_epoch(begin->epoch);
      auto accepted = co_await accepting;
      if (!accepted) co_return fail(accepted.error());
      state_.epoch = begin->epoch;
      state_.leader_durable = begin->durable;
      reported_ = {};
      copy_.take_durable(begin->durable);
      co_return Result<>{};
    }
    if (before && *before <= here) break;
    before = here;
    auto giving = begin->differs ? search() : narrow(held);
    auto given = co_await giving;
    if (!given) co_return fail(given.error());
  }
  co_return fail(Error::diverged);
}

/// The last group is not the leader's: finds how many of this segment's groups are.
Task<> Follower::search() {
  auto probing_header = ask(statement(0), true);
  auto header = co_await probing_header;
  if (!header) co_return fail(header.error());
  if (header->differs) {
    const CopyPlace nothing{.whole = true};
    auto cutting = cut(nothing, copy_.end().first_lsn);
    co_return co_await cutting;
  }
  std::size_t same = 0;
  std::size_t other = copy_.groups().size();
  while (other - same > 1) {
    const std::size_t middle = same + (other - same) / 2;
    auto probing = ask(statement(middle), true);
    auto probed = co_await probing;
    if (!probed) co_return fail(probed.error());
    (probed->differs ? other : same) = middle;
  }
  auto narrowing = narrow(same);
  co_return co_await narrowing;
}

/// So many groups are the leader's; finds how many batches behind them are as well, and gives the rest back.
Task<> Follower::narrow(std::size_t groups) {
  auto listing = copy_.batch_ends(groups);
  auto ends = co_await listing;
  if (!ends) co_return fail(ends.error());
  wire::Statement said = statement(groups);
  said.pending_lsn = said.end_lsn;
  std::size_t same = 0;
  std::size_t other = ends->size() + 1;
  while (other - same > 1) {
    const std::size_t middle = same + (other - same) / 2;
    said.pending_lsn = (*ends)[middle - 1].lsn;
    said.pending_chain = (*ends)[middle - 1].chain;
    auto probing = ask(said, true);
    auto probed = co_await probing;
    if (!probed) co_return fail(probed.error());
    (probed->differs || probed->pending_differs ? other : same) = middle;
  }
  CopyPlace place{.groups = groups};
  if (same > 0) place.pending = (*ends)[same - 1].lsn;
  auto cutting = cut(place, same > 0 ? place.pending : said.end_lsn);
  co_return co_await cutting;
}

Task<> Follower::cut(CopyPlace place, Lsn first) {
  ++state_.cuts;
  watch_.follower_says(options_.shard, false,
                       "the leader does not hold batches " + std::to_string(first.value) + " to " +
                           std::to_string(copy_.end().next_lsn.value) + " (end excluded): they go to quarantine");
  auto cutting = copy_.cut(place);
  auto was_cut = co_await cutting;
  co_return std::move(was_cut);
}

// ---- What comes.

Task<> Follower::take_frames() {
  streaming_ = state_.connected = true;
  state_.last_error.reset();
  watch_.follower_says(options_.shard, false,
                       "follows " + options_.leader.host + ":" + std::to_string(options_.leader.port) +
                           " under epoch " + std::to_string(state_.epoch.value) + " from batch " +
                           std::to_string(copy_.end().next_lsn.value));
  reactor().request(*this);
  while (!stopping_) {
    auto receiving = receive();
    auto frame = co_await receiving;
    if (!frame) co_return fail(frame.error());
    auto taking = take(*frame);
    auto taken = co_await taking;
    if (!taken) co_return fail(taken.error());
  }
  co_return fail(Error::cancelled);
}

Task<> Follower::take(Frame frame) {
  switch (frame.header.type) {
    case FrameType::placed: {
      auto placed = wire::decode_placed(frame);
      if (!placed) co_return fail(placed.error());
      auto taking = take_placed(*placed);
      co_return co_await taking;
    }
    case FrameType::segment: {
      auto segment = wire::decode_segment(frame);
      if (!segment) co_return fail(segment.error());
      auto taking = take_segment(*segment);
      co_return co_await taking;
    }
    case FrameType::marks: {
      auto marks = wire::decode_marks(frame);
      if (!marks) co_return fail(marks.error());
      state_.leader_durable = std::max(state_.leader_durable, marks->durable);
      copy_.take_durable(marks->durable);
      co_return Result<>{};
    }
    case FrameType::refused: co_return fail(refused_by(frame));
    default: co_return fail(Error::bad_frame);
  }
}

Task<> Follower::take_placed(wire::Placed placed) {
  while (!stopping_) {
    auto taken = copy_.take_placed(placed.group, placed.from, placed.header, placed.batches);
    if (taken) break;
    if (taken.error() != Error::retry_later) co_return fail(taken.error());
    auto waiting = wait_for_log();
    auto waited = co_await waiting;
    if (!waited) co_return fail(waited.error());
  }
  state_.bytes += placed.batches.size();
  state_.leader_appended = std::max(state_.leader_appended, placed.end);
  state_.leader_durable = std::max(state_.leader_durable, placed.durable);
  copy_.take_durable(placed.durable);
  co_return Result<>{};
}

Task<> Follower::take_segment(wire::SegmentBegun segment) {
  while (!stopping_) {
    auto taken = copy_.take_segment(segment.block);
    if (taken) break;
    if (taken.error() != Error::retry_later) co_return fail(taken.error());
    auto waiting = wait_for_log();
    auto waited = co_await waiting;
    if (!waited) co_return fail(waited.error());
  }
  co_return Result<>{};
}

/// Memory comes back with every write, segments come from the pool: neither is far.
Task<> Follower::wait_for_log() {
  if (socket_->failure()) co_return fail(*socket_->failure());
  state_.heard = reactor().now();  // the leader is not silent, this node does not listen
  const Nanos again = reactor().now() + room_look_again;
  co_await Sleep(reactor(), again);
  co_return Result<>{};
}

// ---- What is reported.

void Follower::turn_ended() { report(); }

void Follower::report() {
  const Lsn durable = log_.watermarks().durable;
  if (!streaming_ || !socket_ || log_.condition() == LogCondition::reopening || durable <= reported_) return;
  wire::Durable message;
  message.request_id = follow_id;
  message.lsn = reported_ = durable;
  const auto& groups = copy_.groups();
  for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
    if (durable < group->end_lsn) continue;
    message.group_lsn = group->end_lsn;
    message.group_chain = group->end_chain;
    break;
  }
  output_.clear();
  encode(output_, message);
  const auto sent = socket_->send(output_);
  static_cast<void>(sent);
}

}  // namespace millrace
