// What a person is told when io_uring, or a part of it, is refused: the cause that the errno has here, and a cure that fits it.
#include "reactor/uring_refusal.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

bool has(const std::string& text, const char* word) { return text.find(word) != std::string::npos; }

UringStanding plain() {
  UringStanding standing;
  standing.disabled = 0;
  standing.seccomp = 0;
  return standing;
}
UringStanding filtered() {
  UringStanding standing = plain();
  standing.seccomp = 2;
  standing.denied_anyhow = true;
  return standing;
}

TEST(UringRefusedTest, each_cause_has_its_sentence) {
  EXPECT_TRUE(has(why_refused(EPERM, filtered()), "seccomp profile"));
  EXPECT_TRUE(has(why_refused(EPERM, plain()), "security module")) << "no filter is there to be blamed";
  EXPECT_TRUE(has(why_refused(EPERM, {}), "seccomp")) << "a kernel that does not say";
  EXPECT_TRUE(has(why_refused(ENOSYS, plain()), "has no io_uring"));
  EXPECT_FALSE(has(why_refused(ENOSYS, plain()), "seccomp"));
  EXPECT_TRUE(has(why_refused(ENOSYS, filtered()), "hidden by a security filter"))
      << "it has the sysctl, so it has io_uring";
  UringStanding old = filtered();
  old.disabled.reset();
  EXPECT_TRUE(has(why_refused(ENOSYS, old), "6.1") && has(why_refused(ENOSYS, old), "seccomp")) << "either may be";
  EXPECT_TRUE(has(why_refused(EINVAL, plain()), "6.1"));
  EXPECT_FALSE(has(why_refused(EINVAL, plain()), "seccomp")) << "there is none";
  EXPECT_TRUE(has(why_refused(EINVAL, filtered()), "seccomp"));
  EXPECT_TRUE(has(why_refused(EMFILE, plain()), "ulimit -n"));
  UringStanding limited = plain();
  limited.memlock_bytes = 64 * KiB;
  EXPECT_TRUE(has(why_refused(ENOMEM, limited), "64 KiB") && has(why_refused(ENOMEM, limited), "ulimit -l"));
  EXPECT_FALSE(has(why_refused(ENOMEM, plain()), "ulimit")) << "no limit to raise";
}

TEST(UringRefusedTest, the_sysctl_is_blamed_only_for_whom_it_refuses) {
  UringStanding standing = plain();
  standing.disabled = 2;
  EXPECT_TRUE(has(why_refused(EPERM, standing), "kernel.io_uring_disabled=0"));
  standing.disabled = 1;
  EXPECT_TRUE(has(why_refused(EPERM, standing), "run as root"));
  EXPECT_TRUE(has(why_refused(EPERM, standing), "io_uring_group"));
  EXPECT_FALSE(has(why_refused(EPERM, standing), "seccomp"));
  standing.root = true;
  EXPECT_FALSE(has(why_refused(EPERM, standing), "run as root")) << "it is";
  EXPECT_TRUE(has(why_refused(EPERM, standing), "CAP_SYS_ADMIN"));
  for (bool by_group : {false, true}) {
    standing = filtered();
    standing.disabled = 1;
    (by_group ? standing.in_group : standing.administrator) = true;
    EXPECT_TRUE(has(why_refused(EPERM, standing), "seccomp profile"));
    EXPECT_FALSE(has(why_refused(EPERM, standing), "io_uring_disabled")) << "it refuses others";
  }
  for (int disabled : {1, 2}) {
    standing = filtered();
    standing.disabled = disabled;
    EXPECT_TRUE(has(why_refused(EPERM, standing), "kernel.io_uring_disabled"));
    EXPECT_TRUE(has(why_refused(EPERM, standing), "seccomp profile")) << "both refuse, so both need a cure";
  }
}

TEST(UringRefusedTest, a_missing_feature_has_the_cause_of_its_errno) {
  auto line = [](int system_errno, const UringStanding& standing) {
    return missing_line({"PBUF_RING", "done otherwise", "5.19"}, system_errno, "io_uring_register", standing);
  };
  UringStanding limited = plain();
  limited.memlock_bytes = 64 * KiB;
  EXPECT_EQ(line(0, plain()), "PBUF_RING: done otherwise (not asked for)");
  for (int system_errno : {EPERM, ENOSYS}) {
    EXPECT_TRUE(has(line(system_errno, filtered()), "seccomp filter denies io_uring_register"));
    EXPECT_FALSE(has(line(system_errno, filtered()), "ulimit"));
  }
  EXPECT_TRUE(has(line(EPERM, filtered()), "(EPERM: "));
  EXPECT_TRUE(has(line(ENOSYS, plain()), "(ENOSYS: this kernel lacks it; run on Linux 5.19"));
  EXPECT_TRUE(has(line(EINVAL, filtered()), "(EINVAL: this kernel lacks it; run on Linux 5.19"));
  EXPECT_TRUE(has(line(EINVAL, filtered()), "or a seccomp filter denies io_uring_register"));
  EXPECT_FALSE(has(line(EINVAL, plain()), "seccomp"));
  EXPECT_TRUE(has(line(ENOMEM, limited), "(ENOMEM: the limit on locked memory, 64 KiB, is used up"));
  EXPECT_TRUE(has(line(ENOMEM, plain()), "(ENOMEM: the machine is out of memory"));
  EXPECT_TRUE(has(line(EMFILE, plain()), "ulimit -n"));
}

TEST(UringRefusedTest, status_is_read_as_the_system_writes_it) {
  UringStanding standing;
  standing.memlock_bytes = 64 * KiB;
  read_status("Name:\tmillrace\nCapEff:\t0000000000204000\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n",
              standing);
  EXPECT_TRUE(standing.administrator);
  EXPECT_EQ(standing.seccomp, 2);
  EXPECT_FALSE(standing.memlock_bytes) << "CAP_IPC_LOCK: no limit counts";
  standing.memlock_bytes = 64 * KiB;
  read_status("CapEff:\t00000000a80425fb\nSeccomp:\t0\n", standing);
  EXPECT_FALSE(standing.administrator) << "root of a container, as docker makes it";
  EXPECT_EQ(standing.seccomp, 0);
  EXPECT_TRUE(standing.memlock_bytes);
  read_status("", standing);
  EXPECT_FALSE(standing.seccomp);
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
  const std::string& said = (*kernel)->features().missing.back();
  return has(said, "ENOMEM: the limit on locked memory, 4096 KiB") && has(said, "ulimit -l") ? 0 : 7;
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
