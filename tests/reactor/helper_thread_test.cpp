// A helper that has nothing to do takes no turn of a core from anybody.
#include "reactor/helper_thread.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {
std::atomic<int> yields{0};
}

/// In place of the C library's: whoever gives way in this process is counted.
extern "C" int sched_yield() noexcept {
  ++yields;
  return static_cast<int>(::syscall(SYS_sched_yield));
}

namespace millrace::test {

namespace {

TEST(HelperThread, sleeps_at_once_when_there_is_nothing_to_do) {
  std::atomic<int> woken{0};
  auto wake = [](void* count) { ++*static_cast<std::atomic<int>*>(count); };
  auto perform = [](Operation& operation) { return static_cast<std::int32_t>(operation.length); };
  const int before = yields;
  {
    HelperThread helper(wake, &woken, perform);
    ASSERT_TRUE(helper.start());
    for (std::uint32_t round = 1; round <= 20; ++round) {
      Operation operation;
      operation.length = round;
      helper.push(operation);
      while (!helper.has_finished()) std::this_thread::sleep_for(std::chrono::microseconds(200));
      std::int32_t result = 0;
      EXPECT_EQ(helper.take_finished(result), &operation);
      EXPECT_EQ(result, static_cast<std::int32_t>(round));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // it goes to sleep each time
    }
  }
  EXPECT_EQ(woken, 20);
  EXPECT_EQ(yields, before) << "it gave way before it slept: on a full machine each time costs everybody's slices";
}

TEST(HelperThread, takes_as_many_as_it_has_room_for_and_ends_with_them_done) {
  std::atomic<int> done{0};
  auto wake = [](void* count) { ++*static_cast<std::atomic<int>*>(count); };
  auto perform = [](Operation&) { return 7; };
  std::array<Operation, HelperThread::queue_max> operations;
  HelperThread helper(wake, &done, perform);
  ASSERT_TRUE(helper.start());
  for (Operation& operation : operations) helper.push(operation);
  EXPECT_FALSE(helper.has_room());
  for (Operation& operation : operations) {
    while (!helper.has_finished()) std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::int32_t result = 0;
    EXPECT_EQ(helper.take_finished(result), &operation) << "first in, first out";
    EXPECT_EQ(result, 7);
  }
  EXPECT_TRUE(helper.has_room());
}

}  // namespace

}  // namespace millrace::test
