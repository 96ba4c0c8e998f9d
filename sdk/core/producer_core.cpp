#include "sdk/core/producer_core.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

namespace millrace {

namespace {

// Tokens of requests that are not appends; an append's token is the lower half of its sequence, and appends get acks, which
// come through session_ack, so the two never meet.
constexpr std::uint32_t open_token = 0;
constexpr std::uint32_t register_token = 1;

static_assert(frame_header_bytes + batch_header_bytes <= request_front_max);

}  // namespace

ProducerCore::ProducerCore(Session& session, BatchRing& ring, const ProducerSettings& settings,
                           ProducerListener& listener)
    : session_(session),
      ring_(ring),
      settings_(settings),
      listener_(listener),
      id_(settings.id),
      stream_(stream_id_of(settings.stream)),
      entries_(std::clamp<std::uint32_t>(settings.in_flight, 1, wire::producer_window_batches)),
      backoff_next_(settings.backoff_min) {}

ProducerCore::~ProducerCore() {
  if (state_ != State::idle) session_.leave(number_);
}

void ProducerCore::start(Nanos now) {
  MR_ASSERT(state_ == State::idle);
  number_ = session_.join(*this);
  state_ = State::waiting;
  progress_at_ = now;
  if (session_.failure()) return fail(*session_.failure(), 0, now);
  if (session_.up()) session_up(now);
}

void ProducerCore::session_up(Nanos) {
  if (state_ == State::waiting) request_opening();
}

void ProducerCore::request_opening() {
  state_ = State::opening;
  resume_at_.reset();
  session_.send(wire::OpenStream{Session::request_id(number_, open_token), settings_.stream, true});
  if (epoch_ == 0) session_.send(wire::RegisterProducer{Session::request_id(number_, register_token), id_});
}

void ProducerCore::session_down(Error error, bool final, Nanos now) {
  if (state_ == State::idle || state_ == State::failed) return;
  last_error_ = error;
  last_detail_ = 0;
  if (final || settings_.retry == 0) return fail(error, 0, now);
  state_ = State::waiting;
  note_pending(now);
  holding_ = false;
  resume_at_.reset();
  unanswered_ = 0;
  for (std::uint64_t s = front_; s != taken_; ++s)
    if (entry(s).fate != Fate::answered) entry(s).fate = Fate::unsent;
  next_ = front_;
}

Nanos ProducerCore::wait_after(Error error, std::uint64_t detail) {
  if ((error == Error::retry_later || error == Error::not_ready) && detail > 0)
    return static_cast<Nanos>(std::min<std::uint64_t>(detail, 10'000)) * 1'000'000;
  const Nanos wait = backoff_next_;
  backoff_next_ = std::min(backoff_next_ * 2, settings_.backoff_max);
  return wait;
}

void ProducerCore::retry_opening(Error error, std::uint64_t detail, Nanos now) {
  last_error_ = error;
  last_detail_ = detail;
  // Both requests may have been refused: one wait for the two.
  if (resume_at_) return;
  resume_at_ = now + wait_after(error, detail);
  listener_.producer_timer();
}

void ProducerCore::session_answer(const Frame& frame, std::uint32_t token, Nanos now) {
  if (state_ != State::opening) return;
  if (frame.header.type == FrameType::refused) {
    const auto refused = wire::decode_refused(frame);
    if (!refused) return session_.drop(refused.error());
    if (next_step(refused->error) == NextStep::retry && settings_.retry > 0)
      return retry_opening(refused->error, refused->detail, now);
    return fail(refused->error, refused->detail, now);
  }
  if (frame.header.type == FrameType::stream_opened && token == open_token) {
    const auto opened = wire::decode_stream_opened(frame);
    if (!opened || opened->stream != stream_) return session_.drop(Error::bad_frame);
    if (epoch_ != 0) {
      state_ = State::ready;
      pump(now);
    }
    return;
  }
  if (frame.header.type == FrameType::producer_registered && token == register_token) {
    const auto registered = wire::decode_producer_registered(frame);
    if (!registered || registered->epoch == 0 || registered->producer.value == 0 ||
        (id_.value != 0 && registered->producer != id_))
      return session_.drop(Error::bad_frame);
    id_ = registered->producer;
    epoch_ = registered->epoch;
    if (resume_at_) return;  // opening the stream was refused: it is asked again, the registration stands
    state_ = State::ready;
    progress_at_ = now;
    listener_.producer_ready(id_, epoch_);
    return pump(now);
  }
  session_.drop(Error::bad_frame);
}

void ProducerCore::session_ack(const wire::AckEntry& ack, std::uint32_t token, Nanos now) {
  if (state_ != State::ready) return;
  const std::uint64_t sequence = front_ + static_cast<std::uint32_t>(token - static_cast<std::uint32_t>(front_));
  // Nobody can have answered what is not written yet: its memory is still being read.
  if (sequence >= taken_ || entry(sequence).fate != Fate::sent ||
      entry(sequence).end_position > session_.outbox().sent_position())
    return session_.drop(Error::bad_frame);
  Entry& done = entry(sequence);
  unanswered_ -= 1;
  done.result.answered_at = now;
  const auto error = static_cast<Error>(ack.error);
  if (ack.error == 0 || error == Error::duplicate) {
    done.fate = Fate::answered;
    if (ack.error != 0) done.result.error = error;
    done.result.first_offset = Offset{ack.first_offset};
    done.result.first_id = RecordId{ack.first_id};
    done.result.lsn = Lsn{ack.lsn};
    done.result.day = Day{ack.day};
    done.result.level = ack.level;
    done.result.repeat = (ack.flags & wire::ack_flag_repeat) != 0 || ack.error != 0;
    deliver(now);
  } else if ((next_step(error) == NextStep::retry && settings_.retry > 0) || error == Error::unknown_stream ||
             (error == Error::out_of_order && (holding_ || sequence != front_))) {
    // What follows a refused batch is out of order until that one is stored: its turn comes again behind it.
    done.fate = Fate::refused;
    hold(error, ack.detail);
  } else {
    done.fate = Fate::refused;
    return fail(error, ack.detail, now);
  }
  if (holding_ && unanswered_ == 0 && !resume_at_) {
    resume_at_ = now + wait_after(last_error_, last_detail_);
    listener_.producer_timer();
  }
  pump(now);
}

void ProducerCore::hold(Error error, std::uint64_t detail) {
  if (holding_) return;
  holding_ = true;
  resume_at_.reset();
  last_error_ = error;
  last_detail_ = detail;
}

void ProducerCore::end_hold(Nanos now) {
  resume_at_.reset();
  holding_ = false;
  for (std::uint64_t s = front_; s != taken_; ++s)
    if (entry(s).fate == Fate::refused) entry(s).fate = Fate::unsent;
  next_ = front_;
  if (last_error_ == Error::unknown_stream) return request_opening();
  pump(now);
}

void ProducerCore::deliver(Nanos now) {
  while (front_ != taken_ && entry(front_).fate == Fate::answered) {
    const BatchResult result = entry(front_).result;
    ring_.release(entry(front_).taken.number);
    front_ += 1;
    next_ = std::max(next_, front_);
    progress_at_ = now;
    backoff_next_ = settings_.backoff_min;
    listener_.producer_result(result);
  }
}

void ProducerCore::session_credit(Nanos now) { pump(now); }

void ProducerCore::pump(Nanos now) {
  if (state_ != State::ready || holding_) return;
  for (;;) {
    if (next_ == taken_ && !take_next(now)) return;
    if (!send_next(now)) return;
  }
}

bool ProducerCore::take_next(Nanos now) {
  if (taken_ - front_ == entries_.size()) return false;
  const BatchRing::Readiness readiness = ring_.next();
  if (readiness == BatchRing::Readiness::nothing || readiness == BatchRing::Readiness::copying) return false;
  if (readiness == BatchRing::Readiness::filling && settings_.linger > 0) {
    if (linger_until_ == no_deadline) {
      linger_until_ = now + settings_.linger;
      listener_.producer_timer();
    }
    if (now < linger_until_) return false;
  }
  Entry& target = entry(taken_);
  if (!ring_.take(target.taken)) return false;
  linger_until_ = no_deadline;
  if (front_ == taken_) progress_at_ = now;
  stamp(target, taken_);
  taken_ += 1;
  return true;
}

void ProducerCore::stamp(Entry& target, std::uint64_t sequence) {
  const PackedBody packed = pack_body(target.taken.buffer, target.taken.records, scratch_);
  BatchHeader batch;
  batch.body_hash = hash128(packed.body);
  batch.stream_id = stream_.value;
  batch.record_count = packed.record_count;
  batch.body_bytes = static_cast<std::uint32_t>(packed.body.size());
  batch.event_time_min = packed.event_time_min;
  batch.event_time_max = packed.event_time_max;
  batch.producer_id = id_.value;
  batch.producer_epoch = epoch_;
  batch.producer_sequence = sequence;
  batch.raw_bytes = batch.body_bytes;
  batch.checksum = header_checksum(batch);

  const std::size_t body_bytes = batch_header_bytes + packed.body.size();
  std::byte* begin = packed.body.data() - batch_header_bytes - frame_header_bytes;
  const MutableBytes whole(begin, frame_span(body_bytes));
  store(whole, frame_header_bytes, batch);
  FrameHeader frame;
  frame.type = FrameType::append;
  frame.request_id = Session::request_id(number_, static_cast<std::uint32_t>(sequence));
  frame.body_bytes = static_cast<std::uint32_t>(body_bytes);
  write_frame_header(whole, frame);
  const std::size_t unpadded = frame_header_bytes + body_bytes;
  std::memset(begin + unpadded, 0, whole.size() - unpadded);

  target.frame = whole;
  target.fate = Fate::unsent;
  target.end_position = 0;
  target.result = {};
  target.result.first_ticket = target.taken.first_ticket;
  target.result.records = target.taken.records;
}

bool ProducerCore::send_next(Nanos now) {
  Entry& target = entry(next_);
  if (target.fate == Fate::unsent) {
    if (!session_.has_credit(target.frame.size())) {
      session_.want_credit(number_);
      return false;
    }
    target.end_position = session_.append(target.frame);
    target.fate = Fate::sent;
    if (target.result.sent_at == 0) target.result.sent_at = now;
    unanswered_ += 1;
  }
  next_ += 1;
  return true;
}

Nanos ProducerCore::deadline() const {
  if (state_ == State::idle || state_ == State::failed) return no_deadline;
  Nanos when = pending() ? progress_at_ + patience_of(settings_.retry) : no_deadline;
  if (resume_at_) when = std::min(when, *resume_at_);
  // Linger is over without effect while something older still waits for credit or an answer.
  if (state_ == State::ready && !holding_ && next_ == taken_ && taken_ - front_ < entries_.size())
    when = std::min(when, linger_until_);
  return when;
}

bool ProducerCore::pending() const {
  return front_ != taken_ || epoch_ == 0 || (state_ != State::ready && ring_.next() != BatchRing::Readiness::nothing);
}

void ProducerCore::note_pending(Nanos now) {
  // The wait for progress begins when there is something to wait for, not when the server went away.
  const bool now_pending = pending();
  if (now_pending && !was_pending_) progress_at_ = now;
  was_pending_ = now_pending;
}

void ProducerCore::advance(Nanos now) {
  if (state_ == State::failed) return drain_ring(last_error_, last_detail_);
  if (state_ == State::idle) return;
  note_pending(now);
  if (pending() && now >= progress_at_ + patience_of(settings_.retry)) return fail(last_error_, last_detail_, now);
  if (resume_at_ && now >= *resume_at_) {
    if (state_ == State::opening) return request_opening();
    if (holding_) return end_hold(now);
  }
  pump(now);
}

void ProducerCore::fail(Error error, std::uint64_t detail, Nanos now) {
  if (state_ == State::failed) return;
  if (session_.up()) {
    // Memory the socket still has to read cannot be given back: the connection goes first.
    for (std::uint64_t s = front_; s != taken_; ++s)
      if (entry(s).fate == Fate::sent && entry(s).end_position > session_.outbox().sent_position())
        session_.drop(Error::cancelled);
  }
  state_ = State::failed;
  last_error_ = error;
  last_detail_ = detail;
  resume_at_.reset();
  unanswered_ = 0;
  for (; front_ != taken_; ++front_) {
    BatchResult result = entry(front_).result;
    result.error = error;
    result.detail = detail;
    result.answered_at = now;
    ring_.release(entry(front_).taken.number);
    listener_.producer_result(result);
  }
  next_ = front_;
  drain_ring(error, detail);
  listener_.producer_failed(error, detail);
}

void ProducerCore::drain_ring(Error error, std::uint64_t detail) {
  BatchRing::Taken rest;
  while (ring_.take(rest)) {
    BatchResult result;
    result.error = error;
    result.detail = detail;
    result.first_ticket = rest.first_ticket;
    result.records = rest.records;
    ring_.release(rest.number);
    listener_.producer_result(result);
  }
}

}  // namespace millrace
