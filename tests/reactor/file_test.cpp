#include "reactor/file.hpp"

#include <cstring>

#include "reactor/io_buffers.hpp"
#include "tests/reactor/run_task.hpp"
#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

class FileTest : public UringTest {
 protected:
  void SetUp() override {
    UringTest::SetUp();
    reactor_ = std::make_unique<Reactor>(*kernel_);
  }
  void TearDown() override {
    EXPECT_TRUE(settle(*reactor_));
    reactor_.reset();
    UringTest::TearDown();
  }
  File open(const char* name, unsigned flags) {
    auto file = run_task(*reactor_, File::open(*reactor_, path(name), flags));
    EXPECT_TRUE(file);
    return file ? std::move(*file) : File();
  }

  std::unique_ptr<Reactor> reactor_;
};

INSTANTIATE_TEST_SUITE_P(Modes, FileTest, ::testing::ValuesIn(all_modes()), mode_name);

constexpr std::array buffer_classes{IoBufferClass{"staging", 64 * KiB, 2}, IoBufferClass{"read", block_bytes, 3}};

TEST_P(FileTest, durable_writes_come_back_from_registered_buffers) {
  IoBuffers buffers(*kernel_, buffer_classes);
  EXPECT_EQ(buffers.registered_bytes(), GetParam().options.registered_memory ? buffers.total_bytes() : 0);
  IoBuffer out = buffers.take(0);
  IoBuffer in = buffers.take(0);
  ASSERT_TRUE(out && in);
  for (std::size_t i = 0; i < out.bytes().size(); ++i) out.bytes()[i] = static_cast<std::byte>(i * 7 + i / 4096);
  File file = open("log", open_read | open_write | open_create | open_direct);
  ASSERT_TRUE(run_task(*reactor_, file.allocate(0, 1 * MiB)));
  auto before = counters().fixed_transfers;
  ASSERT_TRUE(run_task(*reactor_, file.write_exact(128 * KiB, out.bytes(), true)));
  ASSERT_TRUE(run_task(*reactor_, file.read_exact(128 * KiB, in.bytes())));
  EXPECT_EQ(std::memcmp(in.bytes().data(), out.bytes().data(), in.bytes().size()), 0);
  EXPECT_EQ(counters().fixed_transfers - before, GetParam().options.registered_memory ? 2U : 0U);
  auto status = run_task(*reactor_, file.status());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->size, 1 * MiB);
  EXPECT_TRUE(run_task(*reactor_, file.sync(true)));
  EXPECT_TRUE(run_task(*reactor_, file.truncate(100 * KiB)));
  auto got = run_task(*reactor_, file.read(64 * KiB, in.bytes()));
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 36 * KiB) << "the file ends there";
  auto exact = run_task(*reactor_, file.read_exact(64 * KiB, in.bytes()));
  ASSERT_FALSE(exact);
  EXPECT_EQ(exact.error(), Error::out_of_range);
  EXPECT_TRUE(run_task(*reactor_, file.close()));
  EXPECT_FALSE(file.is_open());
  const FileTraffic& files = reactor_->stats().files;
  EXPECT_EQ(files.durable_writes, files.writes);
  EXPECT_EQ(files.written_bytes, out.bytes().size());
  EXPECT_EQ(files.read_bytes, in.bytes().size() + 2 * 36 * KiB);
  EXPECT_EQ(files.syncs, 1U);
  EXPECT_EQ(files.zeroed_bytes, 0U);
}

TEST_P(FileTest, an_unaligned_end_is_read_to_the_last_byte) {
  IoBuffers buffers(*kernel_, buffer_classes);
  std::string text(5000, 'x');
  File plain = open("odd", open_write | open_create);
  ASSERT_TRUE(run_task(*reactor_, plain.write_exact(0, bytes_of(text), false)));
  ASSERT_TRUE(run_task(*reactor_, plain.close()));
  File direct = open("odd", open_read | open_direct);
  IoBuffer in = buffers.take(0);
  auto got = run_task(*reactor_, direct.read(0, in.bytes()));
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 5000U);
  EXPECT_EQ(reactor_->stats().files.reads, 1U) << "the file's size says that this is the end, not a second read";
  got = run_task(*reactor_, direct.read(8192, in.bytes()));
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 0U);
}

TEST_P(FileTest, a_dropped_file_lets_its_lock_go) {
  File first = open("lock", open_read | open_write | open_create);
  ASSERT_TRUE(run_task(*reactor_, first.lock()));
  File second = open("lock", open_read | open_write);
  auto refused = run_task(*reactor_, second.lock());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Error::locked);
  first = File();
  ASSERT_TRUE(settle(*reactor_));
  Result<> locked = fail(Error::locked);
  for (int tries = 0; tries < 100 && !locked; ++tries) {
    locked = run_task(*reactor_, second.lock());
    reactor_->turn(kernel_->now() + 5 * nanos_per_milli);
  }
  EXPECT_TRUE(locked);
}

TEST_P(FileTest, directories) {
  std::string inner = path("inner");
  EXPECT_TRUE(run_task(*reactor_, Directory::make(*reactor_, inner)));
  auto again = run_task(*reactor_, Directory::make(*reactor_, inner));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), Error::already_exists);
  for (const char* name : {"inner/b", "inner/a", "inner/c"}) open(name, open_write | open_create);
  EXPECT_TRUE(run_task(*reactor_, Directory::sync(*reactor_, inner)));
  EXPECT_TRUE(run_task(*reactor_, Directory::rename_file(*reactor_, path("inner/b"), path("inner/d"))));
  EXPECT_TRUE(run_task(*reactor_, Directory::remove_file(*reactor_, path("inner/c"))));
  auto entries = run_task(*reactor_, Directory::list(*reactor_, inner));
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].name, "d");
  auto status = run_task(*reactor_, Directory::status_of(*reactor_, inner));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->is_directory);
  auto filesystem = run_task(*reactor_, Directory::filesystem_of(*reactor_, inner));
  ASSERT_TRUE(filesystem);
  EXPECT_GT(filesystem->free_bytes, 0U);
  auto full = run_task(*reactor_, Directory::remove(*reactor_, inner));
  ASSERT_FALSE(full);
  auto absent = run_task(*reactor_, Directory::list(*reactor_, path("absent")));
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error(), Error::not_found);
}

TEST_P(FileTest, buffers_are_lent_back_and_refused) {
  IoBuffers buffers(*kernel_, buffer_classes);
  EXPECT_EQ(buffers.available(1), 3U);
  IoBuffer a = buffers.take(1), b = buffers.take(1), c = buffers.take(1);
  ASSERT_TRUE(a && b && c);
  EXPECT_NE(a.bytes().data(), b.bytes().data());
  EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(a.bytes().data()), block_bytes));
  EXPECT_FALSE(buffers.take(1));
  EXPECT_EQ(buffers.refusals(), 1U);
  EXPECT_TRUE(buffers.take(0)) << "another size is another matter";
  std::byte* memory = b.bytes().data();
  b.give_back();
  EXPECT_FALSE(b);
  IoBuffer again = buffers.take(1);
  EXPECT_EQ(again.bytes().data(), memory);
  IoBuffer moved = std::move(again);
  EXPECT_EQ(buffers.available(1), 0U);
}

}  // namespace

}  // namespace millrace::test
