#include "sdk/core/session.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace millrace {

namespace {

// A user's number: seat in the lower 20 bits, the seat's generation in the upper 12, from 1, so that 0 is nobody.
constexpr std::uint32_t seat_bits = 20;
constexpr std::uint32_t seats_max = 1u << seat_bits;
constexpr std::uint32_t generations = 1u << (32 - seat_bits);
constexpr std::uint32_t seat_of(std::uint32_t number) { return number & (seats_max - 1); }
constexpr std::uint32_t generation_of(std::uint32_t number) { return number >> seat_bits; }

}  // namespace

Session::Session(const SessionSettings& settings)
    : settings_(settings), backoff_next_(settings.backoff_min), random_(settings.seed | 1) {}

std::uint32_t Session::join(SessionUser& user) {
  std::uint32_t seat = static_cast<std::uint32_t>(seats_.size());
  if (free_seats_.empty()) {
    MR_ASSERT(seat < seats_max);
    seats_.push_back({nullptr, 1, false});
  } else {
    seat = free_seats_.back();
    free_seats_.pop_back();
  }
  seats_[seat].user = &user;
  return seats_[seat].generation << seat_bits | seat;
}

void Session::leave(std::uint32_t number) {
  Seat& seat = seats_[seat_of(number)];
  MR_ASSERT(seat.user != nullptr && seat.generation == generation_of(number));
  seat.user = nullptr;
  seat.generation = seat.generation + 1 == generations ? 1 : seat.generation + 1;
  free_seats_.push_back(seat_of(number));
}

SessionUser* Session::user_of(std::uint64_t id) const {
  const auto number = static_cast<std::uint32_t>(id >> 32);
  if (seat_of(number) >= seats_.size()) return nullptr;
  const Seat& seat = seats_[seat_of(number)];
  return seat.generation == generation_of(number) ? seat.user : nullptr;
}

Nanos Session::backoff() {
  const Nanos base = backoff_next_;
  backoff_next_ = std::min(backoff_next_ * 2, settings_.backoff_max);
  // xorshift64*: up to a quarter more, so that clients that lost a server together do not come back together.
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  const auto spread =
      static_cast<Nanos>((random_ * 0x2545f4914f6cdd1dULL >> 33) % static_cast<std::uint64_t>(base / 4 + 1));
  const auto hint = static_cast<Nanos>(std::min<std::uint64_t>(std::exchange(wait_hint_, 0), 10'000)) * 1'000'000;
  return std::max(base + spread, hint);
}

Nanos Session::deadline() const {
  if (dropping_) return 0;
  switch (state_) {
    case State::down: return attempt_at_;
    case State::connecting:
    case State::greeting: return attempt_begun_ + settings_.connect_timeout;
    case State::up: return heard_at_ + (pinged_ ? settings_.dead_after : settings_.ping_after);
    case State::failed: break;
  }
  return no_deadline;
}

void Session::advance(Nanos now) {
  if (dropping_) finish_drop(now);
  if (now < deadline()) return;
  switch (state_) {
    case State::down:
      state_ = State::connecting;
      attempt_ += 1;
      attempt_begun_ = now;
      break;
    case State::connecting:
    case State::greeting: go_down(Error::timed_out, now); break;
    case State::up:
      if (pinged_) {
        go_down(Error::timed_out, now);
      } else {
        pinged_ = true;
        send(wire::Ping{0, attempt_});
      }
      break;
    case State::failed: break;
  }
}

void Session::connected(Nanos now) {
  MR_ASSERT(state_ == State::connecting);
  state_ = State::greeting;
  heard_at_ = now;
  pinged_ = false;
  outbox_.clear();
  parser_.emplace(memory_);
  wire::Hello hello;
  hello.shard = settings_.shard;
  hello.client_name = settings_.client_name;
  scratch_.clear();
  wire::encode(scratch_, hello);
  outbox_.put_copy(scratch_);
}

void Session::disconnected(Error error, Nanos now) {
  if (wants_connection()) go_down(error, now);
}

void Session::drop(Error error) {
  if (!wants_connection() || dropping_) return;
  dropping_ = error;
  outbox_.clear();  // its batches' memory may be given back from here on
}

void Session::finish_drop(Nanos now) {
  const Error error = *std::exchange(dropping_, std::nullopt);
  if (wants_connection()) go_down(error, now);
}

void Session::go_down(Error error, Nanos now) {
  last_error_ = error;
  dropping_.reset();
  state_ = failure_ ? State::failed : State::down;
  attempt_at_ = now + backoff();
  outbox_.clear();
  waiting_.clear();
  for (Seat& seat : seats_) seat.waits = false;
  for (std::size_t i = 0; i < seats_.size(); ++i)
    if (seats_[i].user != nullptr) seats_[i].user->session_down(error, failure_.has_value(), now);
}

void Session::send_frame(Bytes frame) {
  MR_ASSERT(state_ == State::up);
  if (!dropping_) outbox_.put_copy(frame);
}

std::uint64_t Session::append(Bytes frame) {
  MR_ASSERT(state_ == State::up && !dropping_ && credit_.allows(frame.size()));
  credit_.spend(frame.size());
  return outbox_.put_in_place(frame);
}

void Session::want_credit(std::uint32_t number) {
  Seat& seat = seats_[seat_of(number)];
  if (std::exchange(seat.waits, true)) return;
  waiting_.push_back(number);
}

void Session::serve_waiting(Nanos now) {
  if (waiting_.empty()) return;
  // Whoever still lacks credit asks again and so keeps behind those who did not get a turn.
  served_.swap(waiting_);
  waiting_.clear();
  for (std::uint32_t number : served_) {
    Seat& seat = seats_[seat_of(number)];
    if (seat.generation != generation_of(number) || seat.user == nullptr) continue;
    seat.waits = false;
    seat.user->session_credit(now);
  }
  served_.clear();
}

void Session::received(Bytes bytes, Nanos now) {
  if (state_ != State::greeting && state_ != State::up) return;
  heard_at_ = now;
  pinged_ = false;
  while (!bytes.empty() && (state_ == State::greeting || state_ == State::up)) {
    auto next = parser_->next(bytes);
    if (!next) return go_down(next.error(), now);
    if (!*next) break;
    handle(**next, now);
    if (dropping_) finish_drop(now);
  }
}

void Session::handle(const Frame& frame, Nanos now) {
  if (state_ == State::greeting) {
    if (frame.header.type == FrameType::refused) return handle_refused(frame, now);
    return handle_welcome(frame, now);
  }
  switch (frame.header.type) {
    case FrameType::acks: return handle_acks(frame, now);
    case FrameType::pong: return;
    case FrameType::refused:
      if (frame.header.request_id == 0 || (frame.header.flags & 1) != 0) return handle_refused(frame, now);
      if (const auto refused = wire::decode_refused(frame); refused && leave_follower(refused->error, now)) return;
      [[fallthrough]];
    case FrameType::stream_opened:
    case FrameType::producer_registered:
    case FrameType::read_begin:
    case FrameType::batches:
    case FrameType::notice:
    case FrameType::read_end:
    case FrameType::stat_text:
    case FrameType::promoted:
      // An answer to somebody who has left is no fault of the server.
      if (SessionUser* user = user_of(frame.header.request_id))
        user->session_answer(frame, static_cast<std::uint32_t>(frame.header.request_id), now);
      return;
    default: return go_down(Error::bad_frame, now);
  }
}

void Session::handle_welcome(const Frame& frame, Nanos now) {
  auto welcome = wire::decode_welcome(frame);
  if (!welcome) {
    if (welcome.error() == Error::unsupported_version) failure_ = welcome.error();
    return go_down(welcome.error(), now);
  }
  if (welcome->shard_count == 0 || welcome->shard.value >= welcome->shard_count ||
      (settings_.shard != wire::any_shard && settings_.shard != welcome->shard))
    return go_down(Error::wrong_shard, now);
  // A list may name servers of another log: its offsets mean nothing here.
  if (settings_.elsewhere && ever_up_ && welcome->log_id != welcome_.log_id) return go_down(Error::foreign, now);
  welcome_ = *std::move(welcome);
  settings_.shard = welcome_.shard;
  credit_ = CreditUse(welcome_.append_granted);
  backoff_next_ = settings_.backoff_min;
  state_ = State::up;
  ever_up_ = true;
  for (std::size_t i = 0; i < seats_.size() && state_ == State::up; ++i)
    if (seats_[i].user != nullptr) seats_[i].user->session_up(now);
}

void Session::handle_refused(const Frame& frame, Nanos now) {
  auto refused = wire::decode_refused(frame);
  if (!refused) return go_down(refused.error(), now);
  if (refused->error == Error::retry_later || refused->error == Error::not_ready) wait_hint_ = refused->detail;
  // During the handshake the server judges who we are, which a new attempt will not change; later it judges bytes, which may
  // have been damaged under way.
  if (state_ == State::greeting && next_step(refused->error) != NextStep::retry && !settings_.elsewhere)
    failure_ = refused->error;
  go_down(refused->error, now);
}

/// What was refused for this is not answered by anybody: it is sent again to whoever leads.
bool Session::leave_follower(Error error, Nanos now) {
  if (error != Error::not_leader || !settings_.elsewhere) return false;
  wait_hint_ = leader_wait_ms;
  go_down(error, now);
  return true;
}

void Session::handle_acks(const Frame& frame, Nanos now) {
  auto acks = wire::decode_acks(frame);
  if (!acks) return go_down(acks.error(), now);
  credit_.raise(acks->granted);
  for (std::size_t i = 0; i < acks->count() && state_ == State::up && !dropping_; ++i) {
    const wire::AckEntry entry = acks->entry(i);
    if (leave_follower(static_cast<Error>(entry.error), now)) return;
    if (SessionUser* user = user_of(entry.request_id))
      user->session_ack(entry, static_cast<std::uint32_t>(entry.request_id), now);
  }
  if (state_ == State::up && !dropping_) serve_waiting(now);
}

}  // namespace millrace
