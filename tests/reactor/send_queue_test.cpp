#include "reactor/send_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>

#include "reactor/random.hpp"

namespace millrace::test {

namespace {

OwnedSend owned_of(const std::string& text) {
  OwnedSend owned;
  owned.bytes = bytes_of(text);
  owned.done = [](OwnedSend&, Result<>) {};
  return owned;
}

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

TEST(SendQueueTest, small_pieces_become_one) {
  SendQueue queue;
  for (const char* text : {"one ", "two ", "three"}) queue.append(bytes_of(std::string(text)));
  queue.append(Bytes{});
  EXPECT_EQ(queue.bytes(), 13U);
  EXPECT_EQ(text_of(queue.front()), "one two three");
  EXPECT_EQ(queue.consume(4), nullptr);
  EXPECT_EQ(text_of(queue.front()), "two three");
  queue.append(bytes_of(std::string(" four")));
  EXPECT_EQ(text_of(queue.front()), "two three") << "bytes in flight do not move";
  queue.consume(9);
  EXPECT_EQ(text_of(queue.front()), " four");
  queue.consume(5);
  EXPECT_TRUE(queue.empty());
}

TEST(SendQueueTest, an_owner_is_named_with_its_last_byte) {
  SendQueue queue;
  std::string big(1000, 'x');
  OwnedSend owned = owned_of(big);
  queue.append(bytes_of(std::string("head")));
  queue.append(owned);
  EXPECT_EQ(text_of(queue.front()), "head");
  queue.consume(4);
  EXPECT_EQ(queue.front().data(), reinterpret_cast<const std::byte*>(big.data())) << "no copy";
  EXPECT_EQ(queue.consume(999), nullptr);
  EXPECT_EQ(queue.front().size(), 1U);
  EXPECT_EQ(queue.consume(1), &owned);
  EXPECT_TRUE(queue.empty());
}

TEST(SendQueueTest, any_order_and_any_split_keep_the_bytes_in_order) {
  Random random(3);
  for (int round = 0; round < 50; ++round) {
    SendQueue queue;
    std::deque<std::string> texts;
    std::deque<OwnedSend> owners;
    std::string expected, sent;
    std::size_t named = 0;
    for (int step = 0; step < 300; ++step) {
      if (random.chance(600)) {
        texts.emplace_back(1 + random.below(50), static_cast<char>('a' + step % 26));
        expected += texts.back();
        if (random.chance(300)) queue.append(owners.emplace_back(owned_of(texts.back())));
        else queue.append(bytes_of(texts.back()));
      } else if (!queue.empty()) {
        Bytes front = queue.front();
        std::size_t count = 1 + random.below(front.size());
        sent += text_of(front.first(count));
        if (queue.consume(count) != nullptr) ++named;
      }
      ASSERT_EQ(queue.bytes(), expected.size() - sent.size());
    }
    while (!queue.empty()) {
      Bytes front = queue.front();
      sent += text_of(front);
      if (queue.consume(front.size()) != nullptr) ++named;
    }
    ASSERT_EQ(sent, expected);
    ASSERT_EQ(named, owners.size());
  }
}

}  // namespace

}  // namespace millrace::test
