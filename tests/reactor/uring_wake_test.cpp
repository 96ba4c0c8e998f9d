#include <thread>

#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

using UringWakeTest = UringTest;
INSTANTIATE_TEST_SUITE_P(Modes, UringWakeTest, ::testing::ValuesIn(all_modes()), mode_name);

TEST_P(UringWakeTest, poll_waits_until_its_deadline) {
  std::array<Completion, 4> batch;
  Nanos begin = kernel_->now();
  int waits = 0;
  for (; kernel_->now() < begin + 30 * nanos_per_milli; ++waits)
    EXPECT_EQ(kernel_->poll(batch, begin + 30 * nanos_per_milli), 0U);
  EXPECT_LE(waits, 5) << "a stop and its SIGCONT end one wait early; nothing else does";
  EXPECT_LT(kernel_->now() - begin, nanos_per_second);
  begin = kernel_->now();
  EXPECT_EQ(kernel_->poll(batch, wait_never), 0U);
  EXPECT_EQ(kernel_->poll(batch, begin - nanos_per_second), 0U);
  EXPECT_LT(kernel_->now() - begin, 20 * nanos_per_milli);
}

TEST_P(UringWakeTest, wake_from_another_thread_ends_the_wait) {
  for (int round = 0; round < 20; ++round) {
    std::thread other([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      kernel_->wake();
    });
    std::array<Completion, 4> batch;
    Nanos begin = kernel_->now();
    EXPECT_EQ(kernel_->poll(batch, begin + 10 * nanos_per_second), 0U);
    other.join();
    ASSERT_LT(kernel_->now() - begin, 5 * nanos_per_second);
    // A message that came too late for that poll may cost one more empty turn, never a lost one.
    kernel_->poll(batch, wait_never);
  }
}

TEST_P(UringWakeTest, wake_before_poll_is_not_lost) {
  std::array<Completion, 4> batch;
  kernel_->wake();
  kernel_->wake();
  Nanos begin = kernel_->now();
  EXPECT_EQ(kernel_->poll(batch, begin + 10 * nanos_per_second), 0U);
  EXPECT_LT(kernel_->now() - begin, nanos_per_second);
}

TEST_P(UringWakeTest, every_message_of_a_busy_neighbour_is_seen) {
  constexpr int messages = 20'000;
  std::atomic<int> published{0};
  std::thread other([&] {
    for (int i = 1; i <= messages; ++i) {
      published.store(i, std::memory_order_release);
      kernel_->wake();
      if (i % 512 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  std::array<Completion, 4> batch;
  Nanos begin = kernel_->now();
  while (published.load(std::memory_order_acquire) < messages)
    kernel_->poll(batch, kernel_->now() + 20 * nanos_per_second);
  other.join();
  EXPECT_LT(kernel_->now() - begin, 15 * nanos_per_second) << "a wake was lost and the deadline ended the wait";
}

TEST_P(UringWakeTest, seeds_differ_and_clocks_run) {
  EXPECT_NE(kernel_->seed(), kernel_->seed());
  Nanos first = kernel_->now();
  EXPECT_GE(kernel_->now(), first);
  EXPECT_GT(kernel_->wall_now(), 1'600'000'000 * nanos_per_second);
}

TEST_P(UringWakeTest, features_name_what_is_used_and_what_replaces_the_rest) {
  const KernelFeatures& features = kernel_->features();
  if (GetParam().posix) {
    EXPECT_EQ(features.name, "posix");
    EXPECT_FALSE(features.used.empty());
    return;
  }
  EXPECT_EQ(features.name, "io_uring");
  auto missing = [&](const char* word) {
    for (const std::string& line : features.missing)
      if (line.find(word) != std::string::npos && line.find(": ") != std::string::npos) return true;
    return false;
  };
  const UringOptions& options = GetParam().options;
  EXPECT_EQ(missing("DEFER_TASKRUN"), !options.defer_taskrun);
  EXPECT_EQ(missing("RECV_MULTISHOT"), !options.multishot);
  EXPECT_EQ(missing("PBUF_RING"), !options.provided_ring);
  EXPECT_EQ(missing("BUFFERS_SPARSE"), !options.registered_memory);
  EXPECT_EQ(missing("FILES_SPARSE"), !options.registered_files);
  EXPECT_EQ(missing("SEND_MSG_RING"), !options.message_wake);
}

}  // namespace

}  // namespace millrace::test
