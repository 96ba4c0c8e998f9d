#include "reactor/placement.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace millrace::test {

namespace {

TEST(PlacementTest, core_lists) {
  EXPECT_EQ(parse_cores("0"), (std::vector<unsigned>{0}));
  EXPECT_EQ(parse_cores("0,2-4"), (std::vector<unsigned>{0, 2, 3, 4}));
  EXPECT_EQ(parse_cores("3,1,3,1-2"), (std::vector<unsigned>{3, 1, 2}));
  for (const char* wrong : {"", ",", "1,", "a", "-1", "2-1", "1-", "0 1", "99999999999", "1--2"})
    EXPECT_FALSE(parse_cores(wrong)) << wrong;
}

TEST(PlacementTest, a_pinned_thread_stays_on_its_core) {
  auto cores = allowed_cores();
  ASSERT_FALSE(cores.empty());
  int ran_on = -1;
  std::thread([&] {
    EXPECT_TRUE(pin_this_thread(cores.back()));
    ran_on = ::sched_getcpu();
  }).join();
  EXPECT_EQ(ran_on, static_cast<int>(cores.back()));
  EXPECT_FALSE(pin_this_thread(1'000'000));
}

TEST(PlacementTest, a_thread_that_lets_others_first_keeps_its_policy_and_place) {
  auto cores = allowed_cores();
  std::thread([&] {
    ASSERT_TRUE(pin_this_thread(cores.back()));
    const int niceness = ::nice(1);
    let_disk_threads_first();
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(::nice(0), niceness);
    EXPECT_EQ(::sched_getcpu(), static_cast<int>(cores.back()));
  }).join();
}

constexpr const char* interrupts =
    "           CPU0       CPU2       CPU3       \n"
    " 36:       9999          1          0 PCI-MSIX-0000:00:02.0   1-edge      virtio10-req.0\n"
    " 37:          5        700         20 PCI-MSIX-0000:00:03.0   1-edge      virtio1-req.0\n"
    " 38:          5          7        900 PCI-MSIX-0000:00:03.0   2-edge      virtio1-req.1\n"
    " 39:          0          0          0 PCI-MSIX-0000:00:03.0   3-edge      nvme0q1\n"
    "LOC:     123456     123456     123456   Local timer interrupts\n";

TEST(PlacementTest, the_busiest_core_of_a_device) {
  EXPECT_EQ(busiest_core(interrupts, "virtio1-req"), 3U);
  EXPECT_EQ(busiest_core(interrupts, "virtio10-req"), 0U);
  EXPECT_FALSE(busiest_core(interrupts, "nvme0q")) << "no interrupt yet says nothing";
  EXPECT_FALSE(busiest_core(interrupts, "absent"));
  EXPECT_FALSE(busiest_core(interrupts, ""));
  EXPECT_FALSE(busiest_core("", "virtio1-req"));
}

TEST(PlacementTest, the_hint_is_a_core_of_this_machine_or_nothing) {
  auto core = disk_interrupt_core(".");
  auto cores = allowed_cores();
  EXPECT_TRUE(!core || *core < 4096);
  EXPECT_FALSE(disk_interrupt_core("/no/such/directory"));
}

}  // namespace

}  // namespace millrace::test
