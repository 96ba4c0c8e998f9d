#include "reactor/socket.hpp"

#include <algorithm>
#include <memory>
#include <string>

#include "reactor/listener.hpp"
#include "tests/reactor/run_task.hpp"
#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

std::string pattern_of(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>((i * 131 + i / 251) & 0xff);
  return text;
}

class SocketTest : public UringTest {
 protected:
  void SetUp() override {
    UringTest::SetUp();
    reactor_ = std::make_unique<Reactor>(*kernel_);
    listener_ = std::make_unique<Listener>(*reactor_);
    auto port = run_task(*reactor_, listener_->listen(Address{"127.0.0.1", 0}));
    ASSERT_TRUE(port);
    port_ = *port;
  }
  void TearDown() override {
    for (auto& socket : sockets_)
      if (socket->descriptor() >= 0) close(*socket);
    EXPECT_TRUE(run_task(*reactor_, listener_->close()));
    EXPECT_TRUE(settle(*reactor_));
    sockets_.clear();
    listener_.reset();
    reactor_.reset();
    UringTest::TearDown();
  }
  Nanos soon(Nanos wait = nanos_per_second) { return reactor_->now() + wait; }
  void close(Socket& socket) { EXPECT_TRUE(run_task(*reactor_, socket.close(soon(50 * nanos_per_milli)))); }

  static Task<std::int32_t> accept_one(Listener& listener) {
    auto accepted = co_await listener.accept();
    if (!accepted) co_return fail(accepted.error());
    co_return accepted->descriptor;
  }
  static Task<ProvidedBuffer> receive_one(Socket& socket) {
    auto buffer = co_await socket.receive();
    co_return buffer;
  }
  /// {accepted, connected}
  std::array<Socket*, 2> pair(const SocketLimits& limits = {}) {
    auto client = run_task(*reactor_, connect(*reactor_, Address{"127.0.0.1", port_}, soon()));
    auto server = run_task(*reactor_, accept_one(*listener_));
    EXPECT_TRUE(client && server);
    sockets_.push_back(std::make_unique<Socket>(*reactor_, *server, limits));
    sockets_.push_back(std::make_unique<Socket>(*reactor_, *client, limits));
    return {sockets_[sockets_.size() - 2].get(), sockets_.back().get()};
  }
  /// Receives until `bytes` are there or the stream ends; gives every buffer back.
  static Task<std::string> read_text(Socket& socket, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) {
      auto buffer = co_await socket.receive();
      if (!buffer) co_return fail(buffer.error());
      if (buffer->id < 0) break;
      text.append(reinterpret_cast<const char*>(buffer->data), buffer->length);
      socket.recycle(*buffer);
    }
    co_return std::move(text);
  }

  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<Listener> listener_;
  std::uint16_t port_ = 0;
  std::vector<std::unique_ptr<Socket>> sockets_;
};

INSTANTIATE_TEST_SUITE_P(Modes, SocketTest, ::testing::ValuesIn(all_modes()), mode_name);

TEST_P(SocketTest, bytes_arrive_in_order_and_sends_of_a_turn_leave_together) {
  auto [server, client] = pair();
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    std::string piece = "piece " + std::to_string(i) + ";";
    expected += piece;
    ASSERT_TRUE(client->send(bytes_of(piece)));
  }
  EXPECT_EQ(client->send_queued(), expected.size());
  auto first = run_task(*reactor_, receive_one(*server));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->length, std::min(expected.size(), buffer_bytes)) << "a hundred small sends make one";
  std::string text(reinterpret_cast<const char*>(first->data), first->length);
  server->recycle(*first);
  auto rest = run_task(*reactor_, read_text(*server, expected.size() - text.size()));
  ASSERT_TRUE(rest);
  EXPECT_EQ(text + *rest, expected);
  EXPECT_EQ(client->send_queued(), 0U);
}

TEST_P(SocketTest, large_streams_both_ways_at_once) {
  auto [server, client] = pair(SocketLimits{.send_bytes_max = 64 * MiB, .receive_queue_max = 4});
  std::string up = pattern_of(3 * MiB + 17), down = pattern_of(2 * MiB + 5);
  ASSERT_TRUE(client->send(bytes_of(up)));
  ASSERT_TRUE(server->send(bytes_of(down)));
  std::optional<Result<std::string>> got;
  reactor_->spawn(detail::keep_result<std::string>(*reactor_, read_text(*client, down.size()), got));
  auto received = run_task(*reactor_, read_text(*server, up.size()));
  ASSERT_TRUE(received);
  EXPECT_TRUE(*received == up);
  ASSERT_TRUE(turn_until(*reactor_, [&] { return got.has_value(); }));
  ASSERT_TRUE(*got);
  EXPECT_TRUE(**got == down);
}

struct Sent {
  OwnedSend send;
  int calls = 0;
  std::optional<Error> error;
  explicit Sent(std::string& text) {
    send.bytes = bytes_of(text);
    send.context = this;
    send.done = [](OwnedSend& self, Result<> result) {
      auto& sent = *static_cast<Sent*>(self.context);
      ++sent.calls;
      if (!result) sent.error = result.error();
    };
  }
};

TEST_P(SocketTest, owned_memory_keeps_its_place_among_copied_bytes) {
  auto [server, client] = pair();
  std::string big = pattern_of(300 * 1000), small = "small";
  Sent a(big), b(small);
  std::string expected;
  ASSERT_TRUE(client->send(bytes_of(std::string("head"))));
  ASSERT_TRUE(client->send_owned(a.send));
  ASSERT_TRUE(client->send(bytes_of(std::string("middle"))));
  ASSERT_TRUE(client->send_owned(b.send));
  ASSERT_TRUE(client->send(bytes_of(std::string("tail"))));
  expected = "head" + big + "middle" + small + "tail";
  EXPECT_EQ(a.calls, 0);
  auto text = run_task(*reactor_, read_text(*server, expected.size()));
  ASSERT_TRUE(text);
  EXPECT_TRUE(*text == expected);
  ASSERT_TRUE(turn_until(*reactor_, [&] { return client->send_queued() == 0; }));
  EXPECT_EQ(a.calls, 1);
  EXPECT_EQ(b.calls, 1);
  EXPECT_FALSE(a.error || b.error);
}

TEST_P(SocketTest, a_full_send_queue_refuses_and_takes_nothing) {
  auto [server, client] = pair(SocketLimits{.send_bytes_max = 1000, .receive_queue_max = 4});
  std::string most(900, 'a'), more(101, 'b'), fits(100, 'c');
  ASSERT_TRUE(client->send(bytes_of(most)));
  auto refused = client->send(bytes_of(more));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Error::retry_later);
  Sent owned(more);
  EXPECT_FALSE(client->send_owned(owned.send));
  ASSERT_TRUE(client->send(bytes_of(fits)));
  auto text = run_task(*reactor_, read_text(*server, 1000));
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, most + fits);
  ASSERT_TRUE(turn_until(*reactor_, [&] { return client->send_queued() == 0; }));
  EXPECT_TRUE(client->send(bytes_of(more)));
  EXPECT_EQ(owned.calls, 0);
}

TEST_P(SocketTest, a_slow_reader_holds_at_most_its_queue_and_others_keep_their_service) {
  auto [slow, sender] = pair(SocketLimits{.send_bytes_max = 64 * MiB, .receive_queue_max = 2});
  auto [quick, other] = pair();
  std::string flood = pattern_of(4 * MiB);
  ASSERT_TRUE(sender->send(bytes_of(flood)));
  auto first = run_task(*reactor_, receive_one(*slow));
  ASSERT_TRUE(first);
  for (int i = 0; i < 20; ++i) reactor_->turn(kernel_->now() + nanos_per_milli);
  EXPECT_GT(sender->send_queued(), 0U) << "the peer is held up";
  // What waits there unread does not lie in the buffers that all connections share.
  std::string text(reinterpret_cast<const char*>(first->data), first->length);
  slow->recycle(*first);
  ASSERT_TRUE(other->send(bytes_of(std::string("quick"))));
  auto answered = run_task(*reactor_, read_text(*quick, 5));
  ASSERT_TRUE(answered);
  EXPECT_EQ(*answered, "quick");
  auto rest = run_task(*reactor_, read_text(*slow, flood.size() - text.size()));
  ASSERT_TRUE(rest);
  EXPECT_TRUE(text + *rest == flood);
}

TEST_P(SocketTest, a_clean_close_delivers_what_was_queued_then_ends_the_stream) {
  auto [server, client] = pair();
  std::string goodbye = pattern_of(200 * 1000);
  ASSERT_TRUE(client->send(bytes_of(goodbye)));
  std::optional<Result<std::string>> got;
  reactor_->spawn(detail::keep_result<std::string>(*reactor_, read_text(*server, goodbye.size() + 1), got));
  EXPECT_TRUE(run_task(*reactor_, client->close(soon())));
  ASSERT_TRUE(turn_until(*reactor_, [&] { return got.has_value(); }));
  ASSERT_TRUE(*got);
  EXPECT_TRUE(**got == goodbye);
  auto end = run_task(*reactor_, receive_one(*server));
  ASSERT_TRUE(end);
  EXPECT_EQ(end->id, -1) << "the end stays the end";
}

TEST_P(SocketTest, the_last_answer_survives_a_peer_that_is_still_talking) {
  auto [server, client] = pair(SocketLimits{.send_bytes_max = 64 * MiB, .receive_queue_max = 2});
  std::string garbage = pattern_of(256 * KiB);
  ASSERT_TRUE(client->send(bytes_of(garbage)));
  auto first = run_task(*reactor_, receive_one(*server));
  ASSERT_TRUE(first);
  server->recycle(*first);
  ASSERT_TRUE(server->send(bytes_of(std::string("bad frame"))));
  EXPECT_TRUE(run_task(*reactor_, server->close(soon())));
  auto answer = run_task(*reactor_, read_text(*client, 9));
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, "bad frame");
}

TEST_P(SocketTest, a_peer_that_never_reads_cannot_hold_a_close_up) {
  auto [server, client] = pair(SocketLimits{.send_bytes_max = 64 * MiB, .receive_queue_max = 2});
  std::string flood = pattern_of(32 * MiB);
  Sent owned(flood);
  ASSERT_TRUE(client->send_owned(owned.send));
  Nanos begin = kernel_->now();
  EXPECT_TRUE(run_task(*reactor_, client->close(soon(100 * nanos_per_milli))));
  EXPECT_LT(kernel_->now() - begin, 2 * nanos_per_second);
  EXPECT_EQ(owned.calls, 1) << "told once, and only when the kernel was done with the memory";
  EXPECT_TRUE(owned.error);
  EXPECT_FALSE(client->send(bytes_of(std::string("late"))));
  EXPECT_FALSE(server->failure());
}

TEST_P(SocketTest, an_abort_ends_a_waiting_reader) {
  auto [server, client] = pair();
  std::optional<Result<ProvidedBuffer>> got;
  reactor_->spawn(detail::keep_result<ProvidedBuffer>(*reactor_, receive_one(*server), got));
  reactor_->turn(kernel_->now() + 5 * nanos_per_milli);
  EXPECT_FALSE(got);
  server->abort();
  ASSERT_TRUE(turn_until(*reactor_, [&] { return got.has_value(); }));
  ASSERT_FALSE(*got);
  EXPECT_EQ(got->error(), Error::connection_lost);
  auto end = run_task(*reactor_, receive_one(*client));
  EXPECT_TRUE(!end || end->id == -1);
}

Task<std::string> read_into(Socket& socket, std::size_t bytes, std::size_t piece) {
  auto holding = socket.hold();
  (void)co_await holding;
  std::string text;
  while (auto buffer = socket.try_receive()) {
    text.append(reinterpret_cast<const char*>(buffer->data), buffer->length);
    socket.recycle(*buffer);
  }
  std::vector<std::byte> memory(piece);
  while (text.size() < bytes) {
    MutableBytes target(memory);
    auto got = co_await socket.receive_into(target);
    if (!got) co_return fail(got.error());
    if (*got == 0) break;
    text.append(reinterpret_cast<const char*>(memory.data()), *got);
  }
  co_return std::move(text);
}

TEST_P(SocketTest, a_busy_connection_lends_its_own_memory_and_goes_back) {
  auto [server, client] = pair(SocketLimits{.send_bytes_max = 64 * MiB});
  std::string text = pattern_of(5 * MiB + 7);
  ASSERT_TRUE(client->send(bytes_of(text)));
  auto first = run_task(*reactor_, receive_one(*server));
  ASSERT_TRUE(first);
  std::string got(reinterpret_cast<const char*>(first->data), first->length);
  server->recycle(*first);
  auto more = run_task(*reactor_, read_into(*server, text.size() - got.size() - 100'000, 300'000));
  ASSERT_TRUE(more);
  got += *more;
  server->resume();
  auto rest = run_task(*reactor_, read_text(*server, text.size() - got.size()));
  ASSERT_TRUE(rest);
  got += *rest;
  ASSERT_TRUE(client->send(bytes_of(std::string("tail"))));
  auto last = run_task(*reactor_, read_text(*server, 4));
  ASSERT_TRUE(last);
  EXPECT_TRUE(got + *last == text + "tail");
}

TEST_P(SocketTest, a_wait_for_nothing_can_be_ended_and_loses_nothing) {
  auto [server, client] = pair();
  std::optional<Result<std::string>> waited;
  reactor_->spawn(detail::keep_result<std::string>(*reactor_, read_into(*server, 10, 64), waited));
  for (int i = 0; i < 20; ++i) reactor_->turn(soon(nanos_per_milli));
  ASSERT_FALSE(waited.has_value());
  server->stop_waiting();
  ASSERT_TRUE(turn_until(*reactor_, [&] { return waited.has_value(); }));
  EXPECT_EQ(waited->error(), Error::cancelled);
  server->resume();
  ASSERT_TRUE(client->send(bytes_of(std::string("after"))));
  auto text = run_task(*reactor_, read_text(*server, 5));
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "after");
}

TEST_P(SocketTest, an_abort_and_a_close_end_a_wait_with_lent_memory) {
  for (bool closing : {false, true}) {
    auto [server, client] = pair();
    std::optional<Result<std::string>> waited;
    reactor_->spawn(detail::keep_result<std::string>(*reactor_, read_into(*server, 10, 64), waited));
    for (int i = 0; i < 20; ++i) reactor_->turn(soon(nanos_per_milli));
    if (closing) close(*server);
    else server->abort();
    ASSERT_TRUE(turn_until(*reactor_, [&] { return waited.has_value(); }));
    EXPECT_FALSE(waited->has_value());
  }
}

TEST_P(SocketTest, a_detached_descriptor_goes_on_elsewhere_without_losing_a_byte) {
  auto [server, client] = pair();
  std::string text = pattern_of(50 * 1000);
  ASSERT_TRUE(client->send(bytes_of(text)));
  auto first = run_task(*reactor_, receive_one(*server));
  ASSERT_TRUE(first);
  std::string got(reinterpret_cast<const char*>(first->data), first->length);
  server->recycle(*first);
  auto descriptor = run_task(*reactor_, server->detach());
  ASSERT_TRUE(descriptor);
  while (auto buffer = server->try_receive()) {
    got.append(reinterpret_cast<const char*>(buffer->data), buffer->length);
    server->recycle(*buffer);
  }
  sockets_.push_back(std::make_unique<Socket>(*reactor_, *descriptor));
  auto rest = run_task(*reactor_, read_text(*sockets_.back(), text.size() - got.size()));
  ASSERT_TRUE(rest);
  EXPECT_TRUE(got + *rest == text);
}

TEST_P(SocketTest, connect_tells_why_not) {
  std::uint16_t closed_port = 0;
  {
    Listener other(*reactor_);
    auto port = run_task(*reactor_, other.listen(Address{"127.0.0.1", 0}));
    ASSERT_TRUE(port);
    closed_port = *port;
    Listener second(*reactor_);
    auto taken = run_task(*reactor_, second.listen(Address{"127.0.0.1", closed_port}));
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error(), Error::address_in_use);
    EXPECT_TRUE(run_task(*reactor_, other.close()));
    auto accepted = run_task(*reactor_, accept_one(other));
    ASSERT_FALSE(accepted);
    EXPECT_EQ(accepted.error(), Error::cancelled);
  }
  auto refused = run_task(*reactor_, connect(*reactor_, Address{"127.0.0.1", closed_port}, soon()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Error::connection_refused);
  // 192.0.2.0/24 is set aside for documentation: nothing answers there (some networks refuse it at once).
  auto silent = run_task(*reactor_, connect(*reactor_, Address{"192.0.2.1", 9}, soon(50 * nanos_per_milli)));
  EXPECT_FALSE(silent);
}

TEST_P(SocketTest, hundreds_of_connections_share_a_handful_of_buffers) {
  constexpr std::size_t connections = 300;
  std::vector<std::array<Socket*, 2>> pairs;
  for (std::size_t i = 0; i < connections; ++i) pairs.push_back(pair());
  std::vector<std::optional<Result<std::string>>> got(connections);
  for (std::size_t i = 0; i < connections; ++i) {
    std::string text = "connection " + std::to_string(i);
    reactor_->spawn(detail::keep_result<std::string>(*reactor_, read_text(*pairs[i][0], text.size()), got[i]));
  }
  for (int i = 0; i < 5; ++i) reactor_->turn(kernel_->now() + nanos_per_milli);
  for (std::size_t i = 0; i < connections; ++i)
    ASSERT_TRUE(pairs[i][1]->send(bytes_of("connection " + std::to_string(i))));
  auto all = [&] { return std::all_of(got.begin(), got.end(), [](const auto& each) { return each.has_value(); }); };
  ASSERT_TRUE(turn_until(*reactor_, all));
  for (std::size_t i = 0; i < connections; ++i) EXPECT_EQ(**got[i], "connection " + std::to_string(i));
  for (auto& each : pairs)
    for (Socket* socket : each) socket->abort();
}

}  // namespace

}  // namespace millrace::test
