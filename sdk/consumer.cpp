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

ByteView outer(Bytes bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

ConsumerImpl::ConsumerImpl(std::shared_ptr<ClientImpl> client, ConsumerOptions options)
    : client_(std::move(client)), options_(std::move(options)) {}

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
    if (inside_ && next_in_batches()) return result_;
    if (ended_) return result_;
    if (deadline == 0) deadline = deadline_after(timeout);
    const bool there = client_->thread().gate().wait(deadline, [&] {
      const std::lock_guard lock(mutex_);
      if (events_.empty()) return false;
      event_ = std::move(events_.front());
      events_.pop_front();
      return true;
    });
    result_ = {};
    if (!there) {
      result_.event = ReadEvent::timed_out;
      return result_;
    }
    if (event_.kind != ReadEventCore::Kind::batches) return tell(event_);
    inside_ = true;
    batch_ = 0;
    record_ = 0;
  }
}

const ReadResult& ConsumerImpl::tell(ReadEventCore& event) {
  switch (event.kind) {
    case ReadEventCore::Kind::day_finished:
      result_.event = ReadEvent::day_finished;
      result_.day = static_cast<std::uint32_t>(event.first);
      break;
    case ReadEventCore::Kind::data_loss:
      result_.event = ReadEvent::data_loss;
      result_.loss_first = event.first;
      result_.loss_end = event.next;
      result_.problem.code = event.error == Error::out_of_range ? ErrorCode::out_of_range : ErrorCode::data_loss;
      next_offset_ = event.next;
      break;
    case ReadEventCore::Kind::failed:
      result_.event = ReadEvent::failed;
      result_.problem = {code_of(event.error), event.detail, "read of " + options_.stream};
      ended_ = true;
      break;
    case ReadEventCore::Kind::batches:
    case ReadEventCore::Kind::end: return end();
  }
  return result_;
}

const ReadResult& ConsumerImpl::end() {
  result_ = {};
  result_.event = ReadEvent::end;
  ended_ = true;
  return result_;
}

bool ConsumerImpl::past_until(const ReadBatch& batch, std::uint32_t record) const {
  if (!options_.until) return false;
  const Place& until = *options_.until;
  switch (until.kind) {
    case Place::Kind::offset: return batch.header.first_offset + record >= until.offset;
    case Place::Kind::time: return batch.header.leader_time >= until.time;
    case Place::Kind::day:
      return batch.header.day > until.day ||
             (batch.header.day == until.day && batch.header.first_id + record >= until.id);
    case Place::Kind::earliest:
    case Place::Kind::latest: break;  // the server ends there, between batches
  }
  return false;
}

bool ConsumerImpl::next_in_batches() {
  for (; batch_ < event_.batches.size(); ++batch_, record_ = 0) {
    const ReadBatch& batch = event_.batches[batch_];
    for (; record_ < batch.body.count(); ++record_) {
      const std::uint64_t offset = batch.header.first_offset + record_;
      if (offset < event_.first) continue;
      if (past_until(batch, record_)) return end(), true;
      next_offset_ = offset + 1;
      if (options_.type && batch.body.type(record_) != *options_.type) continue;
      if (options_.count != 0 && given_ == options_.count) return end(), true;
      given_ += 1;
      fill(batch, record_);
      ++record_;
      return true;
    }
  }
  next_offset_ = std::max(next_offset_, event_.next);
  leave_event();
  return false;
}

void ConsumerImpl::fill(const ReadBatch& batch, std::uint32_t record) {
  const BatchHeader& header = batch.header;
  result_.event = ReadEvent::record;
  ReadRecord& target = result_.record;
  target.stream = options_.stream;
  target.offset = header.first_offset + record;
  target.day = header.day;
  target.id = header.first_id + record;
  target.lsn = header.lsn;
  target.leader_time = header.leader_time;
  target.event_time = batch.body.event_time(record);
  target.type = batch.body.type(record);
  target.payload = outer(batch.body.payload(record));
  target.key = batch.body.has_keys() ? outer(batch.body.key(record)) : ByteView{};
  target.headers = batch.body.has_headers() ? outer(batch.body.headers(record)) : ByteView{};
}

void ConsumerImpl::leave_event() {
  inside_ = false;
  consumed_.fetch_add(event_.bytes.size());
  event_ = {};
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
