// A leader and its follower in the simulated world, a client that appends, and what both must have in common.
#pragma once

#include "tests/server/server_fixture.hpp"

namespace millrace::test {

inline constexpr Nanos milli = nanos_per_milli;

/// Appends batches of all sizes, one after the other, until its connection ends; then again. Of eight so many are big.
inline Task<> append_on(WireClient& client, Random& random, unsigned big) {
  GREET(wire::any_shard);
  client.send(wire::OpenStream{2, "demo", true});
  RECEIVE(opened);
  for (std::uint64_t i = 0;; i++) {
    const std::size_t most = random.next() % 8 < big ? 200'000 : 3'000;
    append(client, 10 + i, batch_of("demo", 2, std::string(1 + random.next() % most, 'a' + static_cast<char>(i % 26))));
    auto receiving = client.receive();
    auto frame = co_await receiving;
    if (!frame) co_return Result<>();
    Sleep pause(client.reactor(), client.reactor().now() + static_cast<Nanos>(random.next() % (4 * milli)));
    if (random.next() % 3 == 0) co_await pause;
  }
}

inline Task<> keep_appending(Reactor& reactor, Random random, unsigned big, std::string host) {
  (void)reactor.kernel().provide_buffers(16, 64 * KiB);
  while (true) {
    WireClient client(reactor);
    auto connecting = client.connect(host, port);
    auto connected = co_await connecting;
    if (connected) {
      auto appending = append_on(client, random, big);
      (void)co_await appending;
      auto closing = client.close();
      (void)co_await closing;
    }
    Sleep pause(reactor, reactor.now() + 20 * milli);
    co_await pause;
  }
}

/// Segments that hold something, indexes and finish files of a node, by their paths.
inline sim::DirectoryImage log_of(const SimNode& node) {
  sim::DirectoryImage files;
  for (auto& [path, bytes] : node.disk.image()) {
    const bool of_day = path.starts_with("data/shard-00/20") && !path.ends_with('/');
    if (of_day && !all_zero(bytes)) files.emplace(path, bytes);
  }
  return files;
}

class FollowTest : public ::testing::Test {
 protected:
  explicit FollowTest(std::uint64_t seed = 1)
      : world(seed, FaultPlan{}),
        leader(world.add_node("leader")),
        copy(world.add_node("follower")),
        clients(world.add_node("clients")),
        followed_by(&copy) {}

  SimProcess& serve(SimNode& node) {
    ServerConfig config = small_config();
    config.host = node.host;
    config.insecure = true;
    config.port = port;
    config.ack_quorum = quorum;
    if (&node == followed_by) config.follow = HostPort{(&node == &copy ? leader : copy).host, port};
    return world.start(node, 1, [this, config](std::span<Kernel* const> kernels) {
      return std::make_unique<ServerProgram>(kernels, config, said);
    });
  }
  static Shard* shard_of(SimProcess* process) {
    if (process == nullptr || !process->running()) return nullptr;
    auto& shards = static_cast<ServerProgram&>(process->program()).cores[0]->shards();
    return shards.empty() || !shards[0]->is_open() ? nullptr : shards[0].get();
  }
  void start_both() {
    leading = &serve(leader);
    ASSERT_TRUE(world.run_until([&] { return shard_of(leading) != nullptr; }, patience));
    following = &serve(copy);
    ASSERT_TRUE(world.run_until([&] { return shard_of(following) != nullptr; }, patience));
  }
  bool level() const {
    Shard* from = shard_of(leading);
    Shard* to = shard_of(following);
    if (from == nullptr || to == nullptr || !to->follower()->state().connected) return false;
    const Watermarks marks = from->log().watermarks();
    return marks.durable == marks.appended && marks.durable == to->log().watermarks().durable;
  }
  /// The last things that were said.
  std::string told() const {
    std::string text;
    for (std::size_t i = said.lines.size() - std::min<std::size_t>(said.lines.size(), 16); i < said.lines.size(); i++)
      text += "\n" + said.lines[i];
    return text;
  }
  std::string differences() const {
    std::string text;
    const auto theirs = log_of(leader), ours = log_of(copy);
    for (auto& [path, bytes] : theirs) {
      if (!ours.contains(path)) text += "\nthe follower lacks " + path;
      else if (ours.at(path) != bytes) text += "\ndiffers: " + path;
    }
    for (auto& [path, bytes] : ours)
      if (!theirs.contains(path)) text += "\nthe leader lacks " + path;
    return text;
  }
  void expect_same(const std::string& when) {
    ASSERT_TRUE(world.run_until([&] { return level(); }, patience)) << when << told();
    // What runs in the background (an index, a finish file) comes to its end.
    std::string differing = differences();
    for (int i = 0; i < 20 && !differing.empty(); i++) {
      ASSERT_TRUE(world.run_for(nanos_per_second / 2));
      differing = differences();
    }
    EXPECT_EQ(differing, "") << when << told();
    EXPECT_TRUE(level());
    EXPECT_EQ(streams_of(leading), streams_of(following)) << when;
  }
  /// What the tables of a node say of its streams.
  static std::string streams_of(SimProcess* process) {
    std::string text;
    shard_of(process)->log().visit_streams(0, 1000, [&](const StreamInfo& stream) {
      text += std::string(stream.name) + " " + std::to_string(stream.first_offset.value) + " " +
              std::to_string(stream.next_offset.value) + " " + std::to_string(stream.next_id.value) + "\n";
    });
    return text + std::to_string(shard_of(process)->log().offset_floor().value);
  }
  void begin_load(unsigned big = 1) {
    const Random random = world.stream("load");
    const std::string host = (followed_by == &copy ? leader : copy).host;
    loading =
        &world.start(clients, 1, sim::CoroutineProgram::factory([random, big, host](Reactor& reactor, std::size_t) {
                       return keep_appending(reactor, random, big, host);
                     }));
  }
  void end_load() { world.kill(*loading); }

  KeptDiagnostics said;
  SimWorld world;
  SimNode& leader;
  SimNode& copy;
  SimNode& clients;
  SimNode* followed_by;  // the node that follows the other one
  bool quorum = false;
  SimProcess* leading = nullptr;
  SimProcess* following = nullptr;
  SimProcess* loading = nullptr;
};

}  // namespace millrace::test
