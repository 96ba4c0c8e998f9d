// Streams keep their bytes and their order whatever the network does to the pieces.
#include "tests/sim/sim_network.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/sim/sim_kernel.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace::sim {
namespace {

constexpr std::size_t stream_bytes = 300'000;
std::byte pattern(std::size_t at) { return static_cast<std::byte>((at * 2654435761U) >> 13); }

/// What a test's programs share.
struct Shared {
  Address server{"10.0.0.1", 7070};
  std::vector<std::byte> got;
  std::int32_t accepted = 0;
  std::vector<std::int32_t> results;
  std::uint64_t buffers_exhausted = 0;
  bool echo_end = false;
};

struct Received {
  std::vector<std::byte> bytes;
  std::vector<std::int32_t> results;
  Kernel* kernel = nullptr;
  Signal changed;
  bool ended = false;
};

void on_receive(Operation& operation, const Completion& completion) {
  auto& received = *static_cast<Received*>(operation.context);
  received.results.push_back(completion.result);
  if (completion.buffer.id >= 0) {
    received.bytes.insert(received.bytes.end(), completion.buffer.data,
                          completion.buffer.data + completion.buffer.length);
    received.kernel->recycle(completion.buffer);
  }
  if (!completion.more) received.ended = true;
  if (received.changed.has_waiters()) received.changed.notify();
}

Task<> serve_one(Reactor& reactor, Shared& shared) {
  Operation listen;
  listen.code = OperationCode::listen;
  Address address{"0.0.0.0", 7070};
  listen.address = &address;
  listen.length = 16;
  auto listener = co_await Io(listen);
  if (!listener) co_return fail(listener.error());
  if (!reactor.kernel().provide_buffers(4, 4096)) co_return fail(Error::internal);
  Operation accept;
  std::int32_t connection = -1;
  while (connection < 0) {
    accept = Operation{};
    accept.code = OperationCode::accept;
    accept.descriptor = static_cast<std::int32_t>(*listener);
    auto accepted = co_await Io(accept);
    if (accepted) connection = static_cast<std::int32_t>(*accepted);
    else shared.results.push_back(-1);
  }
  ++shared.accepted;
  Received received;
  received.kernel = &reactor.kernel();
  Operation receive;
  for (bool open = true; open;) {
    receive = Operation{};
    receive.code = OperationCode::receive;
    receive.descriptor = connection;
    receive.provided = receive.multishot = true;
    receive.context = &received;
    receive.on_complete = on_receive;
    received.ended = false;
    reactor.submit(receive);
    while (!received.ended) co_await received.changed.wait();
    std::int32_t last = received.results.back();
    if (last == -ENOBUFS) ++shared.buffers_exhausted;
    else if (last <= 0) open = false;
  }
  shared.got = received.bytes;
  shared.results.push_back(received.results.back());
  co_return Result<>{};
}

Task<> send_stream(Reactor& reactor, Shared& shared) {
  Operation connect;
  std::int32_t connection = -1;
  for (int attempt = 0; attempt < 50 && connection < 0; ++attempt) {
    connect = Operation{};
    connect.code = OperationCode::connect;
    connect.address = &shared.server;
    auto connected = co_await Io(connect);
    if (connected) connection = static_cast<std::int32_t>(*connected);
    else co_await Sleep(reactor, reactor.now() + 10'000'000);
  }
  std::vector<std::byte> bytes(stream_bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = pattern(i);
  Operation send;
  send.code = OperationCode::send;
  send.descriptor = connection;
  send.data = bytes.data();
  send.length = static_cast<std::uint32_t>(bytes.size());
  auto sent = co_await Io(send);
  if (!sent || *sent != bytes.size()) co_return fail(Error::connection_lost);
  Operation close;
  close.code = OperationCode::close;
  close.descriptor = connection;
  auto closed = co_await Io(close);
  if (!closed) co_return fail(closed.error());
  co_return Result<>{};
}

struct Outcome {
  Shared shared;
  std::uint64_t hash = 0;
  Nanos took = 0;
  bool ended = false;
};

Outcome transfer(std::uint64_t seed, const FaultPlan& plan) {
  Outcome outcome;
  SimWorld world(seed, plan);
  SimNode& server = world.add_node("server");
  SimNode& client = world.add_node("client");
  SimProcess& serving = world.start(server, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) {
                                      return serve_one(reactor, outcome.shared);
                                    }));
  world.start(client, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) {
                return send_stream(reactor, outcome.shared);
              }));
  Nanos begin = world.now();
  outcome.ended = world.run_until([&] { return !serving.running(); }, 1'000'000'000'000);
  outcome.took = world.now() - begin;
  outcome.hash = world.trace_hash();
  return outcome;
}

void expect_prefix(const std::vector<std::byte>& got) {
  ASSERT_LE(got.size(), stream_bytes);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], pattern(i)) << i;
}

TEST(SimNetwork, a_stream_arrives_whole) {
  Outcome outcome = transfer(1, FaultPlan::quiet());
  ASSERT_TRUE(outcome.ended);
  EXPECT_EQ(outcome.shared.got.size(), stream_bytes);
  expect_prefix(outcome.shared.got);
}

TEST(SimNetwork, pieces_and_exhausted_buffers_change_no_byte) {
  FaultPlan plan;
  plan[FaultClass::small_pieces] = 1'000'000;
  plan[FaultClass::multishot_ended] = 100'000;
  plan[FaultClass::buffers_exhausted] = 100'000;
  plan[FaultClass::connection_refused] = 300'000;
  plan[FaultClass::accept_aborted] = 0;
  std::uint64_t exhausted = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Outcome outcome = transfer(seed, plan);
    ASSERT_TRUE(outcome.ended) << seed;
    EXPECT_EQ(outcome.shared.got.size(), stream_bytes) << seed;
    expect_prefix(outcome.shared.got);
    exhausted += outcome.shared.buffers_exhausted;
  }
  EXPECT_GT(exhausted, 0U);
}

TEST(SimNetwork, a_reset_leaves_a_prefix_and_an_error) {
  FaultPlan plan;
  plan[FaultClass::connection_reset] = 200'000;
  int resets = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Outcome outcome = transfer(seed, plan);
    ASSERT_TRUE(outcome.ended) << seed;
    expect_prefix(outcome.shared.got);
    if (outcome.shared.results.back() == -ECONNRESET) ++resets;
    else EXPECT_EQ(outcome.shared.got.size(), stream_bytes);
  }
  EXPECT_GT(resets, 5);
  EXPECT_LT(resets, 30);
}

TEST(SimNetwork, a_slow_reader_slows_the_sender_down) {
  FaultPlan plan;
  plan[FaultClass::network_delay] = 200'000;
  Outcome quick = transfer(1, FaultPlan::quiet());
  Outcome slow = transfer(1, plan);
  ASSERT_TRUE(slow.ended);
  EXPECT_EQ(slow.shared.got.size(), stream_bytes);
  EXPECT_GT(slow.took, 10 * quick.took);
}

TEST(SimNetwork, the_same_seed_is_the_same_run) {
  FaultPlan plan;
  plan[FaultClass::small_pieces] = 500'000;
  plan[FaultClass::connection_reset] = 10'000;
  EXPECT_EQ(transfer(4, plan).hash, transfer(4, plan).hash);
  EXPECT_NE(transfer(4, plan).hash, transfer(5, plan).hash);
}

Task<> wait_for_byte(Reactor& reactor, Shared& shared) {
  std::byte one{};
  Operation connect;
  connect.code = OperationCode::connect;
  connect.address = &shared.server;
  auto connection = co_await Io(connect);
  if (!connection) co_return fail(connection.error());
  shared.accepted = 1;
  Operation send;
  send.code = OperationCode::send;
  send.descriptor = static_cast<std::int32_t>(*connection);
  send.data = &one;
  send.length = 1;
  for (;;) {
    auto sent = co_await Io(send);
    if (!sent) break;
    co_await Sleep(reactor, reactor.now() + 500'000'000);
  }
  shared.results.push_back(-1);
  co_return Result<>{};
}

/// A client that sends a byte twice a second; the world is `break_it` after one second. Returns how long the client took to notice.
template <class BreakIt>
Nanos noticed_after(BreakIt break_it) {
  Shared shared;
  SimWorld world(9, FaultPlan::quiet());
  SimNode& server = world.add_node("server");
  SimNode& client = world.add_node("client");
  SimProcess& serving = world.start(
      server, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return serve_one(reactor, shared); }));
  SimProcess& waiting = world.start(client, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) {
                                      return wait_for_byte(reactor, shared);
                                    }));
  world.run_for(1'000'000'000);
  EXPECT_TRUE(waiting.running());
  break_it(world, server, client, serving);
  Nanos begin = world.now();
  EXPECT_TRUE(world.run_until([&] { return !waiting.running(); }, 200'000'000'000));
  return world.now() - begin;
}

TEST(SimNetwork, a_killed_process_is_noticed_at_once_and_a_dead_machine_is_not) {
  EXPECT_LT(noticed_after([](SimWorld& world, SimNode&, SimNode&, SimProcess& serving) { world.kill(serving); }),
            2'000'000'000);
  // Half-open: no reset ever comes, the sender gives up by itself.
  EXPECT_GT(noticed_after([](SimWorld& world, SimNode& server, SimNode&, SimProcess&) {
              world.power_cut(server, CutProfile::uniform);
            }),
            30'000'000'000);
}

TEST(SimNetwork, a_partition_holds_everything_back_and_healing_lets_it_through) {
  Shared shared;
  SimWorld world(9, FaultPlan::quiet());
  SimNode& server = world.add_node("server");
  SimNode& client = world.add_node("client");
  world.network().partition(server, client);
  SimProcess& serving = world.start(
      server, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return serve_one(reactor, shared); }));
  world.start(client, 1,
              CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return send_stream(reactor, shared); }));
  world.run_for(5'000'000'000);
  EXPECT_EQ(shared.accepted, 0);
  world.network().heal(server, client);
  EXPECT_TRUE(world.run_until([&] { return !serving.running(); }, 10'000'000'000));
  EXPECT_EQ(shared.got.size(), stream_bytes);
}

Task<> close_under_receive(Reactor& reactor, Shared& shared) {
  Operation connect;
  connect.code = OperationCode::connect;
  connect.address = &shared.server;
  auto connection = co_await Io(connect);
  if (!connection) co_return fail(connection.error());
  std::byte target{};
  Received received;
  received.kernel = &reactor.kernel();
  Operation receive;
  receive.code = OperationCode::receive;
  receive.descriptor = static_cast<std::int32_t>(*connection);
  receive.data = &target;
  receive.length = 1;
  receive.context = &received;
  receive.on_complete = on_receive;
  reactor.submit(receive);
  co_await Sleep(reactor, reactor.now() + 1'000'000);
  Operation close;
  close.code = OperationCode::close;
  close.descriptor = receive.descriptor;
  auto closed = co_await Io(close);
  co_await Sleep(reactor, reactor.now() + 1'000'000);
  shared.echo_end = received.ended;  // the operation keeps the connection alive
  Operation cancel;
  cancel.code = OperationCode::cancel;
  cancel.target = &receive;
  auto cancelled = co_await Io(cancel);
  while (!received.ended) co_await received.changed.wait();
  shared.results.push_back(received.results.back());
  co_return closed&& cancelled ? Result<>{} : Result<>{fail(Error::internal)};
}

TEST(SimNetwork, closing_a_descriptor_does_not_end_what_waits_on_it_cancelling_does) {
  Shared shared;
  SimWorld world(2, FaultPlan::quiet());
  SimNode& server = world.add_node("server");
  SimNode& client = world.add_node("client");
  SimProcess& serving = world.start(
      server, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return serve_one(reactor, shared); }));
  world.run_for(1'000'000);
  ASSERT_TRUE(
      run_program(world, client, [&](Reactor& reactor, std::size_t) { return close_under_receive(reactor, shared); }));
  EXPECT_FALSE(shared.echo_end);
  ASSERT_EQ(shared.results.front(), -ECANCELED);
  EXPECT_TRUE(world.run_until([&] { return !serving.running(); }, 1'000'000'000)) << "the peer sees the end";
}

}  // namespace
}  // namespace millrace::sim
