#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

class UringSocketTest : public UringTest {
 protected:
  Operation send_of(std::int32_t descriptor, std::string& bytes) {
    Operation send;
    send.code = OperationCode::send;
    send.descriptor = descriptor;
    send.data = reinterpret_cast<std::byte*>(bytes.data());
    send.length = static_cast<std::uint32_t>(bytes.size());
    return send;
  }
  Operation receive_of(std::int32_t descriptor, bool multishot) {
    Operation receive;
    receive.code = OperationCode::receive;
    receive.descriptor = descriptor;
    receive.provided = true;
    receive.multishot = multishot;
    return receive;
  }
  std::int32_t shut_down(std::int32_t descriptor) {
    Operation shutdown;
    shutdown.code = OperationCode::shutdown;
    shutdown.descriptor = descriptor;
    return run(shutdown);
  }
  std::int32_t listen_at(Address& at, std::uint32_t backlog) {
    Operation listen;
    listen.code = OperationCode::listen;
    listen.address = &at;
    listen.length = backlog;
    return run(listen);
  }
  std::int32_t connect_to(Address& at) {
    Operation connect;
    connect.code = OperationCode::connect;
    connect.address = &at;
    return run(connect);
  }
  std::int32_t cancel(Operation& target) {
    Operation operation;
    operation.code = OperationCode::cancel;
    operation.target = &target;
    return run(operation);
  }
};

INSTANTIATE_TEST_SUITE_P(Modes, UringSocketTest, ::testing::ValuesIn(all_modes()), mode_name);

std::string pattern_of(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>((i * 131 + i / 251) & 0xff);
  return text;
}

TEST_P(UringSocketTest, multishot_accept_goes_on_and_sets_no_delay) {
  Address at{"127.0.0.1", 0};
  std::int32_t listener = listen_at(at, 64);
  ASSERT_GE(listener, 0);
  EXPECT_NE(at.port, 0);
  Operation accept;
  accept.code = OperationCode::accept;
  accept.descriptor = listener;
  accept.multishot = true;
  kernel_->submit(accept);
  std::set<std::int32_t> descriptors;
  for (int i = 0; i < 20; ++i) {
    std::int32_t client = connect_to(at);
    ASSERT_GE(client, 0);
    Completion accepted = next(accept);
    ASSERT_GE(accepted.result, 0);
    EXPECT_TRUE(accepted.more);
    for (std::int32_t descriptor : {client, accepted.result}) {
      int no_delay = 0;
      socklen_t length = sizeof(no_delay);
      ASSERT_EQ(::getsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
      EXPECT_NE(no_delay, 0);
      EXPECT_TRUE(descriptors.insert(descriptor).second);
    }
  }
  EXPECT_EQ(cancel(accept), 0);
  Completion last = next(accept);
  EXPECT_EQ(last.result, -ECANCELED);
  EXPECT_FALSE(last.more);
  for (std::int32_t descriptor : descriptors) EXPECT_EQ(close_descriptor(descriptor), 0);
  EXPECT_EQ(close_descriptor(listener), 0);
  EXPECT_EQ(connect_to(at), -ECONNREFUSED);
}

TEST_P(UringSocketTest, listen_says_why_it_cannot) {
  Address at{"127.0.0.1", 0};
  std::int32_t listener = listen_at(at, 1);
  ASSERT_GE(listener, 0);
  EXPECT_EQ(listen_at(at, 1), -EADDRINUSE);
  Address nonsense{"no.such.name", 0};
  EXPECT_EQ(listen_at(nonsense, 1), -EINVAL);
  EXPECT_EQ(connect_to(nonsense), -EINVAL);
  EXPECT_EQ(close_descriptor(listener), 0);
}

TEST_P(UringSocketTest, multishot_receive_outlives_the_buffers_running_out) {
  auto [server, client] = connected_pair();
  std::string sent = pattern_of(40 * buffer_count * buffer_bytes);
  Operation receive = receive_of(server, true);
  kernel_->submit(receive);
  Operation send = send_of(client, sent);
  kernel_->submit(send);
  std::string got;
  std::vector<ProvidedBuffer> held;
  while (got.size() < sent.size()) {
    // Nothing is given back until every buffer is out, so the kernel runs dry again and again.
    Completion completion = next(receive);
    ASSERT_GT(completion.result, 0);
    ASSERT_TRUE(completion.more);
    ASSERT_GE(completion.buffer.id, 0);
    ASSERT_EQ(completion.buffer.length, static_cast<std::uint32_t>(completion.result));
    got.append(reinterpret_cast<const char*>(completion.buffer.data), completion.buffer.length);
    held.push_back(completion.buffer);
    bool all_out = held.size() == buffer_count;
    if (all_out) poll(0), poll(0);
    if (!all_out && got.size() < sent.size()) continue;
    for (const ProvidedBuffer& buffer : held) kernel_->recycle(buffer);
    held.clear();
  }
  EXPECT_TRUE(got == sent);
  EXPECT_EQ(next(send).result, static_cast<std::int32_t>(sent.size()));
  EXPECT_GT(counters().starved, 10U);
  EXPECT_EQ(shut_down(client), 0);
  Completion end = next(receive);
  EXPECT_EQ(end.result, 0);
  EXPECT_FALSE(end.more);
  EXPECT_EQ(end.buffer.id, -1);
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

TEST_P(UringSocketTest, many_connections_share_the_buffers) {
  constexpr std::size_t connections = 3 * buffer_count;
  constexpr std::size_t rounds = 20;
  std::vector<std::array<std::int32_t, 2>> pairs;
  std::vector<Operation> receives(connections);
  for (std::size_t i = 0; i < connections; ++i) {
    pairs.push_back(connected_pair());
    receives[i] = receive_of(pairs[i][0], true);
    kernel_->submit(receives[i]);
  }
  std::string message = pattern_of(buffer_bytes * 3 / 2);
  std::vector<Operation> sends(connections);
  std::vector<std::string> got(connections);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < connections; ++i) {
      sends[i] = send_of(pairs[i][1], message);
      kernel_->submit(sends[i]);
    }
    for (std::size_t i = 0; i < connections; ++i)
      EXPECT_EQ(next(sends[i]).result, static_cast<std::int32_t>(message.size()));
    std::size_t total = 0;
    while (total < connections * message.size()) {
      if (completions_.empty()) poll();
      for (const Completion& completion : completions_) {
        ASSERT_GT(completion.result, 0);
        auto index = static_cast<std::size_t>(completion.operation - receives.data());
        got[index].append(reinterpret_cast<const char*>(completion.buffer.data), completion.buffer.length);
        total += completion.buffer.length;
        kernel_->recycle(completion.buffer);
      }
      completions_.clear();
    }
    for (std::string& text : got) {
      EXPECT_TRUE(text == message);
      text.clear();
    }
  }
  for (std::size_t i = 0; i < connections; ++i) {
    EXPECT_EQ(cancel(receives[i]), 0);
    EXPECT_EQ(next(receives[i]).result, -ECANCELED);
    EXPECT_EQ(close_descriptor(pairs[i][0]), 0);
    EXPECT_EQ(close_descriptor(pairs[i][1]), 0);
  }
}

TEST_P(UringSocketTest, one_shot_receives_with_and_without_provided_memory) {
  auto [server, client] = connected_pair();
  std::string text = "hello, millrace";
  Operation send = send_of(client, text);
  EXPECT_EQ(run(send), static_cast<std::int32_t>(text.size()));
  Operation receive = receive_of(server, false);
  kernel_->submit(receive);
  Completion completion = next(receive);
  EXPECT_EQ(completion.result, static_cast<std::int32_t>(text.size()));
  EXPECT_FALSE(completion.more);
  ASSERT_GE(completion.buffer.id, 0);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(completion.buffer.data), completion.buffer.length), text);
  kernel_->recycle(completion.buffer);

  std::string target(100, '-');
  Operation plain;
  plain.code = OperationCode::receive;
  plain.descriptor = server;
  plain.data = reinterpret_cast<std::byte*>(target.data());
  plain.length = 5;
  kernel_->submit(plain);
  EXPECT_EQ(run(send), static_cast<std::int32_t>(text.size()));
  EXPECT_EQ(next(plain).result, 5);
  EXPECT_EQ(target.substr(0, 6), "hello-");
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

TEST_P(UringSocketTest, a_reset_connection_ends_receive_and_send) {
  auto [server, client] = connected_pair();
  Operation receive = receive_of(server, true);
  kernel_->submit(receive);
  linger hard{1, 0};
  ASSERT_EQ(::setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
  EXPECT_EQ(close_descriptor(client), 0);
  Completion end = next(receive);
  EXPECT_EQ(end.result, -ECONNRESET);
  EXPECT_FALSE(end.more);
  std::string text = "anyone?";
  Operation send = send_of(server, text);
  EXPECT_EQ(run(send), -EPIPE);
  EXPECT_EQ(close_descriptor(server), 0);
}

TEST_P(UringSocketTest, a_large_send_completes_once_and_whole_or_ends_with_shutdown) {
  auto [server, client] = connected_pair();
  std::string sent = pattern_of(16 * MiB);
  Operation send = send_of(client, sent);
  kernel_->submit(send);
  for (int i = 0; i < 5; ++i) poll(10 * nanos_per_milli);
  EXPECT_TRUE(completions_.empty()) << "nobody reads: the send must wait";
  EXPECT_EQ(shut_down(client), 0);
  Completion done = next(send);
  EXPECT_LT(done.result, static_cast<std::int32_t>(sent.size()));
  EXPECT_FALSE(done.more);
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

TEST_P(UringSocketTest, cancel_finds_waiting_starved_and_finished_operations) {
  auto [server, client] = connected_pair();
  Operation receive = receive_of(server, true);
  kernel_->submit(receive);
  poll(0);
  EXPECT_EQ(cancel(receive), 0);
  Completion last = next(receive);
  EXPECT_EQ(last.result, -ECANCELED);
  EXPECT_FALSE(last.more);
  EXPECT_EQ(cancel(receive), -ENOENT);

  // Starved: all buffers out, more bytes waiting.
  std::string sent = pattern_of(2 * buffer_count * buffer_bytes);
  Operation send = send_of(client, sent);
  EXPECT_EQ(run(send), static_cast<std::int32_t>(sent.size()));
  kernel_->submit(receive);
  std::vector<ProvidedBuffer> held;
  while (held.size() < buffer_count) held.push_back(next(receive).buffer);
  for (int tries = 0; tries < 100 && counters().starved == 0; ++tries) poll(nanos_per_milli);
  ASSERT_GT(counters().starved, 0U);
  Operation operation;
  operation.code = OperationCode::cancel;
  operation.target = &receive;
  EXPECT_EQ(run(operation), 0);
  last = next(receive);
  EXPECT_EQ(last.result, -ECANCELED);
  EXPECT_FALSE(last.more);
  for (const ProvidedBuffer& buffer : held) kernel_->recycle(buffer);
  poll(0);
  EXPECT_TRUE(completions_.empty());
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

TEST_P(UringSocketTest, cancel_under_load_ends_every_receive_exactly_once) {
  auto [server, client] = connected_pair();
  std::string message = pattern_of(3 * buffer_bytes);
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    Operation receive = receive_of(server, true);
    kernel_->submit(receive);
    Operation send = send_of(client, message);
    kernel_->submit(send);
    for (unsigned polls = random() % 4; polls > 0; --polls) poll(0);
    Operation stop;
    stop.code = OperationCode::cancel;
    stop.target = &receive;
    kernel_->submit(stop);
    bool ended = false;
    while (!ended) {
      Completion completion = next(receive);
      if (completion.buffer.id >= 0) kernel_->recycle(completion.buffer);
      ended = !completion.more;
      ASSERT_TRUE(!ended || completion.result == -ECANCELED) << completion.result;
    }
    std::int32_t stopped = next(stop).result;
    ASSERT_TRUE(stopped == 0 || stopped == -ENOENT || stopped == -EALREADY) << stopped;
    ASSERT_EQ(next(send).result, static_cast<std::int32_t>(message.size()));
    ASSERT_TRUE(completions_.empty());
    std::string rest(message.size(), '\0');  // what the cancelled receive left in the socket
    while (::recv(server, rest.data(), rest.size(), MSG_DONTWAIT) > 0) {
    }
  }
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

TEST_P(UringSocketTest, destroying_the_kernel_with_operations_in_flight_is_quiet) {
  auto [server, client] = connected_pair();
  Operation receive = receive_of(server, true);
  std::string target(100, '-');
  Operation plain;
  plain.code = OperationCode::receive;
  plain.descriptor = client;
  plain.data = reinterpret_cast<std::byte*>(target.data());
  plain.length = 100;
  kernel_->submit(receive);
  kernel_->submit(plain);
  poll(0);
  Operation never_submitted;
  kernel_->submit(never_submitted);
  Nanos begin = kernel_->now();
  kernel_.reset();
  make_kernel();
  EXPECT_LT(kernel_->now() - begin, nanos_per_second / 2) << "cancelled, not waited out";
  EXPECT_EQ(close_descriptor(server), 0);
  EXPECT_EQ(close_descriptor(client), 0);
}

}  // namespace

}  // namespace millrace::test
