// The public face over real sockets and threads.
#include "millrace/client.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/sdk/socket_server.hpp"

namespace millrace::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct ClientTest : testing::Test {
  SocketServer server;

  Client connect(milliseconds retry = seconds(20)) {
    ClientOptions options;
    options.server = server.address();
    options.retry = retry;
    options.memory_bytes = 4 * MiB;
    options.batch_bytes_max = 16 * KiB;
    auto client = Client::connect(options);
    EXPECT_TRUE(client.has_value());
    return std::move(client).value();
  }
  static ProducerOptions to(const std::string& stream) {
    ProducerOptions options;
    options.stream = stream;
    options.batch_bytes = 4 * KiB;
    return options;
  }
  static std::vector<std::string> read_all(Client& client, const std::string& stream) {
    ConsumerOptions options;
    options.stream = stream;
    auto consumer = client.consumer(options);
    std::vector<std::string> texts;
    for (;;) {
      const ReadResult& result = consumer->next(seconds(20));
      if (result.event != ReadEvent::record) {
        EXPECT_EQ(result.event, ReadEvent::end) << result.problem.text();
        return texts;
      }
      EXPECT_EQ(result.record.offset, texts.size());
      texts.emplace_back(text_view(result.record.payload));
    }
  }
};

TEST_F(ClientTest, NobodyThere) {
  ClientOptions options;
  options.server = server.address();
  options.retry = milliseconds(100);
  server.kill();
  auto client = Client::connect(options);
  ASSERT_FALSE(client.has_value());
  EXPECT_EQ(client.problem().code, ErrorCode::connection_refused);
  EXPECT_NE(client.problem().text().find(options.server), std::string::npos);
  for (const char* bad : {"no colon", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:82706", "127.0.0.1:-1", "::1:7070"}) {
    options.server = bad;
    const Problem refused = Client::connect(options).problem();
    EXPECT_EQ(refused.code, ErrorCode::invalid_argument) << bad;
    EXPECT_NE(refused.text().find("1 to 65535"), std::string::npos) << refused.text();
  }
}

TEST_F(ClientTest, WithoutRetriesOneTryIsMade) {
  Client client = connect(milliseconds(0));
  auto producer = client.producer(to("once"));
  ASSERT_TRUE(producer.has_value()) << producer.problem().text();
  ASSERT_EQ(producer->append(Record("a record", 1, 1), seconds(20)), AppendStatus::accepted);
  const auto flushed = producer->flush(seconds(20));
  EXPECT_TRUE(flushed.has_value()) << flushed.problem().text();
  EXPECT_EQ(read_all(client, "once"), std::vector<std::string>{"a record"});
  ClientOptions options;
  options.server = server.address();
  options.retry = milliseconds(0);
  server.kill();
  auto refused = Client::connect(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.problem().code, ErrorCode::connection_refused);
}

TEST_F(ClientTest, AppendFlushRead) {
  Client client = connect();
  auto producer = client.producer(to("orders"));
  ASSERT_TRUE(producer.has_value());
  std::vector<std::string> sent;
  for (int i = 0; i < 5'000; ++i) {
    sent.push_back("order " + std::to_string(i));
    std::uint64_t ticket = 0;
    ASSERT_EQ(producer->append(Record(sent.back(), 3, i + 1), seconds(20), &ticket), AppendStatus::accepted);
    ASSERT_EQ(ticket, static_cast<std::uint64_t>(i));
  }
  ASSERT_TRUE(producer->flush().has_value());
  EXPECT_EQ(read_all(client, "orders"), sent);
}

TEST_F(ClientTest, BadNamesAndSizesAreRefusedHere) {
  Client client = connect();
  EXPECT_EQ(client.producer(to("../etc")).problem().code, ErrorCode::invalid_argument);
  ProducerOptions large = to("s");
  large.batch_bytes = 100 * MiB;
  EXPECT_EQ(client.producer(large).problem().code, ErrorCode::too_large);
  auto producer = client.producer(to("s"));
  const std::string huge(17 * KiB, 'x');
  EXPECT_EQ(producer->append(Record(huge)), AppendStatus::too_large);
  EXPECT_EQ(producer->append(Record(std::string_view(huge).substr(0, 8 * KiB))), AppendStatus::accepted);
  ASSERT_TRUE(producer->flush().has_value());
}

TEST_F(ClientTest, FuturesKnowTheirPlaces) {
  Client client = connect();
  auto producer = client.producer(to("s"));
  std::vector<std::future<Expected<Position>>> futures;
  for (int i = 0; i < 300; ++i) futures.push_back(producer->append_future(Record("x")));
  for (std::size_t i = 0; i < futures.size(); ++i) {
    const auto position = futures[i].get();
    ASSERT_TRUE(position.has_value());
    EXPECT_EQ(position.value().offset, i);
  }
}

TEST_F(ClientTest, ManyThreadsOneProducer) {
  Client client = connect();
  auto producer = client.producer(to("s"));
  constexpr int threads = 3, each = 5'000;
  std::vector<std::thread> appenders;
  for (int t = 0; t < threads; ++t)
    appenders.emplace_back([&, t] {
      for (int i = 0; i < each; ++i)
        ASSERT_EQ(producer->append(Record(std::to_string(t) + " " + std::to_string(i))), AppendStatus::accepted);
    });
  for (std::thread& appender : appenders) appender.join();
  ASSERT_TRUE(producer->flush().has_value());
  const auto texts = read_all(client, "s");
  ASSERT_EQ(texts.size(), static_cast<std::size_t>(threads * each));
  std::vector<int> next(threads, 0);
  for (const std::string& text : texts) ASSERT_EQ(text.substr(2), std::to_string(next[text[0] - '0']++));
}

TEST_F(ClientTest, CallbacksMayAppend) {
  Client client = connect();
  std::atomic<int> committed{0};
  Producer* self = nullptr;
  ProducerOptions options = to("s");
  options.batch_records = 1;
  options.on_commit = [&](const Commit& commit) {
    EXPECT_EQ(commit.error, ErrorCode::none);
    EXPECT_EQ(commit.count, 1u);
    if (committed.fetch_add(1) >= 500) return;
    EXPECT_EQ(self->try_append(Record("again")), AppendStatus::accepted);
  };
  auto producer = client.producer(options);
  self = &*producer;
  producer->append(Record("first"));
  for (int i = 0; i < 2'000 && committed.load() < 501; ++i) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(committed.load(), 501);
}

TEST_F(ClientTest, MemoryIsBounded) {
  Client client = connect();
  server.with([](FakeServer& fake) { fake.hold_acks = true; });
  ProducerOptions options = to("s");
  options.in_flight = 4;
  options.queued = 4;
  auto producer = client.producer(options);
  const std::string payload(1'000, 'p');
  int accepted = 0;
  while (producer->append(Record(payload), milliseconds(50)) == AppendStatus::accepted) ++accepted;
  EXPECT_GE(accepted, 8);
  EXPECT_LE(accepted, 8 * 4);
}

TEST_F(ClientTest, ARestartLosesAndRepeatsNothing) {
  Client client = connect();
  auto producer = client.producer(to("s"));
  std::atomic<bool> done{false};
  std::thread breaker([&] {
    while (!done.load()) {
      std::this_thread::sleep_for(milliseconds(30));
      server.kill();
      std::this_thread::sleep_for(milliseconds(10));
      server.start();
    }
  });
  std::vector<std::string> sent;
  for (int i = 0; i < 3'000; ++i) {
    sent.push_back("record " + std::to_string(i));
    ASSERT_EQ(producer->append(Record(sent.back())), AppendStatus::accepted);
    if (i % 10 == 0) std::this_thread::sleep_for(milliseconds(1));
  }
  ASSERT_TRUE(producer->flush().has_value());
  done.store(true);
  breaker.join();
  EXPECT_EQ(read_all(client, "s"), sent);
}

TEST_F(ClientTest, AFollowerGoesOnAcrossARestart) {
  Client client = connect();
  auto producer = client.producer(to("s"));
  ConsumerOptions options;
  options.stream = "s";
  options.follow = true;
  producer->append(Record("one"));
  ASSERT_TRUE(producer->flush().has_value());
  auto consumer = client.consumer(options);
  ASSERT_EQ(consumer->next(seconds(10)).event, ReadEvent::record);
  EXPECT_EQ(consumer->next(milliseconds(20)).event, ReadEvent::timed_out);
  server.kill();
  server.start();
  producer->append(Record("two"));
  ASSERT_TRUE(producer->flush().has_value());
  server.kill();
  server.start();
  const ReadResult& result = consumer->next(seconds(10));
  ASSERT_EQ(result.event, ReadEvent::record);
  EXPECT_EQ(text_view(result.record.payload), "two");
  EXPECT_EQ(result.record.offset, 1u);
}

TEST_F(ClientTest, GivesUpWithTheReason) {
  Client client = connect(milliseconds(300));
  auto producer = client.producer(to("s"));
  server.kill();
  producer->append(Record("lost"));
  const auto flushed = producer->flush(seconds(20));
  ASSERT_FALSE(flushed.has_value());
  EXPECT_EQ(flushed.problem().code, ErrorCode::connection_refused);
  EXPECT_EQ(producer->append(Record("x")), AppendStatus::failed);
  EXPECT_EQ(producer->problem().code, ErrorCode::connection_refused);
}

TEST_F(ClientTest, ConsumersStopWhereAsked) {
  Client client = connect();
  auto producer = client.producer(to("s"));
  for (int i = 0; i < 100; ++i) producer->append(Record(std::to_string(i), static_cast<std::uint16_t>(i % 5)));
  ASSERT_TRUE(producer->flush().has_value());
  ConsumerOptions options;
  options.stream = "s";
  options.from = Place::at_offset(10);
  options.until = Place::at_offset(60);
  options.type = 3;
  options.count = 7;
  auto consumer = client.consumer(options);
  std::vector<std::uint64_t> offsets;
  while (consumer->next(seconds(10)).event == ReadEvent::record) offsets.push_back(consumer->next_offset() - 1);
  EXPECT_EQ(offsets, (std::vector<std::uint64_t>{13, 18, 23, 28, 33, 38, 43}));
}

TEST(Place, Parses) {
  EXPECT_EQ(Place::parse("earliest")->kind, Place::Kind::earliest);
  EXPECT_EQ(Place::parse("offset:17")->offset, 17u);
  EXPECT_EQ(Place::parse("time:1970-01-01T00:00:01Z")->time, 1'000'000'000);
  EXPECT_EQ(Place::parse("day:1970-01-03:5")->day, 2u);
  EXPECT_EQ(Place::parse("day:1970-01-03:5")->id, 5u);
  for (const char* bad :
       {"", "offset:", "offset:-1", "offset:1x", "time:now", "day:1970-13-01", "day:1970-01-01:", "Latest"})
    EXPECT_FALSE(Place::parse(bad).has_value()) << bad;
}

}  // namespace
}  // namespace millrace::test
