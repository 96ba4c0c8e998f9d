#include "millrace/client.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "sdk/client_impl.hpp"

namespace millrace {

namespace {

/// A session's user that only wants to know when it is up, or that it never will be.
class Greeting final : public Driven, public SessionUser {
 public:
  Greeting(SocketThread& thread, bool once) : thread_(thread), once_(once) {}

  void begin() {
    session_ = &thread_.session(wire::any_shard, 0);
    number_ = session_->join(*this);
    if (session_->up()) up_.store(true);
  }
  void finish() {
    session_->leave(number_);
    welcome_ = session_->welcome();
    last_error_ = session_->failure().value_or(session_->last_error());
  }
  bool settled() const { return up_.load() || refused_.load(); }
  bool up() const { return up_.load(); }
  const wire::Welcome& welcome() const { return welcome_; }
  Error last_error() const { return last_error_; }

  void advance(Nanos) override {}
  Nanos deadline() const override { return no_deadline; }
  void session_up(Nanos) override {
    up_.store(true);
    thread_.open_gate();
  }
  void session_down(Error, bool final, Nanos) override {
    if (!final && !once_) return;
    refused_.store(true);
    thread_.open_gate();
  }
  void session_answer(const Frame&, std::uint32_t, Nanos) override {}
  void session_ack(const wire::AckEntry&, std::uint32_t, Nanos) override {}
  void session_credit(Nanos) override {}

 private:
  SocketThread& thread_;
  const bool once_;  // no second attempt
  Session* session_ = nullptr;
  std::uint32_t number_ = 0;
  wire::Welcome welcome_;
  Error last_error_ = Error::timed_out;
  std::atomic<bool> up_{false};
  std::atomic<bool> refused_{false};
};

/// One stat request, answered by JSON.
class StatRequest final : public SessionUser {
 public:
  StatRequest(SocketThread& thread, bool once) : thread_(thread), once_(once) {}

  void begin(Nanos now) {
    session_ = &thread_.session(wire::any_shard, 0);
    number_ = session_->join(*this);
    if (session_->up()) session_up(now);
  }
  void finish() { session_->leave(number_); }
  bool settled() const { return settled_.load(std::memory_order_acquire); }
  std::optional<Error> error;
  std::string text;

  void session_up(Nanos) override {
    session_->send(wire::Stat{Session::request_id(number_, 0), {}, wire::stat_streams_max});
  }
  void session_down(Error reason, bool final, Nanos) override {
    if (final || once_) settle(reason);
  }
  void session_answer(const Frame& frame, std::uint32_t, Nanos) override {
    if (const auto stat = wire::decode_stat_text(frame)) {
      text = stat->json;
      return settle(std::nullopt);
    }
    const auto refused = wire::decode_refused(frame);
    settle(refused ? refused->error : Error::bad_frame);
  }
  void session_ack(const wire::AckEntry&, std::uint32_t, Nanos) override {}
  void session_credit(Nanos) override {}

 private:
  void settle(std::optional<Error> reason) {
    if (settled()) return;
    error = reason;
    settled_.store(true, std::memory_order_release);
    thread_.open_gate();
  }

  SocketThread& thread_;
  const bool once_;
  Session* session_ = nullptr;
  std::uint32_t number_ = 0;
  std::atomic<bool> settled_{false};
};

BufferShape shape_of(const ClientOptions& options) {
  // Records shorter than 16 bytes close a batch by their number.
  const std::size_t by_bytes = std::clamp<std::size_t>(options.batch_bytes_max / 16, 64, 65'536);
  const std::size_t records = options.batch_records_max == 0 ? by_bytes : options.batch_records_max;
  const auto records_max = static_cast<std::uint32_t>(std::min<std::size_t>(records, client_batch_records_max));
  // What a batch has beside payloads counts against the server's limit.
  return BufferShape::of(std::clamp<std::size_t>(options.batch_bytes_max, 1 * KiB, arena_bytes_max(records_max)),
                         records_max);
}

Problem bad_name(const std::string& stream) {
  return {ErrorCode::invalid_argument, 0, "\"" + stream + "\": " + std::string(wire::stream_name_rule)};
}

}  // namespace

Nanos deadline_after(std::chrono::nanoseconds timeout) {
  const Nanos now = steady_now();
  return timeout.count() >= no_deadline - now ? no_deadline : now + timeout.count();
}

ClientImpl::ClientImpl(const ClientOptions& options, const SocketThread::Address& address)
    : options_(options), pool_(options.memory_bytes, shape_of(options)), thread_(address) {}

std::optional<Problem> ClientImpl::greet() {
  auto greeting = std::make_shared<Greeting>(thread_, options_.retry.count() == 0);
  thread_.run([&](Nanos) { greeting->begin(); });
  thread_.gate().wait(deadline_after(patience()), [&] { return greeting->settled(); });
  thread_.run([&](Nanos) { greeting->finish(); });
  if (!greeting->up()) return Problem{code_of(greeting->last_error()), 0, "connect to " + options_.server};
  const wire::Welcome& welcome = greeting->welcome();
  server_ = {welcome.shard_count, welcome.cluster_id.high, welcome.cluster_id.low};
  return std::nullopt;
}

ShardIndex ClientImpl::shard_of(const std::string& stream) const {
  return wire::shard_of(stream_id_of(stream), server_.shards);
}

Expected<Producer> ClientImpl::producer(ProducerOptions options) {
  if (!wire::is_stream_name(options.stream)) return bad_name(options.stream);
  if (options.in_flight < 1 || options.in_flight > wire::producer_window_batches)
    return Problem{ErrorCode::invalid_argument, 0, "in_flight is 1 to 64"};
  if (options.batch_bytes < 1 || options.batch_bytes > pool_.shape().arena_bytes)
    return Problem{ErrorCode::too_large, pool_.shape().arena_bytes, "batch_bytes over the client's batch_bytes_max"};
  options.batch_records = std::clamp<std::uint32_t>(options.batch_records, 1, pool_.shape().records_max);
  options.queued = std::max<std::uint32_t>(options.queued, 1);
  const bool wait = options.wait_until_ready;
  const std::uint32_t connection = next_connection_.fetch_add(1) % std::max<std::uint32_t>(options_.connections, 1);
  auto made = std::make_shared<ProducerImpl>(shared_from_this(), std::move(options), connection);
  thread_.post([made](Nanos now) { made->begin(now); });
  Producer producer(made);
  if (wait)
    if (auto problem = made->wait_ready(patience() + std::chrono::seconds(1))) return *std::move(problem);
  return producer;
}

Expected<Consumer> ClientImpl::consumer(ConsumerOptions options) {
  if (!wire::is_stream_name(options.stream)) return bad_name(options.stream);
  auto made = std::make_shared<ConsumerImpl>(shared_from_this(), std::move(options));
  thread_.post([made](Nanos now) { made->begin(now); });
  return Consumer(made);
}

Expected<std::string> ClientImpl::stat() {
  auto request = std::make_shared<StatRequest>(thread_, options_.retry.count() == 0);
  thread_.run([&](Nanos now) { request->begin(now); });
  const bool settled = thread_.gate().wait(deadline_after(patience()), [&] { return request->settled(); });
  thread_.run([&](Nanos) { request->finish(); });
  if (!settled) return Problem{ErrorCode::timed_out, 0, "stat of " + options_.server};
  if (request->error) return Problem{code_of(*request->error), 0, "stat of " + options_.server};
  return request->text;
}

Client::Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;
Client::Client(std::shared_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}

Expected<Client> Client::connect(const ClientOptions& options) {
  const auto address = SocketThread::resolve(options.server);
  if (!address && address.error() == Error::invalid_argument)
    return Problem{code_of(address.error()), 0, "\"" + options.server + "\" is no HOST:PORT with a port of 1 to 65535"};
  if (!address) return Problem{code_of(address.error()), 0, "address " + options.server};
  auto impl = std::make_shared<ClientImpl>(options, *address);
  if (!impl->thread().started())
    return Problem{ErrorCode::too_many_files, 0, "no thread or no descriptors for the client (ulimit -u, ulimit -n)"};
  if (auto problem = impl->greet()) return *std::move(problem);
  return Client(std::move(impl));
}

Expected<Producer> Client::producer(ProducerOptions options) { return impl_->producer(std::move(options)); }
Expected<Consumer> Client::consumer(ConsumerOptions options) { return impl_->consumer(std::move(options)); }
Expected<std::string> Client::stat() { return impl_->stat(); }
ServerInfo Client::server() const { return impl_->server(); }

}  // namespace millrace
