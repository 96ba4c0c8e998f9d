#include <gtest/gtest.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/units.hpp"
#include "cli/doctor.hpp"

namespace millrace {

namespace {

HostMeasured good_host() {
  HostMeasured host;
  host.uring = true;
  host.used = {"DEFER_TASKRUN"};
  host.cores = 4;
  host.files_now = 1024;
  host.files_max = 65'536;
  host.clock_source = "tsc";
  host.loopback_bytes_per_second = 3e9;
  return host;
}

DiskMeasured good_disk() {
  DiskMeasured disk;
  disk.mount_point = "/data";
  disk.filesystem = "ext4";
  disk.mount_options = "rw,relatime,rw";
  disk.free_bytes = 100 * GiB;
  disk.free_inodes = 1'000'000;
  disk.direct = true;
  disk.plain = {20'000, 45, 90};
  disk.durable = {5000, 190, 600};
  disk.allocated = {2500, 380, 900};
  disk.write_cache = "write back";
  disk.fill_mb_per_second = 900;
  return disk;
}

/// The row of a check; fails the test when there is none.
DoctorRow row_of(const DoctorRows& rows, const std::string& check) {
  for (const DoctorRow& row : rows)
    if (row.check == check) return row;
  ADD_FAILURE() << "no row " << check;
  return {};
}
DoctorRow host_row(const HostMeasured& host, const std::string& check) {
  DoctorRows rows;
  judge_host(host, rows);
  return row_of(rows, check);
}
DoctorRow disk_row(const DiskMeasured& disk, const std::string& check) {
  DoctorRows rows;
  judge_disk(disk, rows);
  return row_of(rows, check);
}
bool says(const DoctorRow& row, const char* word) { return row.advice.find(word) != std::string::npos; }

TEST(Doctor, a_good_machine_gets_no_advice) {
  DoctorRows rows;
  judge_host(good_host(), rows);
  judge_disk(good_disk(), rows);
  EXPECT_EQ(rows.size(), 12U);
  for (const DoctorRow& row : rows) {
    EXPECT_EQ(row.finding, Finding::ok) << row.check;
    EXPECT_EQ(row.advice, "") << row.check;
    EXPECT_NE(row.found, "") << row.check;
  }
}

TEST(Doctor, what_costs_names_its_cure) {
  HostMeasured host = good_host();
  host.memlock_bytes = 64 * KiB;
  EXPECT_EQ(host_row(host, "locked memory").found, "64 KiB");
  EXPECT_TRUE(says(host_row(host, "locked memory"), "ulimit -l"));
  host.memlock_bytes = 64 * MiB;
  EXPECT_EQ(host_row(host, "locked memory").finding, Finding::ok);
  host.cores = 1;
  EXPECT_EQ(host_row(host, "cores").finding, Finding::costs);
  host.files_max = 4096;
  EXPECT_TRUE(says(host_row(host, "open files"), "LimitNOFILE"));
  EXPECT_EQ(host_row(host, "open files").finding, Finding::costs);
  host.files_max = 20;
  EXPECT_EQ(host_row(host, "open files").finding, Finding::broken) << "a server does not start with so few";
  host.clock_source = "hpet";
  EXPECT_TRUE(says(host_row(host, "clock"), "clocksource"));
  host.clock_moved_us = -6000;
  EXPECT_TRUE(says(host_row(host, "clock"), "chrony"));
  host.missing = {"NO_SQARRAY: an index array is filled in once"};
  EXPECT_TRUE(says(host_row(host, "io_uring"), "NO_SQARRAY"));
  host.uring = false;
  host.uring_refusal = "denied by seccomp";
  EXPECT_EQ(host_row(host, "io_uring").finding, Finding::costs) << "the posix kernel serves all the same";
  EXPECT_EQ(host_row(host, "io_uring").advice, "denied by seccomp");
  host.loopback_bytes_per_second = 1e8;
  EXPECT_EQ(host_row(host, "loopback").finding, Finding::costs);
  host.loopback_bytes_per_second = 0;
  EXPECT_EQ(host_row(host, "loopback").finding, Finding::broken);
}

TEST(Doctor, filesystems) {
  auto of = [](const char* type, const char* options) {
    DiskMeasured disk = good_disk();
    disk.filesystem = type;
    disk.mount_options = options;
    return disk_row(disk, "filesystem").finding;
  };
  EXPECT_EQ(of("xfs", "rw,noatime"), Finding::ok);
  EXPECT_EQ(of("ext4", "rw,errors=remount-ro"), Finding::ok);
  EXPECT_EQ(of("ext4", "ro,relatime"), Finding::broken);
  EXPECT_EQ(of("ext4", "rw,nobarrier"), Finding::broken);
  EXPECT_EQ(of("ext4", "rw,discard"), Finding::costs);
  EXPECT_EQ(of("tmpfs", "rw"), Finding::broken);
  EXPECT_EQ(of("btrfs", "rw"), Finding::costs);
  EXPECT_EQ(of("overlay", "rw"), Finding::costs);
  EXPECT_EQ(of("nfs4", "rw"), Finding::costs);
  EXPECT_EQ(of("fuse.sshfs", "rw"), Finding::costs);
}

TEST(Doctor, zeroed_space_that_is_slower_than_allocated_was_disturbed) {
  DiskMeasured disk = good_disk();
  disk.durable = {125, 8000, 9000};
  disk.allocated = {2500, 400, 900};
  EXPECT_EQ(disk_row(disk, "prepared segments").finding, Finding::costs);
  EXPECT_TRUE(says(disk_row(disk, "prepared segments"), "measure again"));
}

TEST(Doctor, caches_that_lie_are_called_out) {
  DiskMeasured disk = good_disk();
  disk.durable = {20'000, 47, 90};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken);
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "lies"));
  disk.write_cache = "write through";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << "no volatile cache: nothing to flush";
  disk.rotates = true;
  disk.vendor = "ATA";
  disk.model = "ST2000DM008-2UB1";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken);
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "hdparm"));
  disk.durable = {110, 9000, 20'000};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << "what a spinning disk takes";
  disk.vendor = "0x1af4";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::costs) << "no flash takes 9 ms, unless its core is kept busy";
  disk.durable = {250, 4000, 4100};
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "taskset"));
  disk.durable = {40, 25'000, 60'000};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::costs);
  disk.durable = {.refusal = EIO};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken);
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "log"));
}

TEST(Doctor, memory_that_looks_like_a_disk_is_called_out) {
  DiskMeasured disk = good_disk();
  disk.name = "loop0";
  disk.plain = {60'000, 11, 40};
  disk.durable = {26'000, 30, 47};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << "an image on a fast disk";
  disk.memory = "the image /a/image on tmpfs at /a";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken);
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "/a/image on tmpfs"));
  disk.memory.clear();
  disk.durable = {26'000, 21, 47};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken) << "its file cannot be seen, its rate can";
  disk.name = "vda";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok);
  disk.durable = {60'000, 15, 40};
  disk.plain = {110'000, 8.5, 20};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken) << "two requests, each faster than any disk";
  disk.durable_writes = true;
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << "one request";
}

TEST(Doctor, a_drive_with_power_loss_protection_is_no_liar) {
  DiskMeasured disk = good_disk();
  disk.name = "nvme0n1";
  disk.model = "SAMSUNG MZQL2960HCJR-00A07";
  disk.durable_writes = true;
  disk.plain = {90'000, 11, 20};
  disk.durable = {85'000, 12, 25};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok);
  EXPECT_NE(disk_row(disk, "flushes").found.find("power-loss protection"), std::string::npos);
  disk.model = "QEMU NVMe Ctrl";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken) << "a host that throws flushes away";
  disk.model = "SAMSUNG MZQL2960HCJR-00A07";
  disk.write_cache = "write through";
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok);
  EXPECT_EQ(disk_row(disk, "flushes").found.find("power-loss protection"), std::string::npos) << "it says so itself";
  disk.durable = {200'000, 5, 9};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken) << "too fast for any";
}

TEST(Doctor, loopback_that_was_not_measured_says_why) {
  HostMeasured host = good_host();
  host.loopback_bytes_per_second = 0;
  host.loopback_refusal = ENETUNREACH;
  EXPECT_TRUE(says(host_row(host, "loopback"), "ip link"));
  host.loopback_refusal = EMFILE;
  EXPECT_TRUE(says(host_row(host, "loopback"), "ulimit -n"));
  host.loopback_refusal = EPERM;
  EXPECT_TRUE(says(host_row(host, "loopback"), "security filter"));
  host.loopback_refusal = 0;
  host.loopback_no_thread = true;
  EXPECT_EQ(host_row(host, "loopback").finding, Finding::broken);
  EXPECT_TRUE(says(host_row(host, "loopback"), "ulimit -u"));
  EXPECT_FALSE(says(host_row(host, "loopback"), "ip link"));
  host.uring = false;
  host.uring_refusal = host.posix_refusal = "no thread can be started";
  EXPECT_EQ(host_row(host, "io_uring").finding, Finding::broken) << "nothing is left to serve with";
  EXPECT_EQ(host_row(host, "io_uring").advice, "no thread can be started");
}

TEST(Doctor, a_virtual_disk_that_calls_itself_rotating_is_judged_by_its_rate) {
  DiskMeasured disk = good_disk();
  disk.plain = {19'000, 52, 90};
  disk.durable = {10'772, 84, 162};
  disk.rotates = true;
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << "virtio has neither vendor nor model";
  for (auto [vendor, model] : {std::pair{"QEMU", "QEMU HARDDISK"},
                               {"ATA", "QEMU HARDDISK"},
                               {"ATA", "VBOX HARDDISK"},
                               {"VMware", "Virtual disk"},
                               {"DELL", "PERC H730"}}) {
    disk.vendor = vendor;
    disk.model = model;
    EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::ok) << vendor << " " << model;
  }
  disk.write_cache.clear();
  disk.rotates = false;
  disk.durable = {1'100'000, 1, 1};
  disk.plain = {1'100'000, 1, 1};
  EXPECT_EQ(disk_row(disk, "flushes").finding, Finding::broken) << "whatever it says of itself";
  EXPECT_TRUE(says(disk_row(disk, "flushes"), "lies"));
}

TEST(Doctor, no_space_is_called_no_space) {
  DiskMeasured disk = good_disk();
  disk.free_bytes = 0;
  disk.allocate_refusal = disk.fill_refusal = ENOSPC;
  disk.plain = disk.durable = disk.allocated = {.refusal = ENOSPC};
  disk.fill_mb_per_second = 0;
  EXPECT_TRUE(says(disk_row(disk, "free space"), "no space left"));
  for (const char* check : {"free space", "prepared segments", "flushes", "disk throughput"}) {
    DoctorRow row = disk_row(disk, check);
    EXPECT_EQ(row.finding, Finding::broken) << check;
    EXPECT_TRUE(says(row, "free ")) << check;
    EXPECT_EQ(row.found.find("0 MB/s"), std::string::npos);
  }
  EXPECT_EQ(disk_row(disk, "direct I/O").finding, Finding::ok) << "the file was opened for it";
  disk = good_disk();
  disk.allocated = {.refusal = EDQUOT};
  EXPECT_NE(disk_row(disk, "prepared segments").found.find("no space"), std::string::npos);
  disk.free_inodes = 0;
  disk.file_refusal = ENOSPC;
  EXPECT_TRUE(says(disk_row(disk, "direct I/O"), "inodes"));
  EXPECT_TRUE(says(disk_row(disk, "free space"), "inodes"));
}

TEST(Doctor, space_and_direct_io) {
  DiskMeasured disk = good_disk();
  disk.free_bytes = 200 * MiB;
  EXPECT_EQ(disk_row(disk, "free space").finding, Finding::broken);
  disk.free_bytes = 500 * MiB;
  EXPECT_EQ(disk_row(disk, "free space").finding, Finding::costs);
  disk = good_disk();
  disk.free_inodes = 3;
  EXPECT_EQ(disk_row(disk, "free space").finding, Finding::broken);
  disk.free_inodes.reset();
  EXPECT_EQ(disk_row(disk, "free space").finding, Finding::ok);
  disk.direct_alignment = 512;
  EXPECT_NE(disk_row(disk, "direct I/O").found.find("512 bytes"), std::string::npos);
  disk.direct = false;
  EXPECT_TRUE(says(disk_row(disk, "direct I/O"), "--buffered"));
  disk.allocate_refusal = EOPNOTSUPP;
  EXPECT_EQ(disk_row(disk, "preallocation").finding, Finding::costs);
  disk.fill_mb_per_second = 10;
  EXPECT_EQ(disk_row(disk, "disk throughput").finding, Finding::costs);
  disk.file_refusal = EACCES;
  EXPECT_EQ(disk_row(disk, "direct I/O").finding, Finding::broken);
  EXPECT_TRUE(says(disk_row(disk, "direct I/O"), "this user"));
  disk.file_refusal = EROFS;
  EXPECT_TRUE(says(disk_row(disk, "direct I/O"), "mount it for writing"));
  EXPECT_FALSE(says(disk_row(disk, "direct I/O"), "this user")) << "no user can";
}

TEST(Doctor, json_has_the_rows_of_the_text) {
  DoctorRows rows;
  judge_host(good_host(), rows);
  judge_disk(good_disk(), rows);
  auto parsed = nlohmann::json::parse(doctor_json(rows));
  ASSERT_EQ(parsed["rows"].size(), rows.size());
  std::string text = doctor_text(rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(parsed["rows"][i]["check"], rows[i].check);
    EXPECT_EQ(parsed["rows"][i]["finding"], "ok");
    EXPECT_NE(text.find(rows[i].found), std::string::npos);
  }
}

}  // namespace

}  // namespace millrace
