#include "millrace/consumer.hpp"

#include <utility>

#include "base/assert.hpp"
#include "sdk/client_impl.hpp"

namespace millrace {

namespace {

wire::Position position_of(const Place& place) {
  switch (place.kind) {
    case Place::Kind::earliest: return wire::Position::earliest();
    case Place::Kind::latest: return wire::Position::latest();
    case Place::Kind::offset: return wire::Position::at(Offset{place.offset});
    case Place::Kind::time: return wire::Position::at_time(place.time);
    case Place::Kind::day: return wire::Position::at_day(Day{place.day}, RecordId{place.id});
  }
  return {};
}

}  // namespace

ConsumerImpl::ConsumerImpl(std::shared_ptr<ClientImpl> client, ConsumerOptions options)
    : client_(std::move(client)), options_(std::move(options)), walk_(options_) {}

void ConsumerImpl::begin(Nanos now) {
  ConsumerSettings settings;
  settings.stream = options_.stream;
  settings.from = position_of(options_.from);
  if (options_.until) settings.until = position_of(*options_.until);
  settings.follow = options_.follow;
  settings.type = options_.type;
  settings.credit_bytes = options_.credit_bytes;
  settings.retry = std::chrono::nanoseconds(client_->options().retry).count();
  SocketThread& thread = client_->thread();
  core_.emplace(thread.session(client_->shard_of(options_.stream), 0), settings, *this);
  thread.add(shared_from_this(), now);
  core_->start(now);
  thread.reschedule(*this);
}

void ConsumerImpl::advance(Nanos now) {
  if (!core_) return;
  if (const std::uint64_t bytes = consumed_.exchange(0)) core_->consumed(bytes);
  core_->advance(now);
}

Nanos ConsumerImpl::deadline() const { return core_ ? core_->deadline() : no_deadline; }

void ConsumerImpl::consumer_timer() { client_->thread().reschedule(*this); }

void ConsumerImpl::consumer_event(ReadEventCore&& event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  client_->thread().open_gate();
}

const ReadResult& ConsumerImpl::next(std::chrono::nanoseconds timeout) {
  Nanos deadline = 0;  // asked for only where it matters: most records are there
  for (;;) {
    if (ended_) return result_;
    if (walk_.inside()) {
      const RecordWalk::Step step = walk_.next(result_);
      if (step == RecordWalk::Step::record) return result_;
      leave_batches();
      if (step == RecordWalk::Step::finished) return end();
    }
    if (deadline == 0) deadline = deadline_after(timeout);
    ReadEventCore event;
    const bool there = client_->thread().gate().wait(deadline, [&] {
      const std::lock_guard lock(mutex_);
      if (events_.empty()) return false;
      event = std::move(events_.front());
      events_.pop_front();
      return true;
    });
    result_ = {};
    if (!there) {
      result_.event = ReadEvent::timed_out;
      return result_;
    }
    if (event.kind != ReadEventCore::Kind::batches) return tell(event);
    walk_.enter(std::move(event));
  }
}

const ReadResult& ConsumerImpl::tell(const ReadEventCore& event) {
  if (event.kind == ReadEventCore::Kind::data_loss) walk_.pass_to(event.next);
  ended_ = tell_event(event, options_.stream, result_);
  return result_;
}

const ReadResult& ConsumerImpl::end() {
  result_ = {};
  result_.event = ReadEvent::end;
  ended_ = true;
  return result_;
}

void ConsumerImpl::leave_batches() {
  consumed_.fetch_add(walk_.leave());
  client_->thread().signal(*this);
}

void ConsumerImpl::close() {
  client_->thread().run([this](Nanos) {
    core_.reset();
    client_->thread().remove(*this);
  });
}

Consumer::Consumer() = default;
Consumer::Consumer(Consumer&&) noexcept = default;
Consumer& Consumer::operator=(Consumer&& other) noexcept {
  if (impl_) impl_->close();
  impl_ = std::move(other.impl_);
  return *this;
}
Consumer::~Consumer() {
  if (impl_) impl_->close();
}
Consumer::Consumer(std::shared_ptr<ConsumerImpl> impl) : impl_(std::move(impl)) {}

const ReadResult& Consumer::next(std::chrono::nanoseconds timeout) { return impl_->next(timeout); }
std::uint64_t Consumer::next_offset() const { return impl_->next_offset(); }

}  // namespace millrace
