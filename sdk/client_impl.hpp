// What stands behind the public handles: one object each, shared by the handle and the I/O thread.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "millrace/client.hpp"
#include "sdk/core/consumer_core.hpp"
#include "sdk/core/producer_core.hpp"
#include "sdk/record_walk.hpp"
#include "sdk/socket_thread.hpp"

namespace millrace {

/// Ours to the user's: the numbers are the same.
constexpr ErrorCode code_of(Error error) { return static_cast<ErrorCode>(error); }
constexpr Nanos nanos_of(std::chrono::nanoseconds time) { return time.count(); }
/// `timeout` from now on, without overflow.
Nanos deadline_after(std::chrono::nanoseconds timeout);

class ClientImpl : public std::enable_shared_from_this<ClientImpl> {
 public:
  ClientImpl(const ClientOptions& options, std::vector<SocketThread::Address> servers);

  /// Waits for the first welcome.
  std::optional<Problem> greet();
  Expected<Producer> producer(ProducerOptions options);
  Expected<Consumer> consumer(ConsumerOptions options);
  Expected<std::string> stat();
  Expected<Promotion> promote(std::uint32_t shard, PromotionOptions options);
  ServerInfo server() const { return server_; }

  const ClientOptions& options() const { return options_; }
  BufferPool& pool() { return pool_; }
  SocketThread& thread() { return thread_; }
  ShardIndex shard_of(const std::string& stream) const;
  std::chrono::nanoseconds patience() const {
    return std::chrono::nanoseconds(patience_of(std::chrono::nanoseconds(options_.retry).count()));
  }

 private:
  const ClientOptions options_;
  ServerInfo server_;
  BufferPool pool_;
  std::atomic<std::uint32_t> next_connection_{0};
  SocketThread thread_;  // last: it uses the rest until it has ended
};

/// A producer's handle side: the ring's appenders and waiters; its I/O side: core and results.
class ProducerImpl final : public std::enable_shared_from_this<ProducerImpl>,
                           public Driven,
                           public ProducerListener,
                           public BatchRingListener {
 public:
  ProducerImpl(std::shared_ptr<ClientImpl> client, ProducerOptions options, std::uint32_t connection);

  // Any thread.
  AppendStatus try_append(const Record& record, std::uint64_t* ticket);
  AppendStatus append(const Record& record, std::chrono::nanoseconds timeout, std::uint64_t* ticket);
  std::future<Expected<Position>> append_future(const Record& record, std::chrono::nanoseconds timeout);
  void push() { ring_.close_open(); }
  Expected<std::monostate> flush(std::chrono::nanoseconds timeout);
  Problem problem() const;
  std::optional<Problem> wait_ready(std::chrono::nanoseconds timeout);
  std::uint64_t id() const { return id_.load(std::memory_order_acquire); }
  const ProducerOptions& options() const { return options_; }
  /// Ends it and returns when nothing of it runs any more.
  void close();
  ClientImpl& client() { return *client_; }

  // The I/O thread.
  void begin(Nanos now);
  void advance(Nanos now) override;
  Nanos deadline() const override;
  void producer_ready(ProducerId id, std::uint32_t epoch) override;
  void producer_result(const BatchResult& result) override;
  void producer_failed(Error error, std::uint64_t detail) override;
  void producer_timer() override;
  void ring_has_work() override;

 private:
  void settle_futures(const BatchResult& result);

  const std::shared_ptr<ClientImpl> client_;
  const ProducerOptions options_;
  const std::uint32_t connection_;
  BatchRing ring_;
  std::optional<ProducerCore> core_;

  std::atomic<std::uint64_t> id_{0};
  std::atomic<std::uint64_t> settled_{0};  // tickets acknowledged or failed
  std::atomic<std::uint16_t> error_{0};
  std::atomic<std::uint64_t> error_detail_{0};
  std::atomic<bool> failed_{false};  // behind the two

  std::mutex futures_mutex_;
  std::map<std::uint64_t, std::promise<Expected<Position>>> futures_;
  std::atomic<bool> futures_used_{false};
};

/// A consumer's I/O side fills `events_`; its handle side walks through them record by record.
class ConsumerImpl final : public std::enable_shared_from_this<ConsumerImpl>, public Driven, public ConsumerListener {
 public:
  ConsumerImpl(std::shared_ptr<ClientImpl> client, ConsumerOptions options);

  const ReadResult& next(std::chrono::nanoseconds timeout);
  std::uint64_t next_offset() const { return walk_.next_offset(); }
  void close();
  ClientImpl& client() { return *client_; }

  void begin(Nanos now);
  void advance(Nanos now) override;
  Nanos deadline() const override;
  void consumer_event(ReadEventCore&& event) override;
  void consumer_timer() override;

 private:
  void leave_batches();
  const ReadResult& end();
  const ReadResult& tell(const ReadEventCore& event);

  const std::shared_ptr<ClientImpl> client_;
  const ConsumerOptions options_;
  std::optional<ConsumerCore> core_;

  std::mutex mutex_;
  std::deque<ReadEventCore> events_;
  std::atomic<std::uint64_t> consumed_{0};  // bytes, to be told to the core

  // The handle's side.
  RecordWalk walk_;
  bool ended_ = false;
  ReadResult result_;
};

}  // namespace millrace
