// Verify on a directory made by hand: nothing is found in a good one; every damaged byte of a file that is a source of truth, of
// a complete day's index or of finish is found, in that file; what a crash leaves is not damage.
#include "storage/verify.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "reactor/posix_kernel.hpp"
#include "tests/storage/directory_maker.hpp"

namespace millrace::test {
namespace {

namespace fs = std::filesystem;

struct Findings final : VerifyVisitor {
  std::vector<Damage> damages;
  std::vector<std::string> notes;
  std::uint64_t bytes_done = 0;
  void damage(const Damage& damage) override { damages.push_back(damage); }
  void note(const std::string& text) override { notes.push_back(text); }
  void progress(const VerifyProgress& progress) override {
    EXPECT_GE(progress.bytes_done, bytes_done);
    EXPECT_GE(progress.bytes_total, progress.bytes_done);
    bytes_done = progress.bytes_done;
  }
};

class VerifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "millrace-verify-XXXXXX";
    directory_ = mkdtemp(name.data());
    maker_ = std::make_unique<DirectoryMaker>(directory_);
    maker_->make();
  }
  void TearDown() override { fs::remove_all(directory_); }

  static Task<> keep_result(Reactor& reactor, std::string directory, VerifyVisitor& visitor,
                            std::optional<Result<VerifyReport>>& result) {
    auto verifying = verify_directory(reactor, std::move(directory), {.buffered = true}, visitor);
    result = co_await verifying;
    co_return {};
  }

  Result<VerifyReport> verify() {
    PosixKernel kernel;
    Reactor reactor(kernel);
    found_ = {};
    std::optional<Result<VerifyReport>> result;
    reactor.spawn(keep_result(reactor, directory_.string(), found_, result));
    while (!result) reactor.turn(kernel.now() + 50'000'000);
    return *result;
  }

  void flip(const fs::path& path, std::uint64_t at, unsigned char mask = 1) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(at));
    char byte = static_cast<char>(file.get() ^ mask);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }

  fs::path directory_;
  std::unique_ptr<DirectoryMaker> maker_;
  Findings found_;
};

TEST_F(VerifyTest, AGoodDirectoryHasNoDamage) {
  Result<VerifyReport> report = verify();
  ASSERT_TRUE(report);
  for (const Damage& damage : found_.damages)
    ADD_FAILURE() << damage_name(damage.kind) << " " << damage.file << " " << damage.begin << ": " << damage.what;
  EXPECT_EQ(report->batches, maker_->batches);
  EXPECT_EQ(report->days, 2u);
  EXPECT_EQ(report->days_finished, 1u);
  EXPECT_EQ(report->segments, 3u);
  EXPECT_EQ(report->tail_batches, 1u);
  EXPECT_EQ(report->index_entries, 5u);
  EXPECT_GT(found_.bytes_done, 300u * KiB);
}

class VerifyFlips : public VerifyTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(VerifyFlips, EveryDamagedByteIsFound) {
  fs::path path = maker_->file(GetParam());
  std::mt19937_64 random(7);
  std::uint64_t bytes = fs::file_size(path);
  for (int trial = 0; trial < 60; ++trial) {
    std::uint64_t at = random() % bytes;
    // The rest of an open segment and what stands behind a closed one's content are no content; slots come and go in the tail.
    std::string name = GetParam();
    if (name == "2024-10-04/data000000") at %= bytes - block_bytes;
    if (name == "2024-10-05/data000000") at %= 3 * block_bytes;
    unsigned char mask = static_cast<unsigned char>(1u << random() % 8);
    flip(path, at, mask);
    ASSERT_TRUE(verify());
    EXPECT_FALSE(found_.damages.empty()) << path << " at " << at;
    bool named = false;
    for (const Damage& damage : found_.damages) named |= maker_->file(GetParam()).string().ends_with(damage.file);
    EXPECT_TRUE(named) << path << " at " << at << ": another file was named";
    flip(path, at, mask);
  }
  ASSERT_TRUE(verify());
  EXPECT_TRUE(found_.damages.empty());
}

INSTANTIATE_TEST_SUITE_P(Files, VerifyFlips,
                         ::testing::Values("2024-10-04/data000000", "2024-10-04/data000001", "2024-10-04/index",
                                           "2024-10-04/finish", "2024-10-05/data000000"),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name)
                             if (!isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

TEST_F(VerifyTest, TheExactPlaceIsTold) {
  flip(maker_->file("2024-10-04/data000001"), block_bytes + group_header_bytes + batch_header_bytes + 100);
  ASSERT_TRUE(verify());
  ASSERT_FALSE(found_.damages.empty());
  const Damage& damage = found_.damages.front();
  EXPECT_EQ(damage.kind, DamageKind::lost_batches);
  EXPECT_EQ(damage.file, "shard-00/2024-10-04/data000001");
  EXPECT_EQ(damage.begin, block_bytes + group_header_bytes);
  EXPECT_EQ(damage.stream_name, "alpha");
  EXPECT_EQ(damage.first_offset, Offset{7});
  EXPECT_EQ(damage.end_offset, Offset{47});
  for (const Damage& other : found_.damages) EXPECT_EQ(other.file, damage.file) << "the index is right: " << other.what;
}

TEST_F(VerifyTest, MissingFilesAreFound) {
  fs::rename(maker_->file("2024-10-04/data000001"), maker_->file("2024-10-04/away"));
  ASSERT_TRUE(verify());
  EXPECT_FALSE(found_.damages.empty());
  fs::rename(maker_->file("2024-10-04/away"), maker_->file("2024-10-04/data000001"));
  fs::rename(maker_->file("2024-10-04/index"), maker_->file("2024-10-04/away"));
  ASSERT_TRUE(verify());
  EXPECT_FALSE(found_.damages.empty());
}

TEST_F(VerifyTest, ATornEndIsNotDamage) {
  // A group in flight of which only the second sector arrived.
  std::fstream file(maker_->file("2024-10-05/data000000"), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(3 * block_bytes + 512));
  file << std::string(300, 'x');
  file.close();
  ASSERT_TRUE(verify());
  EXPECT_TRUE(found_.damages.empty());
  EXPECT_FALSE(found_.notes.empty());
}

TEST_F(VerifyTest, WhatStandsBesideTheLogIsCountedAndNoDamage) {
  const fs::path shard = maker_->file("2024-10-04").parent_path();
  fs::create_directories(shard / "pool");
  fs::create_directories(shard / "quarantine");
  auto write = [](const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
  write(shard / "pool/seg-00000000000000000000000000000001", std::string(3 * MiB, '\0'));
  write(shard / "pool/seg-00000000000000000000000000000002",
        std::string(2 * MiB, '\0') + "x" + std::string(4095, '\0'));
  write(shard / "pool/seg-00000000000000000000000000000003.tmp", "not prepared yet");
  write(shard / "quarantine/torn-12-0", std::string(8192, 'q'));
  write(shard / "state", std::string(8 * block_bytes, 's'));
  Result<VerifyReport> report = verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(found_.damages.empty());
  EXPECT_EQ(report->pool_segments, 1u);
  EXPECT_EQ(report->quarantine_files, 1u);
  EXPECT_EQ(report->quarantine_bytes, 8192u);
  EXPECT_EQ(report->state_files, 0u);
  auto noted = [&](std::string_view part) {
    return std::ranges::any_of(found_.notes, [&](const std::string& note) { return note.find(part) != note.npos; });
  };
  EXPECT_TRUE(noted("shard-00/state: neither of its slots verifies"));
  EXPECT_TRUE(noted("seg-00000000000000000000000000000002: byte 2097152 of a prepared segment is not zero"));
  EXPECT_EQ(found_.notes.size(), 2u);
}

TEST_F(VerifyTest, OldDaysMayBeGone) {
  fs::remove_all(maker_->file("2024-10-04"));
  ASSERT_TRUE(verify());
  for (const Damage& damage : found_.damages) ADD_FAILURE() << damage_name(damage.kind) << " " << damage.what;
}

TEST_F(VerifyTest, WithoutNodeMetaThereIsNothingToVerify) {
  fs::remove(directory_ / "node.meta");
  Result<VerifyReport> report = verify();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error(), Error::not_found);
}

}  // namespace
}  // namespace millrace::test
