#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cstring>

#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

using UringFileTest = UringTest;
INSTANTIATE_TEST_SUITE_P(Modes, UringFileTest, ::testing::ValuesIn(all_modes()), mode_name);

constexpr std::size_t memory_bytes = 256 * KiB;

struct Freer {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, Freer>;

Memory aligned_memory(std::size_t bytes) {
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(block_bytes, bytes)));
  for (std::size_t i = 0; i < bytes; ++i) memory.get()[i] = static_cast<std::byte>(i * 31 + i / 256);
  return memory;
}

Operation transfer(OperationCode code, std::int32_t descriptor, std::uint64_t offset, std::byte* data,
                   std::size_t length) {
  Operation operation;
  operation.code = code;
  operation.descriptor = descriptor;
  operation.offset = offset;
  operation.data = data;
  operation.length = static_cast<std::uint32_t>(length);
  return operation;
}

TEST_P(UringFileTest, durable_direct_write_into_an_allocated_file_uses_registered_memory_and_file) {
  Memory memory = aligned_memory(memory_bytes);
  std::size_t registered = kernel_->register_memory({memory.get(), memory_bytes});
  EXPECT_EQ(registered, GetParam().options.registered_memory ? memory_bytes : 0);
  EXPECT_EQ(kernel_->features().registered_bytes, registered);

  std::int32_t file = open_file(path("data"), open_read | open_write | open_create | open_exclusive | open_direct);
  ASSERT_GE(file, 0);
  Operation allocate;
  allocate.code = OperationCode::allocate;
  allocate.descriptor = file;
  allocate.extent = 1 * MiB;
  ASSERT_EQ(run(allocate), 0);
  FileStatus status;
  Operation stat;
  stat.code = OperationCode::stat_file;
  stat.descriptor = file;
  stat.status = &status;
  ASSERT_EQ(run(stat), 0);
  EXPECT_EQ(status.size, 1 * MiB) << "allocate covers the file's size: writes beyond it would punt";
  EXPECT_GE(status.allocated_bytes, 1 * MiB);
  EXPECT_FALSE(status.is_directory);
  EXPECT_GT(status.direct_io_align, 0U);
  EXPECT_LE(status.direct_io_align, block_bytes);

  auto before = counters();
  Operation write = transfer(OperationCode::write, file, 2 * block_bytes, memory.get(), 128 * KiB);
  write.durable = true;
  kernel_->submit(write);
  EXPECT_EQ(counters().enters, before.enters + (uring_ != nullptr ? 1 : 0))
      << "it does not wait for what comes behind it";
  EXPECT_EQ(next(write).result, static_cast<std::int32_t>(128 * KiB));
  std::byte* back = memory.get() + 128 * KiB;
  Operation read = transfer(OperationCode::read, file, block_bytes, back, 64 * KiB);
  EXPECT_EQ(run(read), static_cast<std::int32_t>(64 * KiB));
  EXPECT_TRUE(all_zero({back, block_bytes})) << "allocated and never written reads as zeros";
  EXPECT_EQ(std::memcmp(back + block_bytes, memory.get(), 60 * KiB), 0);
  auto after = counters();
  EXPECT_EQ(after.fixed_transfers - before.fixed_transfers, GetParam().options.registered_memory ? 2U : 0U);
  EXPECT_EQ(after.fixed_files - before.fixed_files, GetParam().options.registered_files ? 2U : 0U);
  EXPECT_EQ(close_descriptor(file), 0);
}

TEST_P(UringFileTest, a_file_says_where_its_extents_end) {
  std::int32_t file = open_file(path("data"), open_read | open_write | open_create);
  ASSERT_GE(file, 0);
  std::vector<std::uint64_t> borders{7};
  Operation map;
  map.code = OperationCode::map_file;
  map.descriptor = file;
  map.extent = 1 * MiB;
  map.borders = &borders;
  const std::int32_t empty = run(map);
  if (empty == -EOPNOTSUPP) GTEST_SKIP() << "this filesystem has no FIEMAP";
  EXPECT_EQ(empty, 0);
  EXPECT_TRUE(borders.empty());
  for (std::uint64_t at : {64 * KiB, 256 * KiB}) {
    Operation allocate;
    allocate.code = OperationCode::allocate;
    allocate.descriptor = file;
    allocate.offset = at;
    allocate.extent = 64 * KiB;
    ASSERT_EQ(run(allocate), 0);
  }
  const std::int32_t count = run(map);
  EXPECT_EQ(count, static_cast<std::int32_t>(borders.size()));
  EXPECT_TRUE(std::is_sorted(borders.begin(), borders.end()));
  EXPECT_TRUE(std::find(borders.begin(), borders.end(), 64 * KiB) != borders.end());
  EXPECT_TRUE(std::find(borders.begin(), borders.end(), 256 * KiB) != borders.end());
  map.offset = 128 * KiB;
  map.extent = 64 * KiB;
  EXPECT_EQ(run(map), 0) << "nothing is there";
  EXPECT_EQ(close_descriptor(file), 0);
}

TEST_P(UringFileTest, memory_beside_the_registered_ranges_is_transferred_plainly) {
  Memory memory = aligned_memory(memory_bytes);
  kernel_->register_memory({memory.get(), 64 * KiB});
  kernel_->register_memory({memory.get() + 128 * KiB, 64 * KiB});
  std::int32_t file = open_file(path("data"), open_read | open_write | open_create | open_direct);
  ASSERT_GE(file, 0);
  auto fixed = [this](Operation operation) {
    auto before = counters().fixed_transfers;
    EXPECT_EQ(run(operation), static_cast<std::int32_t>(operation.length));
    return counters().fixed_transfers - before;
  };
  std::uint64_t expected = GetParam().options.registered_memory ? 1 : 0;
  EXPECT_EQ(fixed(transfer(OperationCode::write, file, 0, memory.get() + 60 * KiB, block_bytes)), expected);
  EXPECT_EQ(fixed(transfer(OperationCode::write, file, 0, memory.get() + 128 * KiB, 64 * KiB)), expected);
  EXPECT_EQ(fixed(transfer(OperationCode::write, file, 0, memory.get() + 60 * KiB, 2 * block_bytes)), 0U);
  EXPECT_EQ(fixed(transfer(OperationCode::write, file, 0, memory.get() + 64 * KiB, block_bytes)), 0U);
  EXPECT_EQ(close_descriptor(file), 0);
}

TEST_P(UringFileTest, short_reads_and_errors_are_reported_as_they_are) {
  EXPECT_EQ(open_file(path("absent"), open_read), -ENOENT);
  std::int32_t file = open_file(path("short"), open_read | open_write | open_create);
  ASSERT_GE(file, 0);
  EXPECT_EQ(open_file(path("short"), open_write | open_create | open_exclusive), -EEXIST);
  Memory memory = aligned_memory(block_bytes);
  Operation write = transfer(OperationCode::write, file, 0, memory.get(), 100);
  EXPECT_EQ(run(write), 100);
  Operation read = transfer(OperationCode::read, file, 40, memory.get(), block_bytes);
  EXPECT_EQ(run(read), 60);
  read.offset = 100;
  EXPECT_EQ(run(read), 0);
  Operation bad = transfer(OperationCode::read, -1, 0, memory.get(), 1);
  EXPECT_EQ(run(bad), -EBADF);
  EXPECT_EQ(close_descriptor(file), 0);
  std::int32_t direct = open_file(path("short"), open_read | open_direct);
  ASSERT_GE(direct, 0);
  Operation unaligned = transfer(OperationCode::read, direct, 1, memory.get(), 100);
  EXPECT_EQ(run(unaligned), -EINVAL);
  EXPECT_EQ(close_descriptor(direct), 0);
  EXPECT_EQ(close_descriptor(direct), -EBADF);
}

TEST_P(UringFileTest, directories_names_and_lengths) {
  std::string inner = path("inner"), a = inner + "/a", b = inner + "/b";
  Operation make;
  make.code = OperationCode::make_directory;
  make.path = inner.c_str();
  make.mode = 0755;
  EXPECT_EQ(run(make), 0);
  EXPECT_EQ(run(make), -EEXIST);
  std::int32_t file = open_file(a, open_write | open_create);
  ASSERT_GE(file, 0);
  Operation truncate;
  truncate.code = OperationCode::truncate;
  truncate.descriptor = file;
  truncate.extent = 12345;
  EXPECT_EQ(run(truncate), 0);
  Operation rename;
  rename.code = OperationCode::rename;
  rename.path = a.c_str();
  rename.path_to = b.c_str();
  EXPECT_EQ(run(rename), 0);
  EXPECT_EQ(run(rename), -ENOENT);
  FileStatus status;
  Operation stat;
  stat.code = OperationCode::stat_file;
  stat.path = b.c_str();
  stat.status = &status;
  EXPECT_EQ(run(stat), 0);
  EXPECT_EQ(status.size, 12345U);
  stat.path = a.c_str();
  EXPECT_EQ(run(stat), -ENOENT);

  std::vector<DirectoryEntry> entries{{"stale", false}};
  Operation list;
  list.code = OperationCode::read_directory;
  list.path = directory_.c_str();
  list.entries = &entries;
  EXPECT_EQ(run(list), 1);
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].name, "inner");
  EXPECT_TRUE(entries[0].is_directory);

  std::int32_t directory = open_file(inner, open_read | open_directory);
  ASSERT_GE(directory, 0);
  Operation sync;
  sync.code = OperationCode::sync;
  sync.descriptor = directory;
  EXPECT_EQ(run(sync), 0);
  EXPECT_EQ(close_descriptor(directory), 0);
  EXPECT_EQ(open_file(b, open_read | open_directory), -ENOTDIR);

  Operation unlink;
  unlink.code = OperationCode::unlink;
  unlink.path = inner.c_str();
  unlink.remove_directory = true;
  EXPECT_EQ(run(unlink), -ENOTEMPTY);
  Operation unlink_file;
  unlink_file.code = OperationCode::unlink;
  unlink_file.path = b.c_str();
  EXPECT_EQ(run(unlink_file), 0);
  EXPECT_EQ(run(unlink), 0);
  EXPECT_EQ(close_descriptor(file), 0);
}

TEST_P(UringFileTest, a_filesystem_says_how_much_is_free) {
  FilesystemStatus filesystem;
  Operation space;
  space.code = OperationCode::stat_filesystem;
  space.path = directory_.c_str();
  space.filesystem = &filesystem;
  EXPECT_EQ(run(space), 0);
  EXPECT_GT(filesystem.total_bytes, filesystem.free_bytes);
  EXPECT_GT(filesystem.free_bytes, 0U);
}

TEST_P(UringFileTest, a_lock_ends_with_its_descriptor_also_when_the_file_was_registered) {
  std::int32_t first = open_file(path("lock"), open_read | open_write | open_create);
  std::int32_t second = open_file(path("lock"), open_read | open_write);
  ASSERT_GE(first, 0);
  ASSERT_GE(second, 0);
  Operation lock;
  lock.code = OperationCode::lock;
  lock.descriptor = first;
  EXPECT_EQ(run(lock), 0);
  lock.descriptor = second;
  EXPECT_EQ(run(lock), -EAGAIN);
  EXPECT_EQ(close_descriptor(first), 0);
  // The system lets go of a closed file soon after, not always at once.
  std::int32_t result = -EAGAIN;
  for (int tries = 0; tries < 100 && result == -EAGAIN; ++tries) {
    result = run(lock);
    if (result != 0) poll(10 * nanos_per_milli);
  }
  EXPECT_EQ(result, 0);
  EXPECT_EQ(close_descriptor(second), 0);
}

TEST_P(UringFileTest, write_zeroes_clears_or_says_that_it_cannot) {
  std::int32_t file = open_file(path("zero"), open_read | open_write | open_create);
  ASSERT_GE(file, 0);
  Memory memory = aligned_memory(4 * block_bytes);
  Operation write = transfer(OperationCode::write, file, 0, memory.get(), 4 * block_bytes);
  ASSERT_EQ(run(write), static_cast<std::int32_t>(4 * block_bytes));
  Operation zero;
  zero.code = OperationCode::write_zeroes;
  zero.descriptor = file;
  zero.extent = 4 * block_bytes;
  std::int32_t result = run(zero);
  Operation read = transfer(OperationCode::read, file, 0, memory.get(), 4 * block_bytes);
  EXPECT_EQ(run(read), static_cast<std::int32_t>(4 * block_bytes));
  EXPECT_TRUE(result == 0 || result == -EOPNOTSUPP) << result;
  EXPECT_EQ(all_zero({memory.get(), 4 * block_bytes}), result == 0);
  EXPECT_EQ(close_descriptor(file), 0);
}

TEST_P(UringFileTest, more_operations_than_the_queues_hold_all_complete_once) {
  constexpr std::size_t count = 10'000;
  std::vector<Operation> nops(count);
  for (Operation& nop : nops) kernel_->submit(nop);
  std::vector<int> seen(count, 0);
  for (std::size_t done = 0; done < count;) {
    std::array<Completion, 7> batch;
    std::size_t got = kernel_->poll(batch, kernel_->now() + nanos_per_second);
    ASSERT_GT(got, 0U);
    for (std::size_t i = 0; i < got; ++i) ++seen[static_cast<std::size_t>(batch[i].operation - nops.data())];
    done += got;
  }
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
  EXPECT_EQ(poll(0), 0U);
}

TEST_P(UringFileTest, more_helper_operations_than_its_queue_holds_all_complete) {
  constexpr std::size_t count = 3 * HelperThread::queue_max;
  std::vector<Operation> stats(count);
  std::vector<FileStatus> found(count);
  for (std::size_t i = 0; i < count; ++i) {
    stats[i].code = OperationCode::stat_file;
    stats[i].path = directory_.c_str();
    stats[i].status = &found[i];
    kernel_->submit(stats[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(next(stats[i]).result, 0);
    EXPECT_TRUE(found[i].is_directory);
  }
}

}  // namespace

}  // namespace millrace::test
