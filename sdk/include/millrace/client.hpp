// Client: the connection of a process to a Millrace server. It owns one I/O thread that blocks when there is nothing to do,
// the memory of all batches under way, and the connections (one or more a shard), which it opens again by itself.
//
//   auto client = millrace::Client::connect({.server = "127.0.0.1:7070"});
//   auto producer = client->producer({.stream = "orders"});
//   producer->append(millrace::Record("hello"));
//   producer->flush();
//
// Threads: any. Producers and consumers may outlive the Client handle; the I/O thread ends with the last of them, which is
// not to be let go of in a callback.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "millrace/consumer.hpp"
#include "millrace/error.hpp"
#include "millrace/producer.hpp"

namespace millrace {

struct ClientOptions {
  std::string server = "127.0.0.1:7070";        // HOST:PORT; several with commas in between are a leader and its
                                                // followers: appends go to whichever leads, reads to whichever answers
  std::string identity{};                       // who we say we are; for the server's log
  std::uint32_t connections = 1;                // a shard; producers are spread over them, each stays on its own
  std::size_t memory_bytes = 64 * 1024 * 1024;  // all batches filling or in flight; append refuses beyond
  std::size_t batch_bytes_max = 256 * 1024;     // largest batch_bytes a producer may ask for; largest record
  std::uint32_t batch_records_max = 0;          // largest batch_records; 0 = batch_bytes_max / 16, at most 65,536
  std::chrono::milliseconds retry{30'000};  // how long to keep trying: connect, reconnect, and a server that cannot;
                                            // 0 = one try, with 5 s for the answer
};

/// What the server said of itself.
struct ServerInfo {
  std::uint32_t shards = 0;
  std::uint64_t cluster_id_high = 0;
  std::uint64_t cluster_id_low = 0;
};

struct PromotionOptions {
  bool ask_only = false;     // only find out whether it would be safe
  bool accept_loss = false;  // lead although the old leader may have acknowledged more than this node holds
};

/// What became of taking a shard over.
struct Promotion {
  bool leads = false;
  bool safe = false;  // nothing that was acknowledged is missing
  std::uint64_t epoch = 0;
  std::uint64_t next_lsn = 0;  // where the log ended
  std::string text;            // a sentence for a person
};

class ClientImpl;

class Client {
 public:
  Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Connects and shakes hands, trying for as long as `options.retry` (0: once).
  static Expected<Client> connect(const ClientOptions& options);

  /// Registers a producer for one stream (created with its first batch).
  Expected<Producer> producer(ProducerOptions options);
  Expected<Consumer> consumer(ConsumerOptions options);
  /// What the server says of itself, its shards and streams: JSON.
  Expected<std::string> stat();
  /// Has the follower that this client talks to take over one shard from its leader. Waits up to 45 s.
  Expected<Promotion> promote(std::uint32_t shard, PromotionOptions options);
  ServerInfo server() const;

  explicit Client(std::shared_ptr<ClientImpl> impl);

 private:
  std::shared_ptr<ClientImpl> impl_;
};

}  // namespace millrace
