#include "millrace/client.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "protocol/fence.hpp"
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

/// One request to one shard, and the frame it is answered with.
class SingleRequest final : public SessionUser {
 public:
  using Ask = std::function<void(Session& session, std::uint64_t request_id)>;
  SingleRequest(SocketThread& thread, bool once, ShardIndex shard, Ask ask)
      : thread_(thread), once_(once), shard_(shard), ask_(std::move(ask)) {}

  void begin(Nanos now) {
    session_ = &thread_.session(shard_, 0);
    number_ = session_->join(*this);
    if (session_->up()) session_up(now);
  }
  void finish() { session_->leave(number_); }
  bool settled() const { return settled_.load(std::memory_order_acquire); }
  std::optional<Error> error;
  std::string refusal;  // what the server said with it
  FrameHeader header;
  std::vector<std::byte> body;

  void session_up(Nanos) override { ask_(*session_, Session::request_id(number_, 0)); }
  void session_down(Error reason, bool final, Nanos) override {
    if (final || once_) settle(reason);
  }
  void session_answer(const Frame& frame, std::uint32_t, Nanos) override {
    if (frame.header.type == FrameType::refused) {
      const auto refused = wire::decode_refused(frame);
      if (refused) refusal = std::string(refused->text);
      return settle(refused ? refused->error : Error::bad_frame);
    }
    header = frame.header;
    body.assign(frame.body.begin(), frame.body.end());
    settle(std::nullopt);
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
  const ShardIndex shard_;
  const Ask ask_;
  Session* session_ = nullptr;
  std::uint32_t number_ = 0;
  std::atomic<bool> settled_{false};
};

/// Asks and waits; false when no answer came.
bool settle(SocketThread& thread, const std::shared_ptr<SingleRequest>& request, std::chrono::nanoseconds patience) {
  thread.run([&](Nanos now) { request->begin(now); });
  const bool settled = thread.gate().wait(deadline_after(patience), [&] { return request->settled(); });
  thread.run([&](Nanos) { request->finish(); });
  return settled;
}

/// How long a node may take over: it asks its old leader, and waits for the rest of that one's log.
constexpr std::chrono::seconds promotion_time_max{45};

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

ClientImpl::ClientImpl(const ClientOptions& options, std::vector<SocketThread::Address> servers)
    : options_(options), pool_(options.memory_bytes, shape_of(options)), thread_(std::move(servers)) {}

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
  auto request = std::make_shared<SingleRequest>(
      thread_, options_.retry.count() == 0, wire::any_shard,
      [](Session& session, std::uint64_t id) { session.send(wire::Stat{id, {}, wire::stat_streams_max}); });
  const bool settled = settle(thread_, request, patience());
  if (!settled) return Problem{ErrorCode::timed_out, 0, "stat of " + options_.server};
  if (request->error) return Problem{code_of(*request->error), 0, "stat of " + options_.server};
  const auto stat = wire::decode_stat_text({request->header, request->body});
  if (!stat) return Problem{ErrorCode::bad_frame, 0, "stat of " + options_.server};
  return std::string(stat->json);
}

Expected<Promotion> ClientImpl::promote(std::uint32_t shard, PromotionOptions options) {
  const std::string what = "promote shard " + std::to_string(shard) + " of " + options_.server;
  auto request =
      std::make_shared<SingleRequest>(thread_, true, ShardIndex{shard}, [options](Session& session, std::uint64_t id) {
        session.send(wire::Promote{id, options.ask_only, options.accept_loss});
      });
  if (!settle(thread_, request, promotion_time_max)) return Problem{ErrorCode::timed_out, 0, what};
  if (request->error)
    return Problem{code_of(*request->error), 0, what + (request->refusal.empty() ? "" : ": " + request->refusal)};
  const auto promoted = wire::decode_promoted({request->header, request->body});
  if (!promoted) return Problem{ErrorCode::bad_frame, 0, what};
  return Promotion{promoted->leads, promoted->safe, promoted->epoch.value, promoted->next.value,
                   std::string(promoted->text)};
}

Client::Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;
Client::Client(std::shared_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}

Expected<Client> Client::connect(const ClientOptions& options) {
  const auto servers = SocketThread::resolve_all(options.server);
  if (!servers && servers.error() == Error::invalid_argument)
    return Problem{code_of(servers.error()), 0, "\"" + options.server + "\" is no HOST:PORT with a port of 1 to 65535"};
  if (!servers) return Problem{code_of(servers.error()), 0, "address " + options.server};
  auto impl = std::make_shared<ClientImpl>(options, *servers);
  if (!impl->thread().started())
    return Problem{ErrorCode::too_many_files, 0, "no thread or no descriptors for the client (ulimit -u, ulimit -n)"};
  if (auto problem = impl->greet()) return *std::move(problem);
  return Client(std::move(impl));
}

Expected<Producer> Client::producer(ProducerOptions options) { return impl_->producer(std::move(options)); }
Expected<Consumer> Client::consumer(ConsumerOptions options) { return impl_->consumer(std::move(options)); }
Expected<std::string> Client::stat() { return impl_->stat(); }
Expected<Promotion> Client::promote(std::uint32_t shard, PromotionOptions options) {
  return impl_->promote(shard, options);
}
ServerInfo Client::server() const { return impl_->server(); }

}  // namespace millrace
