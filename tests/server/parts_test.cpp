// The small parts of the server: frame memory, the queue of acknowledgements, JSON, the division of memory.
#include <gtest/gtest.h>

#include <random>

#include "server/ack_queue.hpp"
#include "server/frame_memory.hpp"
#include "server/json.hpp"
#include "server/memory_plan.hpp"

namespace millrace {
namespace {

TEST(FrameMemory, NeverPassesItsBudget) {
  std::mt19937_64 random(3);
  BudgetedFrameMemory memory(32 * MiB);
  std::vector<MutableBytes> out;
  bool refused = false;
  for (int i = 0; i < 20'000; i++) {
    if (out.empty() || random() % 2 == 0) {
      std::size_t bytes = 1 + random() % (random() % 50 == 0 ? frame_bytes_max - frame_header_bytes : 100'000);
      MutableBytes got = memory.take(bytes);
      if (got.empty()) refused = true;
      else {
        ASSERT_GE(got.size(), bytes);
        ASSERT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(got.data()), 16));
        got.front() = got.back() = std::byte{1};
        out.push_back(got);
      }
    } else {
      std::swap(out[random() % out.size()], out.back());
      memory.give_back(out.back());
      out.pop_back();
    }
    ASSERT_LE(memory.bytes_held(), 32 * MiB);
    ASSERT_LE(memory.bytes_out(), memory.bytes_held());
  }
  for (MutableBytes each : out) memory.give_back(each);
  EXPECT_EQ(memory.bytes_out(), 0u);
  EXPECT_TRUE(refused) << "the test never reached the budget";
}

TEST(FrameMemory, ReusesInsteadOfAllocating) {
  BudgetedFrameMemory memory(frame_memory_bytes_min);
  MutableBytes first = memory.take(70'000);
  memory.give_back(first);
  EXPECT_TRUE(memory.freed());
  EXPECT_FALSE(memory.freed());
  MutableBytes again = memory.take(66'000);
  EXPECT_EQ(first.data(), again.data());
  memory.give_back(again);
}

TEST(FrameMemory, ALargestFrameAlwaysFitsWhenNothingIsOut) {
  BudgetedFrameMemory memory(frame_memory_bytes_min);
  std::vector<MutableBytes> out;
  for (int i = 0; i < 1000; i++) out.push_back(memory.take(10'000));
  for (MutableBytes each : out) memory.give_back(each);
  MutableBytes large = memory.take(frame_bytes_max - frame_header_bytes);
  EXPECT_FALSE(large.empty());
  memory.give_back(large);
}

TEST(AckQueue, KeepsOrderWhileItGrows) {
  AckQueue queue;
  std::uint64_t pushed = 0, popped = 0;
  std::mt19937_64 random(5);
  for (int i = 0; i < 100'000; i++) {
    bool push = !queue.full() && (queue.empty() || random() % 100 < 55);
    if (push) {
      PendingAck ack;
      ack.entry.request_id = pushed++;
      queue.push(ack);
    } else {
      ASSERT_EQ(queue.front().entry.request_id, popped++);
      queue.pop();
    }
    ASSERT_EQ(queue.size(), pushed - popped);
    if (queue.empty()) continue;
    ASSERT_EQ(queue.at(queue.size() - 1).entry.request_id, pushed - 1);
  }
}

TEST(AckQueue, IsBoundedAndGivesABurstBack) {
  AckQueue queue;
  for (std::uint32_t i = 0; i < connection_appends_max; i++) queue.push({});
  EXPECT_TRUE(queue.full());
  while (!queue.empty()) queue.pop();
  queue.release_if_large();
  PendingAck ack;
  ack.cost = 7;
  queue.push(ack);
  EXPECT_EQ(queue.front().cost, 7u);
}

TEST(Json, NestsAndEscapes) {
  JsonWriter json;
  json.begin_object();
  json.field("a", std::uint64_t{1});
  json.field("b", "say \"hi\"\n\\");
  json.key("c");
  json.begin_array();
  json.value(true);
  json.value(std::int64_t{-2});
  json.begin_object();
  json.end_object();
  json.end_array();
  json.field("d", 1.5);
  json.end_object();
  EXPECT_EQ(json.text(), R"({"a":1,"b":"say \"hi\"\u000a\\","c":[true,-2,{}],"d":1.500})");
  EXPECT_EQ(hex_id(0xab), "00000000000000ab");
}

TEST(MemoryPlan, PartsFitTheWhole) {
  for (std::uint64_t total : {256 * MiB, GiB, 8 * GiB}) {
    for (std::uint32_t cores : {1u, 2u}) {
      ServerConfig config;
      config.memory_bytes = total;
      MemoryPlan plan = plan_memory(config, cores);
      EXPECT_GE(plan.logs, total / 2);
      EXPECT_GE(plan.frames, frame_memory_bytes_min);
      EXPECT_LE(plan.logs + cores * (plan.frames + plan.reads), total + cores * 4 * MiB);
    }
  }
}

}  // namespace
}  // namespace millrace
