// What a power cut may leave, and what it may not.
#include "tests/sim/sim_disk.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <set>

namespace millrace::sim {
namespace {

std::vector<std::byte> filled(std::size_t length, int value) {
  return std::vector<std::byte>(length, static_cast<std::byte>(value));
}

InodePtr create(SimDisk& disk, std::string_view path) {
  InodePtr inode;
  EXPECT_EQ(disk.open(path, open_create | open_read | open_write, inode), 0);
  return inode;
}

/// A file of `sectors` sectors of 1, durable, named durably.
InodePtr durable_file(SimDisk& disk, std::size_t sectors) {
  InodePtr file = create(disk, "f");
  file->file.write(disk.next_stamp(), 0, filled(sectors * sector_bytes, 1), true);
  disk.sync(*disk.find(""), disk.stamp());
  return file;
}

int first_byte(const SimFile& file, std::uint64_t sector) { return static_cast<int>(file.sector(sector, false)[0]); }

TEST(SimFile, zeros_take_no_memory_and_read_as_zeros) {
  SimFile file;
  file.allocate(1, 0, 128 * MiB);
  EXPECT_EQ(file.size(), 128 * MiB);
  EXPECT_EQ(file.allocated_bytes(), 128 * MiB);
  std::vector<std::byte> target = filled(8192, 7);
  EXPECT_EQ(file.read(64 * MiB, target, false), 8192U);
  EXPECT_TRUE(all_zero(target));
  std::uint64_t page = 0;
  EXPECT_FALSE(file.some_page(0, page));
}

TEST(SimFile, unaligned_writes_keep_their_neighbours) {
  SimFile file;
  file.write(1, 0, filled(2048, 1), true);
  file.write(2, 700, filled(300, 2), false);
  std::vector<std::byte> target(2048);
  ASSERT_EQ(file.read(0, target, false), 2048U);
  for (std::size_t i = 0; i < target.size(); ++i)
    ASSERT_EQ(static_cast<int>(target[i]), i >= 700 && i < 1000 ? 2 : 1) << i;
  EXPECT_EQ(file.read(2000, target, false), 48U);
  EXPECT_EQ(file.read(2048, target, false), 0U);
}

TEST(SimFile, sync_takes_what_came_before_its_stamp_and_nothing_later) {
  SimDisk disk;
  InodePtr file = durable_file(disk, 2);
  file->file.write(disk.next_stamp(), 0, filled(sector_bytes, 2), false);
  std::uint64_t handed_over = disk.stamp();
  file->file.write(disk.next_stamp(), sector_bytes, filled(sector_bytes, 3), false);
  disk.sync(*file, handed_over);
  Random random(1);
  disk.power_cut(random, CutProfile::all_old);
  file = disk.find("f");
  EXPECT_EQ(first_byte(file->file, 0), 2);
  EXPECT_EQ(first_byte(file->file, 1), 1);
}

TEST(SimFile, a_failed_sync_loses_what_it_should_have_written_even_after_a_later_success) {
  SimDisk disk;
  InodePtr file = durable_file(disk, 1);
  file->file.write(disk.next_stamp(), 0, filled(sector_bytes, 2), false);
  file->file.abandon();
  EXPECT_EQ(first_byte(file->file, 0), 2) << "still in the page cache";
  disk.sync(*file, disk.stamp());
  Random random(1);
  disk.power_cut(random, CutProfile::all_old);
  EXPECT_EQ(first_byte(disk.find("f")->file, 0), 1);
}

TEST(SimDisk, uniform_cut_reaches_every_mixture_of_old_and_new_sectors) {
  std::set<int> seen;
  Random random(7);
  for (int round = 0; round < 400; ++round) {
    SimDisk disk;
    InodePtr file = durable_file(disk, 3);
    file->file.write(disk.next_stamp(), 0, filled(3 * sector_bytes, 2), false);
    disk.power_cut(random, CutProfile::uniform);
    int mixture = 0;
    for (std::uint64_t i = 0; i < 3; ++i) mixture = mixture * 2 + (first_byte(disk.find("f")->file, i) == 2 ? 1 : 0);
    seen.insert(mixture);
  }
  EXPECT_EQ(seen.size(), 8U);
}

TEST(SimDisk, any_of_several_volatile_values_may_survive) {
  std::set<int> seen;
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    SimDisk disk;
    InodePtr file = durable_file(disk, 1);
    for (int value = 2; value <= 4; ++value) file->file.write(disk.next_stamp(), 0, filled(sector_bytes, value), false);
    disk.power_cut(random, CutProfile::uniform);
    seen.insert(first_byte(disk.find("f")->file, 0));
  }
  EXPECT_EQ(seen, (std::set<int>{1, 2, 3, 4}));
}

TEST(SimDisk, cut_profiles_do_as_they_are_called) {
  for (int round = 0; round < 50; ++round) {
    auto cut = [&](CutProfile profile) {
      SimDisk disk;
      InodePtr file = durable_file(disk, 12);
      for (std::uint64_t write = 0; write < 3; ++write)
        file->file.write(disk.next_stamp(), write * 4 * sector_bytes, filled(4 * sector_bytes, 2), false);
      Random random(static_cast<std::uint64_t>(round));
      disk.power_cut(random, profile);
      std::string state;
      for (std::uint64_t i = 0; i < 12; ++i) state += static_cast<char>('0' + first_byte(disk.find("f")->file, i));
      return state;
    };
    EXPECT_EQ(cut(CutProfile::all_old), "111111111111");
    EXPECT_EQ(cut(CutProfile::all_new), "222222222222");
    std::string torn = cut(CutProfile::one_torn);
    int mixed = 0;
    for (std::size_t write = 0; write < 3; ++write) mixed += torn.substr(write * 4, 4) != "2222";
    EXPECT_LE(mixed, 1) << torn;
    std::string lost = cut(CutProfile::last_writes_lost);
    EXPECT_EQ(lost.find("12"), std::string::npos) << "a later write survived an earlier one: " << lost;
  }
}

TEST(SimDisk, a_durable_write_survives_every_cut_with_the_size_it_needs) {
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    SimDisk disk;
    InodePtr file = durable_file(disk, 1);
    file->file.write(disk.next_stamp(), sector_bytes, filled(sector_bytes, 5), true);
    file->file.write(disk.next_stamp(), 2 * sector_bytes, filled(sector_bytes, 6), false);
    disk.power_cut(random, static_cast<CutProfile>(round % static_cast<int>(cut_profiles)));
    const SimFile& left = disk.find("f")->file;
    EXPECT_GE(left.size(), 2 * sector_bytes);
    EXPECT_EQ(first_byte(left, 0), 1);
    EXPECT_EQ(first_byte(left, 1), 5);
  }
}

TEST(SimDisk, a_new_name_needs_a_sync_of_its_directory) {
  Random random(3);
  for (bool synced : {false, true}) {
    SimDisk disk;
    InodePtr file = create(disk, "new");
    file->file.write(disk.next_stamp(), 0, filled(sector_bytes, 5), true);
    if (synced) disk.sync(*disk.find(""), disk.stamp());
    disk.power_cut(random, CutProfile::all_old);
    EXPECT_EQ(disk.find("new") != nullptr, synced);
  }
}

TEST(SimDisk, a_rename_is_all_or_nothing_and_its_target_never_missing) {
  Random random(11);
  bool saw_old = false;
  bool saw_new = false;
  for (int round = 0; round < 100; ++round) {
    SimDisk disk;
    for (const char* name : {"finish", "finish.tmp"}) {
      InodePtr file = create(disk, name);
      file->file.write(disk.next_stamp(), 0, filled(sector_bytes, name[6] == 0 ? 1 : 2), true);
    }
    disk.sync(*disk.find(""), disk.stamp());
    ASSERT_EQ(disk.rename("finish.tmp", "finish"), 0);
    disk.power_cut(random, CutProfile::uniform);
    InodePtr target = disk.find("finish");
    ASSERT_NE(target, nullptr);
    bool renamed = first_byte(target->file, 0) == 2;
    EXPECT_EQ(disk.find("finish.tmp") == nullptr, renamed);
    (renamed ? saw_new : saw_old) = true;
  }
  EXPECT_TRUE(saw_old && saw_new);
}

TEST(SimDisk, a_rename_never_outlives_the_creation_it_rests_on) {
  Random random(11);
  for (int round = 0; round < 100; ++round) {
    SimDisk disk;
    create(disk, "a");
    ASSERT_EQ(disk.rename("a", "b"), 0);
    disk.power_cut(random, CutProfile::uniform);
    EXPECT_FALSE(disk.find("a") && disk.find("b"));
  }
}

TEST(SimDisk, a_renamed_file_without_a_sync_of_its_bytes_may_be_empty) {
  SimDisk disk;
  InodePtr file = create(disk, "t.tmp");
  file->file.write(disk.next_stamp(), 0, filled(sector_bytes, 5), false);
  ASSERT_EQ(disk.rename("t.tmp", "t"), 0);
  disk.sync(*disk.find(""), disk.stamp());
  Random random(1);
  disk.power_cut(random, CutProfile::all_old);
  ASSERT_NE(disk.find("t"), nullptr);
  EXPECT_EQ(disk.find("t")->file.size(), 0U);
}

TEST(SimDisk, an_unlink_that_was_not_synced_may_come_undone_with_its_bytes) {
  SimDisk disk;
  durable_file(disk, 1);
  ASSERT_EQ(disk.unlink("f", false), 0);
  EXPECT_EQ(disk.find("f"), nullptr);
  Random random(1);
  disk.power_cut(random, CutProfile::all_old);
  ASSERT_NE(disk.find("f"), nullptr);
  EXPECT_EQ(first_byte(disk.find("f")->file, 0), 1);
}

TEST(SimDisk, a_lost_truncate_brings_the_bytes_back_and_a_kept_one_zeros_them_for_good) {
  Random random(5);
  bool saw_old = false;
  bool saw_new = false;
  for (int round = 0; round < 60; ++round) {
    SimDisk disk;
    InodePtr file = durable_file(disk, 4);
    file->file.resize(disk.next_stamp(), sector_bytes);
    disk.power_cut(random, CutProfile::uniform);
    SimFile& left = disk.find("f")->file;
    ASSERT_TRUE(left.size() == sector_bytes || left.size() == 4 * sector_bytes);
    if (left.size() == sector_bytes) {
      saw_new = true;
      left.resize(disk.next_stamp(), 4 * sector_bytes);
      EXPECT_EQ(first_byte(left, 2), 0);
    } else {
      saw_old = true;
      for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(first_byte(left, i), 1);
    }
  }
  EXPECT_TRUE(saw_old && saw_new);
}

TEST(SimDisk, damage_lies_over_the_true_bytes_until_healed_or_rewritten) {
  SimDisk disk;
  InodePtr file = durable_file(disk, 2);
  Sector wrong{};
  wrong.fill(std::byte{9});
  file->file.damage(0, wrong);
  std::vector<std::byte> target(2 * sector_bytes);
  file->file.read(0, target, false);
  EXPECT_EQ(static_cast<int>(target[0]), 9);
  EXPECT_EQ(static_cast<int>(target[sector_bytes]), 1);
  file->file.read(0, target, true);
  EXPECT_EQ(static_cast<int>(target[0]), 1);
  file->file.write(disk.next_stamp(), 0, filled(sector_bytes, 4), true);
  EXPECT_EQ(file->file.damaged_sectors(), 0U);
}

TEST(SimDisk, names_answer_as_a_file_system_does) {
  SimDisk disk;
  InodePtr inode;
  EXPECT_EQ(disk.open("no/such", open_create | open_write, inode), -ENOENT);
  EXPECT_EQ(disk.make_directory("d"), 0);
  EXPECT_EQ(disk.make_directory("d"), -EEXIST);
  EXPECT_EQ(disk.open("d/f", open_create | open_exclusive | open_write, inode), 0);
  EXPECT_EQ(disk.open("d/f", open_create | open_exclusive | open_write, inode), -EEXIST);
  EXPECT_EQ(disk.unlink("d", true), -ENOTEMPTY);
  EXPECT_EQ(disk.unlink("d", false), -EISDIR);
  EXPECT_EQ(disk.rename("nope", "d/g"), -ENOENT);
  EXPECT_EQ(disk.open("d", open_write, inode), -EISDIR);
  std::vector<DirectoryEntry> entries;
  EXPECT_EQ(disk.list("d", entries), 1);
  EXPECT_EQ(entries[0].name, "f");
  disk.capacity_inodes = 3;
  EXPECT_EQ(disk.open("d/g", open_create | open_write, inode), -ENOSPC);
}

TEST(SimDisk, an_image_loads_back_equal) {
  SimDisk disk;
  disk.make_directory("d");
  InodePtr file = create(disk, "d/f");
  file->file.write(disk.next_stamp(), 0, filled(3000, 8), true);
  DirectoryImage image = disk.image();
  SimDisk other;
  other.load(image);
  EXPECT_EQ(other.image(), image);
  Random random(1);
  other.power_cut(random, CutProfile::all_old);
  EXPECT_EQ(other.image(), image);
}

}  // namespace
}  // namespace millrace::sim
