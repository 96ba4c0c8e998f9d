// The server on real threads: two cores, a connection to each shard, stat from both, and an end while clients are connected. Run
// under TSan too.
#include "server/threads.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "reactor/posix_kernel.hpp"
#include "tests/server/server_program.hpp"

namespace millrace::test {
namespace {

class QuietDiagnostics final : public Diagnostics {
 public:
  void say(Severity, std::string_view) override {}
};

/// Appends to a stream of the shard, asks for stat, and waits for the end of the connection.
Task<> visit(Reactor& reactor, std::uint16_t port, ShardIndex shard, int& answered, bool& ended) {
  WireClient client(reactor);
  auto connecting = client.connect("127.0.0.1", port);
  auto connected = co_await connecting;
  EXPECT_TRUE(connected);
  auto greeting = client.greet(shard);
  auto welcome = co_await greeting;
  EXPECT_TRUE(welcome && welcome->shard == shard);
  std::string name = "stream-0";
  for (int i = 1; wire::shard_of(stream_id_of(name), 2) != shard; i++) name = "stream-" + std::to_string(i);
  client.send(wire::OpenStream{2, name, true});
  client.send(wire::Append{3, batch_of(name, 2, "threads")});
  client.send(wire::Stat{4, StreamId{}, 0});
  while (true) {
    auto receiving = client.receive();
    auto frame = co_await receiving;
    if (!frame) break;
    answered++;
  }
  auto closing = client.close();
  (void)co_await closing;
  ended = true;
  co_return Result<>();
}

TEST(ServerThreads, TwoCoresServeTheirShardsAndEndTogether) {
  std::string folder = std::filesystem::current_path() / "millrace-threads-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ServerConfig config = small_config();
  config.data = folder + "/data";
  config.port = 0;
  config.shards = 2;
  QuietDiagnostics diagnostics;
  ServerThreads threads(config, ServerEnvironment{.diagnostics = &diagnostics});
  std::string complaint;
  std::thread serving([&] { complaint = threads.run(); });
  while (threads.server().phase() == ServerPhase::opening) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_EQ(threads.server().phase(), ServerPhase::serving);

  PosixKernel kernel;
  Reactor reactor(kernel);
  ASSERT_TRUE(kernel.provide_buffers(16, 64 * KiB));
  int answered = 0;
  bool ended[2] = {};
  for (std::uint32_t shard = 0; shard < 2; shard++)
    reactor.spawn(visit(reactor, threads.server().port(), ShardIndex{shard}, answered, ended[shard]));
  Nanos deadline = reactor.kernel().now() + 60 * nanos_per_second;
  auto turn = [&] { reactor.turn(reactor.kernel().now() + 20 * nanos_per_milli); };
  while (answered < 6 && reactor.kernel().now() < deadline) turn();
  EXPECT_EQ(answered, 6) << "opened, acknowledged and described, by each shard";
  threads.stop();
  while ((!ended[0] || !ended[1]) && reactor.kernel().now() < deadline) turn();
  EXPECT_TRUE(ended[0] && ended[1]);
  serving.join();
  EXPECT_EQ(complaint, "");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace millrace::test
