#include "cli/record_source.hpp"
#include "millrace/client.hpp"

namespace millrace::cli {

namespace {

class ServerSource final : public RecordSource {
 public:
  ServerSource(Client client, Consumer consumer) : client_(std::move(client)), consumer_(std::move(consumer)) {}
  const ReadResult& next(std::chrono::nanoseconds timeout) override { return consumer_.next(timeout); }

 private:
  Client client_;
  Consumer consumer_;
};

}  // namespace

Expected<std::unique_ptr<RecordSource>> server_source(const std::string& server, std::chrono::milliseconds retry,
                                                      const ConsumerOptions& options) {
  ClientOptions client_options;
  client_options.server = server;
  client_options.identity = "millrace-cli";
  client_options.retry = retry;
  client_options.memory_bytes = 0;  // nothing is appended
  auto client = Client::connect(client_options);
  if (!client) return client.problem();
  auto consumer = client->consumer(options);
  if (!consumer) return consumer.problem();
  std::unique_ptr<RecordSource> source = std::make_unique<ServerSource>(*std::move(client), *std::move(consumer));
  return source;
}

}  // namespace millrace::cli
