#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <thread>

#include "reactor/uring_probe.hpp"
#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

using UringWakeTest = UringTest;
INSTANTIATE_TEST_SUITE_P(Modes, UringWakeTest, ::testing::ValuesIn(all_modes()), mode_name);

TEST_P(UringWakeTest, poll_waits_until_its_deadline) {
  Nanos begin = kernel_->now();
  EXPECT_EQ(poll(30 * nanos_per_milli), 0U);
  Nanos waited = kernel_->now() - begin;
  EXPECT_GE(waited, 29 * nanos_per_milli);
  EXPECT_LT(waited, nanos_per_second);
  begin = kernel_->now();
  std::array<Completion, 4> batch;
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

TEST(UringRefusedTest, each_cause_has_its_sentence) {
  EXPECT_NE(why_refused(EPERM, 2).find("kernel.io_uring_disabled=0"), std::string::npos);
  EXPECT_NE(why_refused(EPERM, 1).find("io_uring_group"), std::string::npos);
  EXPECT_NE(why_refused(EPERM, 0).find("seccomp"), std::string::npos);
  EXPECT_NE(why_refused(EPERM, std::nullopt).find("seccomp"), std::string::npos);
  EXPECT_NE(why_refused(ENOSYS, std::nullopt).find("6.1"), std::string::npos);
  EXPECT_NE(why_refused(ENOMEM, 0).find("ulimit -l"), std::string::npos);
  EXPECT_NE(why_refused(EMFILE, 0).find("ulimit -n"), std::string::npos);
}

// In a child, because a filter cannot be taken off again. Exit status 0 = refused with the sentence about seccomp.
int refused_by_filter(int system_errno) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(system_errno)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 2;
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 3;
  std::string why;
  if (UringKernel::create({}, why)) return 4;
  return why.find("seccomp") != std::string::npos && why.find("profile") != std::string::npos ? 0 : 5;
}

TEST(UringRefusedTest, a_seccomp_filter_is_named) {
  for (int system_errno : {EPERM, ENOSYS}) {
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(refused_by_filter(system_errno));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

// In a child that gives up root: root may lock what it likes. Exit status 0 = a part was registered and writes go on.
int half_of_it_is_registered() {
  rlimit small{4 * MiB, 4 * MiB};
  if (::setrlimit(RLIMIT_MEMLOCK, &small) != 0) return 2;
  if (::getuid() == 0 && ::setuid(65534) != 0) return 3;
  std::string why;
  auto kernel = UringKernel::create({}, why);
  if (!kernel) return 4;
  constexpr std::size_t bytes = 16 * MiB;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(block_bytes, bytes));
  std::size_t registered = (*kernel)->register_memory({memory, bytes});
  std::free(memory);
  if (registered == 0 || registered > 4 * MiB) return 5;
  if ((*kernel)->features().registered_bytes != registered) return 6;
  return (*kernel)->features().missing.back().find("ulimit -l") != std::string::npos ? 0 : 7;
}

TEST(UringRefusedTest, a_small_memlock_registers_a_part) {
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(half_of_it_is_registered());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace

}  // namespace millrace::test
