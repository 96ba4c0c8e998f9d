#include "sdk/core/consumer_core.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace millrace {

namespace {
/// A reader that holds more than its credit still lets one batch come, or a reconnect could stop it for ever.
constexpr std::uint64_t grant_bytes_min = 4 * KiB;
}  // namespace

ConsumerCore::ConsumerCore(Session& session, const ConsumerSettings& settings, ConsumerListener& listener)
    : session_(session), settings_(settings), listener_(listener), stream_(stream_id_of(settings.stream)) {}

ConsumerCore::~ConsumerCore() {
  if (state_ == State::idle) return;
  if ((state_ == State::asked || state_ == State::reading) && session_.up())
    session_.send(wire::CancelRead{Session::request_id(number_, read_)});
  session_.leave(number_);
}

void ConsumerCore::start(Nanos now) {
  MR_ASSERT(state_ == State::idle);
  number_ = session_.join(*this);
  state_ = State::waiting;
  progress_at_ = now;
  if (session_.failure()) return handle_end(*session_.failure(), 0, now);
  if (session_.up()) ask();
}

void ConsumerCore::session_up(Nanos now) {
  if (state_ != State::waiting || resume_at_) return;
  progress_at_ = now;
  ask();
}

void ConsumerCore::session_down(Error error, bool final, Nanos now) {
  if (state_ == State::done || state_ == State::idle) return;
  last_error_ = error;
  if (final || settings_.retry == 0) return handle_end(error, 0, now);
  if (state_ != State::waiting) progress_at_ = now;
  state_ = State::waiting;
  listener_.consumer_timer();
}

void ConsumerCore::ask() {
  if (begun_ && stop_at_ && next_ >= *stop_at_) return finish({});
  read_ += 1;
  received_ = 0;
  granted_ = 0;
  granted_ = std::max(grant(), grant_bytes_min);
  wire::Read read;
  read.request_id = Session::request_id(number_, read_);
  read.stream = stream_;
  read.from = begun_ ? wire::Position::at(Offset{next_}) : settings_.from;
  read.until = stop_at_ ? wire::Position::at(Offset{*stop_at_}) : settings_.until;
  read.follow = settings_.follow;
  read.filter_type = settings_.type.has_value();
  read.type = settings_.type.value_or(0);
  read.credit = granted_;
  session_.send(read);
  state_ = State::asked;
}

std::uint64_t ConsumerCore::grant() const {
  const std::uint64_t ahead = settings_.credit_bytes > held_ ? settings_.credit_bytes - held_ : 0;
  return std::max(granted_, received_ + ahead);
}

void ConsumerCore::consumed(std::uint64_t bytes) {
  MR_ASSERT(bytes <= held_);
  held_ -= bytes;
  if (state_ != State::asked && state_ != State::reading) return;
  const std::uint64_t target = grant();
  // A quarter at a time: a grant is a frame.
  if (target - granted_ < settings_.credit_bytes / 4 || !session_.up()) return;
  granted_ = target;
  session_.send(wire::ReadCredit{Session::request_id(number_, read_), granted_});
}

void ConsumerCore::session_answer(const Frame& frame, std::uint32_t token, Nanos now) {
  if (token != read_ || (state_ != State::asked && state_ != State::reading)) return;
  switch (frame.header.type) {
    case FrameType::read_begin: return handle_begin(frame, now);
    case FrameType::batches: return handle_batches(frame, now);
    case FrameType::notice: return handle_notice(frame, now);
    case FrameType::read_end: {
      const auto end = wire::decode_read_end(frame);
      if (!end) return session_.drop(end.error());
      if (end->error == 0) return finish({});
      return handle_end(static_cast<Error>(end->error), end->detail, now);
    }
    case FrameType::refused: {
      const auto refused = wire::decode_refused(frame);
      if (!refused) return session_.drop(refused.error());
      return handle_end(refused->error, refused->detail, now);
    }
    default: return session_.drop(Error::bad_frame);
  }
}

void ConsumerCore::handle_begin(const Frame& frame, Nanos now) {
  const auto begin = wire::decode_read_begin(frame);
  if (!begin) return session_.drop(begin.error());
  progress_at_ = now;
  state_ = State::reading;
  if (begun_) return;
  begun_ = true;
  next_ = begin->from.value;
  // "The end" means the end when the reader first asked, whatever is appended while a connection is lost.
  const bool to_end = settings_.until.kind == wire::PositionKind::latest ||
                      (settings_.until.kind == wire::PositionKind::none && !settings_.follow);
  if (to_end) stop_at_ = begin->end.value;
  else if (settings_.until.kind == wire::PositionKind::offset) stop_at_ = settings_.until.value;
}

bool ConsumerCore::verify(const wire::Batches& message, ReadEventCore& event) const {
  if (message.first.value > message.next.value) return false;
  Bytes rest = event.bytes;
  std::uint64_t at = 0;
  bool first = true;
  while (!rest.empty()) {
    if (rest.size() < batch_header_bytes) return false;
    const auto header = read_batch_header(rest);
    if (!header || header->kind != BatchKind::data || header->stream_id != stream_.value) return false;
    if (batch_span(header->body_bytes) > rest.size()) return false;
    const auto body = BodyView::parse(rest.subspan(batch_header_bytes, header->body_bytes), *header);
    if (!body) return false;
    // Batches touch each other, except where the server leaves out those without a wanted type, and at holes it has named.
    if (!first && header->first_offset < at) return false;
    if (!settings_.type && (first ? header->first_offset > next_ : header->first_offset != at)) return false;
    at = header->first_offset + header->record_count;
    if (at > message.next.value) return false;
    first = false;
    event.batches.push_back({*header, *body});
    rest = rest.subspan(batch_span(header->body_bytes));
  }
  return true;
}

void ConsumerCore::handle_batches(const Frame& frame, Nanos now) {
  const auto message = wire::decode_batches(frame);
  if (!message) return session_.drop(message.error());
  // A copy of its own, verified where it stays: what the application sees is what the hash was compared with.
  ReadEventCore event;
  event.kind = ReadEventCore::Kind::batches;
  event.first = next_;
  event.next = message->next.value;
  event.bytes.assign(message->batches.begin(), message->batches.end());
  if (!verify(*message, event)) return distrust(now);
  progress_at_ = now;
  received_ += event.bytes.size();
  if (message->next.value <= next_) return;  // only records that were handed out before
  held_ += event.bytes.size();
  next_ = message->next.value;
  distrusted_.reset();
  listener_.consumer_event(std::move(event));
}

void ConsumerCore::distrust(Nanos now) {
  // Once may have been the way here; twice at the same place is what the server has.
  if (distrusted_ == next_) return handle_end(Error::corrupt, next_, now);
  distrusted_ = next_;
  session_.drop(Error::bad_body);
}

void ConsumerCore::handle_notice(const Frame& frame, Nanos) {
  const auto notice = wire::decode_notice(frame);
  if (!notice) return session_.drop(notice.error());
  ReadEventCore event;
  switch (notice->kind) {
    case wire::NoticeKind::day_finished:
      event.kind = ReadEventCore::Kind::day_finished;
      event.first = notice->first;
      event.next = notice->next;
      break;
    case wire::NoticeKind::data_loss:
    case wire::NoticeKind::out_of_range:
      // Either way the records from `next_` up to the next readable one will never come.
      event.kind = ReadEventCore::Kind::data_loss;
      event.first = std::max(notice->first, next_);
      event.next = notice->next;
      if (notice->kind == wire::NoticeKind::out_of_range) event.error = Error::out_of_range;
      if (event.next <= event.first) return;
      next_ = event.next;
      break;
  }
  listener_.consumer_event(std::move(event));
}

void ConsumerCore::handle_end(Error error, std::uint64_t detail, Nanos now) {
  if (next_step(error) == NextStep::retry && !session_.failure() && settings_.retry > 0) {
    last_error_ = error;
    if (state_ == State::reading) progress_at_ = now;
    state_ = State::waiting;
    const auto hint = static_cast<Nanos>(std::min<std::uint64_t>(detail, 10'000)) * 1'000'000;
    resume_at_ = now + std::max(hint, settings_.backoff);
    listener_.consumer_timer();
    return;
  }
  ReadEventCore event;
  event.kind = ReadEventCore::Kind::failed;
  event.error = error;
  event.detail = detail;
  finish(std::move(event));
}

void ConsumerCore::finish(ReadEventCore&& event) {
  state_ = State::done;
  listener_.consumer_event(std::move(event));
}

Nanos ConsumerCore::deadline() const {
  if (state_ != State::waiting && state_ != State::asked) return no_deadline;
  const Nanos give_up = progress_at_ + patience_of(settings_.retry);
  return resume_at_ ? std::min(give_up, *resume_at_) : give_up;
}

void ConsumerCore::advance(Nanos now) {
  if (state_ != State::waiting && state_ != State::asked) return;
  if (now >= progress_at_ + patience_of(settings_.retry)) {
    ReadEventCore event;
    event.kind = ReadEventCore::Kind::failed;
    event.error = last_error_;
    return finish(std::move(event));
  }
  if (resume_at_ && now >= *resume_at_) {
    resume_at_.reset();
    if (session_.up() && state_ == State::waiting) ask();
  }
}

void ConsumerCore::session_ack(const wire::AckEntry&, std::uint32_t, Nanos) { session_.drop(Error::bad_frame); }

void ConsumerCore::session_credit(Nanos) {}

}  // namespace millrace
