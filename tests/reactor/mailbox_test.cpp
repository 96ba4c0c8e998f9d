#include "reactor/mailbox.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "reactor/reactor.hpp"
#include "reactor/uring_kernel.hpp"
#include "tests/reactor/scripted_kernel.hpp"

namespace millrace::test {

namespace {

TEST(MailboxTest, it_holds_its_capacity_and_refuses_the_rest) {
  ScriptedKernel kernel;
  Mailbox<std::unique_ptr<int>> box(4, kernel);
  EXPECT_FALSE(box.pop());
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      auto message = std::make_unique<int>(i);
      EXPECT_TRUE(box.push(message));
      EXPECT_EQ(message, nullptr);
    }
    auto refused = std::make_unique<int>(4);
    EXPECT_FALSE(box.push(refused));
    EXPECT_NE(refused, nullptr) << "a refused message stays with its sender";
    for (int i = 0; i < 4; ++i) {
      auto message = box.pop();
      ASSERT_TRUE(message);
      EXPECT_EQ(**message, i);
    }
    EXPECT_FALSE(box.pop());
  }
  EXPECT_EQ(kernel.wakes, 12);
}

struct Counter final : Inbox {
  Mailbox<std::uint64_t> box;
  Reactor& reactor;
  std::uint64_t expected = 0;
  std::uint64_t last;
  bool in_order = true;
  Counter(Reactor& on, std::uint64_t messages) : box(64, on.kernel()), reactor(on), last(messages) {}
  bool drain() override {
    bool any = false;
    for (int i = 0; i < 16; ++i) {
      auto message = box.pop();
      if (!message) break;
      any = true;
      in_order &= *message == expected++;
    }
    if (expected == last) reactor.stop();
    return any;
  }
};

TEST(MailboxTest, a_sleeping_reactor_gets_every_message_of_another_thread) {
  constexpr std::uint64_t messages = 50'000;
  std::string why;
  auto kernel = UringKernel::create({}, why);
  ASSERT_TRUE(kernel) << why;
  Reactor reactor(**kernel);
  Counter counter(reactor, messages);
  reactor.attach(counter);
  std::thread producer([&counter] {
    for (std::uint64_t i = 0; i < messages; ++i) {
      std::uint64_t message = i;
      while (!counter.box.push(message)) std::this_thread::yield();
      if (i % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  reactor.run();
  producer.join();
  EXPECT_EQ(counter.expected, messages);
  EXPECT_TRUE(counter.in_order);
}

}  // namespace

}  // namespace millrace::test
