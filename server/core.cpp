#include "server/core.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/time.hpp"
#include "server/memory_plan.hpp"
#include "server/server.hpp"

namespace millrace {

namespace {

constexpr Nanos stop_poll = 5 * nanos_per_milli;  // how often a stop looks whether others are done

}  // namespace

Core::Core(Server& server, std::uint32_t number, Kernel& kernel)
    : server_(server),
      number_(number),
      reactor_(kernel),
      frame_memory_(plan_memory(server.config(), server.core_count()).frames),
      read_memory_(plan_memory(server.config(), server.core_count()).reads),
      listener_(reactor_) {
  ack_scratch_.reserve(wire::acks_entries_max);
  output_scratch_.reserve(64 * KiB);
  tick_.context = this;
  tick_.fire = [](Timer& self) { static_cast<Core*>(self.context)->tick(); };
  reactor_.arm(tick_, reactor_.now() + tick_interval);
}

Core::~Core() {
  reactor_.abandon();  // coroutines go before the connections and shards they refer to
  server_.box(number_).detach();
  reactor_.withdraw(*this);
  reactor_.disarm(tick_);
}

// --- Coming up.

void Core::open_directory() { reactor_.spawn(run_open_directory()); }
void Core::open_shards() { reactor_.spawn(run_open_shards()); }
void Core::listen() { reactor_.spawn(run_listen()); }
void Core::stop() {
  if (!std::exchange(stopping_, true)) reactor_.spawn(run_stop());
}

Task<> Core::run_open_directory() {
  opening_ = true;
  auto steps = open_and_tell();
  (void)co_await steps;
  opening_ = false;
  co_return Result<>();
}

Task<> Core::open_and_tell() {
  auto receiving = reactor_.kernel().provide_buffers(receive_buffers, server_.config().receive_buffer_bytes);
  if (!receiving) {
    server_.give_up(*this, fmt::format("no memory for receive buffers: {}", error_text(receiving.error())));
    co_return Result<>();
  }
  std::string complaint;
  auto opening = open_data_directory(reactor_, server_.config(), complaint);
  auto directory = co_await opening;
  if (directory) server_.directory_opened(*this, *directory);
  else server_.give_up(*this, complaint.empty() ? std::string(error_text(directory.error())) : complaint);
  co_return Result<>();
}

LogOptions Core::log_options(ShardIndex shard) const {
  const ServerConfig& config = server_.config();
  const DataDirectory& directory = server_.directory();
  LogOptions options;
  options.directory = shard_directory(directory, shard);
  options.node_meta_path = directory.node_meta_path;
  options.shard = shard;
  options.segment_bytes = directory.segment_bytes;
  options.pool_segments = config.pool_segments;
  options.memory_bytes = plan_memory(config, server_.core_count()).logs / directory.shard_count;
  options.day_offset_seconds = directory.day_offset_seconds;
  options.retain_days = config.retain_days;
  options.retain_bytes = config.retain_bytes / directory.shard_count;
  options.buffered = config.buffered;
  options.accept_clock = config.accept_clock;
  options.follow = config.follow.has_value();
  if (config.follow)
    options.leader_hash = hash64(bytes_of(fmt::format("{}:{}", config.follow->host, config.follow->port)));
  options.allocations = server_.environment().allocations;
  options.commit_sizes = config.commit_sizes;
  options.give_up = &stopping_;
  return options;
}

Task<> Core::run_open_shards() {
  opening_ = true;
  auto steps = open_each_shard();
  auto opened = co_await steps;
  opening_ = false;
  if (opened) server_.core_opened();
  co_return Result<>();
}

Task<> Core::open_each_shard() {
  if (number_ != 0) {
    auto receiving = reactor_.kernel().provide_buffers(receive_buffers, server_.config().receive_buffer_bytes);
    if (!receiving) {
      server_.core_failed(fmt::format("no memory for receive buffers: {}", error_text(receiving.error())));
      co_return fail(receiving.error());
    }
  }
  for (std::uint32_t index = number_; !stopping_ && index < server_.directory().shard_count;
       index += server_.core_count()) {
    shards_.push_back(std::make_unique<Shard>(*this, ShardIndex{index}));
    Shard& opened = *shards_.back();
    auto opening = opened.open(log_options(ShardIndex{index}));
    auto result = co_await opening;
    if (result) continue;
    if (stopping_ && result.error() == Error::cancelled) co_return fail(result.error());
    const std::string& diagnosis = opened.report().diagnosis;
    server_.core_failed(fmt::format("shard {}: {}", index, diagnosis.empty() ? error_text(result.error()) : diagnosis));
    co_return fail(result.error());
  }
  co_return Result<>();
}

Task<> Core::run_listen() {
  Address address{server_.config().host, server_.config().port};
  listener_.keep_spare(server_.environment().spare_descriptor);
  auto listening = listener_.listen(address);
  auto port = co_await listening;
  if (!port) {
    server_.give_up(*this,
                    fmt::format("cannot listen on {}:{}: {}", address.host, address.port, error_text(port.error())));
    co_return Result<>();
  }
  listening_ = true;
  server_.listening(*this, *port);
  if (stopping_) co_return Result<>();
  accepting_ended_ = false;
  reactor_.spawn(run_accept());
  co_return Result<>();
}

Task<> Core::run_accept() {
  while (!stopping_) {
    auto connection = co_await listener_.accept();
    if (!connection) break;
    accepted(*connection);
  }
  accepting_ended_ = true;
  progress_.notify();
  co_return Result<>();
}

// --- Connections.

void Core::accepted(Listener::Accepted connection) {
  counters_.accepted++;
  std::uint64_t id = ++last_connection_;
  auto made = std::make_unique<Connection>(*this, id, connection.descriptor);
  Connection& added = *made;
  connections_.emplace(id, std::move(made));
  std::uint32_t open = server_.connections().fetch_add(1, std::memory_order_relaxed);
  bool full = open >= server_.connections_max();
  if (full || connection.last) {
    counters_.crowded_out++;
    bool of_files = connection.last || server_.connections_max() < server_.config().connections_max;
    added.refuse(of_files ? Error::too_many_files : Error::retry_later, 1000);
    return;
  }
  ungreeted_.push_back(&added);
  added.start();
}

void Core::adopt(std::int32_t descriptor, const wire::Hello& hello, std::vector<std::byte> bytes) {
  if (stopping_ || shard(hello.shard) == nullptr) {
    server_.connections().fetch_sub(1, std::memory_order_relaxed);
    reactor_.close_later(descriptor);
    return;
  }
  std::uint64_t id = ++last_connection_;
  auto connection = std::make_unique<Connection>(*this, id, descriptor);
  Connection& added = *connection;
  connections_.emplace(id, std::move(connection));
  added.adopt(*shard(hello.shard), hello, std::move(bytes));
}

namespace {

class HandOver final : public Errand {
 public:
  HandOver(std::int32_t descriptor, const wire::Hello& hello, std::vector<std::byte> bytes)
      : descriptor_(descriptor), hello_(hello), bytes_(std::move(bytes)) {}
  void run(Core& core) override { core.adopt(descriptor_, hello_, std::move(bytes_)); }

 private:
  std::int32_t descriptor_;
  wire::Hello hello_;
  std::vector<std::byte> bytes_;
};

}  // namespace

void Core::hand_over(std::int32_t descriptor, const wire::Hello& hello, std::vector<std::byte> bytes) {
  server_.connections().fetch_add(1, std::memory_order_relaxed);  // the one here is about to be reaped
  server_.post(server_.core_of(hello.shard), std::make_unique<HandOver>(descriptor, hello, std::move(bytes)));
}

Shard* Core::shard(ShardIndex index) {
  for (auto& shard : shards_)
    if (shard->index() == index) return shard.get();
  return nullptr;
}

Connection* Core::find(std::uint64_t connection_id) {
  auto found = connections_.find(connection_id);
  return found == connections_.end() ? nullptr : found->second.get();
}

void Core::greeted(Connection& connection) { std::erase(ungreeted_, &connection); }

void Core::forget(Connection& connection) {
  std::erase(ungreeted_, &connection);
  std::erase(waiting_for_memory_, &connection);
}

void Core::reap_later(Connection& connection) {
  reaping_.push_back(connection.id());
  reactor_.request(*this);
}

void Core::wait_for_memory(Connection& connection) {
  waiting_for_memory_.push_back(&connection);
  reactor_.request(*this);
}

void Core::give_read_memory_back(MutableBytes memory) {
  read_memory_.give_back(memory);
  read_memory_freed_.notify();
}

void Core::turn_ended() {
  for (std::uint64_t id : reaping_) {
    auto found = connections_.find(id);
    if (found == connections_.end() || !found->second->finished()) continue;
    connections_.erase(found);
    server_.connections().fetch_sub(1, std::memory_order_relaxed);
    progress_.notify();
  }
  reaping_.clear();
  if (frame_memory_.freed() && !waiting_for_memory_.empty()) {
    for (Connection* connection : waiting_for_memory_) connection->resume();
    waiting_for_memory_.clear();
  }
}

// --- Time.

void Core::tick() {
  reactor_.arm(tick_, reactor_.now() + tick_interval);
  for (auto& shard : shards_) shard->tick();
  end_late_connections();
  if (!waiting_for_memory_.empty()) reactor_.request(*this);
  say_crowded();
  if (server_.phase() == ServerPhase::opening) say_progress();
}

/// Whoever is not let in should be found in the log, not only at the client.
void Core::say_crowded() {
  std::uint64_t refused = counters_.crowded_out - crowded_out_said_,
                failed = listener_.failed() - accept_failures_said_;
  if ((refused == 0 && failed == 0) || reactor_.now() < quiet_until_) return;
  quiet_until_ = reactor_.now() + say_again_after;
  crowded_out_said_ = counters_.crowded_out;
  accept_failures_said_ = listener_.failed();
  bool of_files = failed > 0 || server_.connections_max() < server_.config().connections_max;
  server_.say(Severity::warning,
              fmt::format("{} connections were refused: {} are open, {}", refused, server_.connections().load(),
                          of_files ? "and the limit on open files leaves room for no more; raise it (ulimit -n, "
                                     "LimitNOFILE= in a systemd unit)"
                                   : "as many as --connections-max allows"));
}

void Core::end_late_connections() {
  Nanos now = reactor_.now();
  std::vector<Connection*> late;
  for (Connection* connection : ungreeted_)
    if (now - connection->accepted_at() > hello_wait_max) late.push_back(connection);
  for (auto& [id, connection] : connections_) {
    bool frame = !waiting_for_memory_.empty() && connection->within_frame();
    bool read = read_memory_freed_.has_waiters() && connection->taking_since() < now - read_stall_max;
    connection->rest(now);
    if (read || (frame && now - connection->last_heard() > frame_stall_max)) late.push_back(connection.get());
  }
  for (Connection* connection : late) connection->refuse(Error::timed_out);
}

/// Openings that take long say how far they are.
void Core::say_progress() {
  for (auto& shard : shards_) {
    const OpeningReport& report = shard->report();
    if (shard->is_open() || report.step.empty()) continue;
    std::string text = fmt::format("shard {}: {}", shard->index().value, report.step);
    if (report.bytes_total != 0)
      text += fmt::format(", {} of {} MiB", report.bytes_done / MiB, report.bytes_total / MiB);
    server_.say(Severity::note, text);
  }
}

// --- Going down.

Task<> Core::run_stop_shard(Shard& shard) {
  auto stopping = shard.stop();
  (void)co_await stopping;
  shards_stopped_++;
  progress_.notify();
  co_return Result<>();
}

Task<> Core::run_stop() {
  while (opening_) {
    Sleep pause(reactor_, reactor_.now() + stop_poll);
    co_await pause;
  }
  if (listening_) {
    auto closing = listener_.close();
    (void)co_await closing;
    while (!accepting_ended_) co_await progress_.wait();
  }
  for (auto& shard : shards_) reactor_.spawn(run_stop_shard(*shard));
  while (shards_stopped_ < shards_.size()) co_await progress_.wait();
  while (work_under_way_ > 0) co_await progress_.wait();
  for (auto& [id, connection] : connections_) connection->end();
  Nanos deadline = reactor_.now() + drain_wait_max;
  while (!connections_.empty() && reactor_.now() < deadline) {
    Sleep pause(reactor_, reactor_.now() + stop_poll);
    co_await pause;
  }
  if (connections_.empty())
    for (auto& shard : shards_) shard->close();
  server_.core_stopped();
  co_return Result<>();
}

}  // namespace millrace
