#include "millrace/producer.hpp"

#include <utility>

#include "base/assert.hpp"
#include "sdk/client_impl.hpp"

namespace millrace {

namespace {

Bytes inner(ByteView view) { return {view.data(), view.size()}; }

BatchLimits limits_of(const ProducerOptions& options) {
  return {static_cast<std::uint32_t>(options.batch_bytes), options.batch_records, options.in_flight + options.queued};
}

}  // namespace

ProducerImpl::ProducerImpl(std::shared_ptr<ClientImpl> client, ProducerOptions options, std::uint32_t connection)
    : client_(std::move(client)),
      options_(std::move(options)),
      connection_(connection),
      ring_(client_->pool(), limits_of(options_), *this) {}

void ProducerImpl::begin(Nanos now) {
  ProducerSettings settings;
  settings.stream = options_.stream;
  settings.id = ProducerId{options_.id};
  settings.in_flight = options_.in_flight;
  settings.linger = std::chrono::nanoseconds(options_.linger).count();
  settings.retry = std::chrono::nanoseconds(client_->options().retry).count();
  SocketThread& thread = client_->thread();
  core_.emplace(thread.session(client_->shard_of(options_.stream), connection_), ring_, settings, *this);
  core_->start(now);
  thread.add(shared_from_this(), now);
}

void ProducerImpl::advance(Nanos now) {
  if (core_) core_->advance(now);
}

Nanos ProducerImpl::deadline() const { return core_ ? core_->deadline() : no_deadline; }

void ProducerImpl::ring_has_work() { client_->thread().signal(*this); }

void ProducerImpl::producer_timer() { client_->thread().reschedule(*this); }

void ProducerImpl::producer_ready(ProducerId id, std::uint32_t) {
  id_.store(id.value, std::memory_order_release);
  client_->thread().open_gate();
}

void ProducerImpl::producer_failed(Error error, std::uint64_t detail) {
  error_.store(static_cast<std::uint16_t>(error));
  error_detail_.store(detail);
  failed_.store(true, std::memory_order_release);
  client_->thread().open_gate();
}

void ProducerImpl::producer_result(const BatchResult& result) {
  if (options_.on_commit) {
    Commit commit;
    commit.error = result.error ? code_of(*result.error) : ErrorCode::none;
    commit.detail = result.detail;
    commit.first_ticket = result.first_ticket;
    commit.count = result.records;
    commit.first_offset = result.first_offset.value;
    commit.first_id = result.first_id.value;
    commit.lsn = result.lsn.value;
    commit.day = result.day.value;
    commit.level = static_cast<Level>(result.level);
    commit.repeat = result.repeat;
    commit.sent_at = result.sent_at;
    commit.acknowledged_at = result.answered_at;
    options_.on_commit(commit);
  }
  if (futures_used_.load(std::memory_order_acquire)) settle_futures(result);
  settled_.store(result.first_ticket + result.records, std::memory_order_release);
  client_->thread().open_gate();
}

void ProducerImpl::settle_futures(const BatchResult& result) {
  const std::lock_guard lock(futures_mutex_);
  auto future = futures_.lower_bound(result.first_ticket);
  while (future != futures_.end() && future->first < result.first_ticket + result.records) {
    const std::uint64_t index = future->first - result.first_ticket;
    if (result.error)
      future->second.set_value(Problem{code_of(*result.error), result.detail, "append to " + options_.stream});
    else
      future->second.set_value(Position{result.first_offset.value + index, result.first_id.value + index,
                                        result.lsn.value, result.day.value, static_cast<Level>(result.level)});
    future = futures_.erase(future);
  }
}

AppendStatus ProducerImpl::try_append(const Record& record, std::uint64_t* ticket) {
  if (failed_.load(std::memory_order_acquire)) return AppendStatus::failed;
  BatchRing::Input input{record.type, record.event_time == 0 ? wall_clock_now() : record.event_time,
                         inner(record.payload), inner(record.key), inner(record.headers)};
  std::uint64_t own = 0;
  switch (ring_.append(input, ticket != nullptr ? *ticket : own)) {
    case BatchRing::Outcome::accepted: return AppendStatus::accepted;
    case BatchRing::Outcome::too_large: return AppendStatus::too_large;
    case BatchRing::Outcome::no_room: break;
  }
  return AppendStatus::no_room;
}

AppendStatus ProducerImpl::append(const Record& record, std::chrono::nanoseconds timeout, std::uint64_t* ticket) {
  AppendStatus status = try_append(record, ticket);
  if (status != AppendStatus::no_room) return status;
  MR_ASSERT(!client_->thread().is_current());
  client_->thread().gate().wait(deadline_after(timeout),
                                [&] { return (status = try_append(record, ticket)) != AppendStatus::no_room; });
  return status;
}

std::future<Expected<Position>> ProducerImpl::append_future(const Record& record, std::chrono::nanoseconds timeout) {
  futures_used_.store(true, std::memory_order_release);
  std::promise<Expected<Position>> promise;
  std::future<Expected<Position>> future = promise.get_future();
  AppendStatus status = AppendStatus::no_room;
  client_->thread().gate().wait(deadline_after(timeout), [&] {
    // The result must not come before the promise stands in the map.
    const std::lock_guard lock(futures_mutex_);
    std::uint64_t ticket = 0;
    status = try_append(record, &ticket);
    if (status == AppendStatus::accepted) futures_.emplace(ticket, std::move(promise));
    return status != AppendStatus::no_room;
  });
  if (status == AppendStatus::accepted) return future;
  const Problem refused = status == AppendStatus::too_large ? Problem{ErrorCode::too_large, options_.batch_bytes, {}}
                          : status == AppendStatus::failed  ? problem()
                                                            : Problem{ErrorCode::timed_out};
  promise.set_value(refused);
  return future;
}

Expected<std::monostate> ProducerImpl::flush(std::chrono::nanoseconds timeout) {
  MR_ASSERT(!client_->thread().is_current());
  const std::uint64_t target = ring_.tickets();
  push();
  const bool settled = client_->thread().gate().wait(
      deadline_after(timeout), [&] { return settled_.load(std::memory_order_acquire) >= target || failed_.load(); });
  if (failed_.load()) return problem();
  if (!settled) return Problem{ErrorCode::timed_out, 0, "flush of " + options_.stream};
  return std::monostate{};
}

std::optional<Problem> ProducerImpl::wait_ready(std::chrono::nanoseconds timeout) {
  const bool settled =
      client_->thread().gate().wait(deadline_after(timeout), [&] { return id() != 0 || failed_.load(); });
  if (failed_.load()) return problem();
  if (!settled) return Problem{ErrorCode::timed_out, 0, "producer of " + options_.stream};
  return std::nullopt;
}

Problem ProducerImpl::problem() const {
  if (!failed_.load(std::memory_order_acquire)) return Problem{ErrorCode::none};
  return Problem{static_cast<ErrorCode>(error_.load()), error_detail_.load(), "append to " + options_.stream};
}

void ProducerImpl::close() {
  client_->thread().run([this](Nanos now) {
    core_->fail(Error::cancelled, 0, now);
    core_.reset();
    client_->thread().remove(*this);
  });
}

Producer::Producer() = default;
Producer::Producer(Producer&&) noexcept = default;
Producer& Producer::operator=(Producer&& other) noexcept {
  if (impl_) impl_->close();
  impl_ = std::move(other.impl_);
  return *this;
}
Producer::~Producer() {
  if (impl_) impl_->close();
}
Producer::Producer(std::shared_ptr<ProducerImpl> impl) : impl_(std::move(impl)) {}

AppendStatus Producer::try_append(const Record& record, std::uint64_t* ticket) {
  return impl_->try_append(record, ticket);
}
AppendStatus Producer::append(const Record& record, std::chrono::nanoseconds timeout, std::uint64_t* ticket) {
  return impl_->append(record, timeout, ticket);
}
std::future<Expected<Position>> Producer::append_future(const Record& record, std::chrono::nanoseconds timeout) {
  return impl_->append_future(record, timeout);
}
void Producer::push() { impl_->push(); }
Expected<std::monostate> Producer::flush(std::chrono::nanoseconds timeout) { return impl_->flush(timeout); }
Problem Producer::problem() const { return impl_->problem(); }
std::uint64_t Producer::id() const { return impl_->id(); }
const std::string& Producer::stream() const { return impl_->options().stream; }

}  // namespace millrace
