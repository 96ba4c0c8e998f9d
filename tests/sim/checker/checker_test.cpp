// Every rule of the oracle fires on a directory or history that breaks it and stays quiet on one that does not.
#include "tests/sim/checker/checker.hpp"

#include <gtest/gtest.h>

#include "tests/sim/checker/image_writer.hpp"

namespace millrace::checker {
namespace {

constexpr std::uint32_t day = 20778;  // 2026-11-21

struct Scene {
  ImageWriter writer;
  History history;
  Options options;

  Scene() {
    writer.begin_segment(day, 0);
    ImageWriter::Buffer epoch(32);
    ImageWriter::put(epoch, 0, std::uint64_t{1});
    writer.add_batch(3, 0, 0, epoch, 0, 0);
    writer.add_stream("demo");
    commit({"one", "two"}, 0, 0, 3);
    writer.close_group();
    commit({"three"}, 1, 2, 4);
    writer.close_group();
  }
  /// A batch in the log, its attempt and its acknowledgement.
  void commit(const std::vector<std::string>& payloads, std::uint64_t sequence, std::uint64_t offset,
              std::uint64_t lsn) {
    writer.add_records("demo", payloads, 9, sequence);
    attempt(payloads, sequence);
    history.answers.push_back({history.attempts.size() - 1, 1, 0, offset, lsn, false, 0, 0});
  }
  void attempt(const std::vector<std::string>& payloads, std::uint64_t sequence) {
    Attempt a{9, 1, ImageWriter::id_of("demo"), sequence, {}};
    for (const auto& payload : payloads) a.payload_hashes.push_back(ImageWriter::hash_of(payload));
    history.attempts.push_back(a);
  }
  void read(std::uint64_t offset, std::string_view payload, std::uint64_t reader = 1) {
    history.reads.push_back({ImageWriter::id_of("demo"), offset, ImageWriter::hash_of(payload), offset, day, reader});
  }
  Report check() const { return checker::check(writer.image(), history, options); }
};

std::string promises(const Report& report) {
  std::string text;
  for (const auto& violation : report.violations)
    text += violation.promise + " (" + violation.where + ": " + violation.what + ") ";
  return text;
}
bool breaks(const Report& report, const std::string& promise) {
  for (const auto& violation : report.violations)
    if (violation.promise == promise) return true;
  return false;
}
#define EXPECT_BREAKS(report, promise) EXPECT_TRUE(breaks(report, promise)) << promises(report)

TEST(Checker, a_right_directory_breaks_nothing) {
  Scene scene;
  scene.read(0, "one"), scene.read(1, "two"), scene.read(2, "three");
  Report report = scene.check();
  EXPECT_EQ(promises(report), "");
  EXPECT_EQ(report.records, 3u);
  EXPECT_EQ(report.acknowledged_records, 3u);
}

TEST(Checker, P01_an_acknowledged_batch_that_is_not_there) {
  Scene scene;
  scene.attempt({"four"}, 2);
  scene.history.answers.push_back({2, 1, 0, 3, 5, false, 0, 0});
  Report report = scene.check();
  EXPECT_BREAKS(report, "P01");
  EXPECT_EQ(report.lost_acknowledged_silent, 1u);
}

TEST(Checker, P03_a_batch_nobody_sent) {
  Scene scene;
  scene.writer.add_records("demo", {"ghost"}, 9, 2);
  scene.writer.close_group();
  EXPECT_BREAKS(scene.check(), "P03");
}

TEST(Checker, P03_other_records_than_were_sent) {
  Scene scene;
  scene.history.attempts[1].payload_hashes[0] = 1;
  EXPECT_BREAKS(scene.check(), "P03");
}

TEST(Checker, P04_an_lsn_is_missing) {
  Scene scene;
  ++scene.writer.lsn;
  scene.commit({"four"}, 2, 3, 6);
  scene.writer.close_group();
  EXPECT_FALSE(scene.check().violations.empty());
}

TEST(Checker, P05_and_P08_sequences_out_of_order_and_twice) {
  Scene scene;
  scene.writer.add_records("demo", {"one", "two"}, 9, 0);
  scene.writer.close_group();
  Report report = scene.check();
  EXPECT_BREAKS(report, "P08");
  EXPECT_BREAKS(report, "P05");
}

TEST(Checker, P08_one_attempt_acknowledged_at_two_offsets) {
  Scene scene;
  scene.history.answers.push_back({0, 2, 0, 1, 3, true, 0, 0});
  EXPECT_BREAKS(scene.check(), "P08");
}

TEST(Checker, P07_acknowledgements_out_of_order) {
  Scene scene;
  std::swap(scene.history.answers[0], scene.history.answers[1]);
  EXPECT_BREAKS(scene.check(), "P07");
}

TEST(Checker, P09_a_sequence_is_skipped) {
  Scene scene;
  scene.commit({"five"}, 3, 3, 5);
  scene.writer.close_group();
  EXPECT_BREAKS(scene.check(), "P09");
}

TEST(Checker, P06_a_reader_saw_what_is_not_there_or_other_bytes) {
  Scene scene;
  scene.read(7, "seven");
  EXPECT_BREAKS(scene.check(), "P06");
  Scene other;
  other.read(0, "eins");
  EXPECT_BREAKS(other.check(), "P06");
}

TEST(Checker, P18_a_cursor_skipped_a_record_without_being_told) {
  Scene scene;
  scene.read(0, "one"), scene.read(2, "three");
  EXPECT_BREAKS(scene.check(), "P18");
  scene.history.losses.push_back({ImageWriter::id_of("demo"), 1, 2});
  EXPECT_EQ(promises(scene.check()), "");
}

TEST(Checker, P12_an_older_epoch_after_a_newer_one) {
  Scene scene;
  scene.writer.epoch = 0;
  scene.commit({"four"}, 2, 3, 5);
  scene.writer.close_group();
  EXPECT_BREAKS(scene.check(), "P12");
}

TEST(Checker, P17_bytes_after_the_last_group) {
  Scene scene;
  scene.writer.segment()[scene.writer.end() + 100] = std::byte{1};
  EXPECT_BREAKS(scene.check(), "P17");
  scene.options.torn_end_allowed = true;
  EXPECT_EQ(promises(scene.check()), "");
}

TEST(Checker, P20_reserved_bytes_and_padding) {
  Scene scene;
  scene.writer.damage_next_header = true;
  scene.commit({"four"}, 2, 3, 5);
  scene.writer.close_group();
  EXPECT_BREAKS(scene.check(), "P20");
  Scene padded;
  padded.writer.segment()[padded.writer.end() - 1] = std::byte{1};
  EXPECT_BREAKS(padded.check(), "P20");
}

TEST(Checker, P28_time_falls_and_a_day_is_not_sealed) {
  Scene scene;
  scene.writer.leader_time = 5;
  scene.commit({"four"}, 2, 3, 5);
  scene.writer.close_group();
  EXPECT_BREAKS(scene.check(), "P28");
  Scene unsealed;
  unsealed.writer.begin_segment(day + 1, 0);
  unsealed.commit({"four"}, 2, 3, 5);
  unsealed.writer.close_group();
  EXPECT_BREAKS(unsealed.check(), "P28");
}

TEST(Checker, a_sealed_day_and_the_next_break_nothing_and_ids_restart) {
  Scene scene;
  scene.writer.seal_batches = 4;
  scene.writer.add_seal();
  scene.writer.close_group();
  scene.writer.begin_segment(day + 1, 0);
  scene.commit({"four"}, 2, 3, 6);
  scene.writer.close_group();
  EXPECT_EQ(promises(scene.check()), "");
}

TEST(Checker, P24_a_finish_that_does_not_fit) {
  Scene scene;
  scene.writer.files["shard-00/2026-11-21/finish"].assign(4096, std::byte{0});
  EXPECT_BREAKS(scene.check(), "P24");
}

TEST(Checker, the_tail_goes_on_where_the_segment_ends) {
  Scene scene;
  scene.commit({"four"}, 2, 3, 5);
  scene.writer.close_slot();
  scene.commit({"five"}, 3, 4, 6);
  scene.writer.close_slot();
  Report report = scene.check();
  EXPECT_EQ(promises(report), "");
  EXPECT_EQ(report.records, 5u);
  scene.writer.tail()[4096 + 300] ^= std::byte{1};  // the first slot is damaged: the second is dead
  EXPECT_BREAKS(scene.check(), "P01");
}

TEST(Checker, damage_is_a_violation_unless_reported) {
  Scene scene;
  scene.commit({"four"}, 2, 3, 5);
  scene.writer.close_group();
  scene.writer.segment()[2 * 4096 + 128 + 200] ^= std::byte{1};  // the group that holds "three"
  EXPECT_BREAKS(scene.check(), "P01");
  scene.options.damage_expected = scene.history.damage_injected = true;
  EXPECT_BREAKS(scene.check(), "P18");
  scene.history.losses.push_back({ImageWriter::id_of("demo"), 2, 3});
  Report report = scene.check();
  EXPECT_EQ(promises(report), "");
  EXPECT_EQ(report.lost_acknowledged_reported, 1u);
}

TEST(Checker, P18_what_retention_is_said_to_have_taken_is_gone) {
  Scene scene;
  scene.history.losses.push_back({ImageWriter::id_of("demo"), 0, 2, true});
  EXPECT_BREAKS(scene.check(), "P18");
  // And nobody is told of damage by it.
  scene.history.losses.clear();
  scene.writer.segment()[2 * 4096 + 128 + 200] ^= std::byte{1};
  scene.options.damage_expected = scene.history.damage_injected = true;
  scene.history.losses.push_back({ImageWriter::id_of("demo"), 2, 3, true});
  EXPECT_BREAKS(scene.check(), "P18");
}

TEST(Checker, P23_compare_finds_the_first_difference) {
  Scene left, right;
  EXPECT_FALSE(compare(left.writer.image(), right.writer.image(), "P23"));
  right.writer.segment()[5000] ^= std::byte{1};
  auto difference = compare(left.writer.image(), right.writer.image(), "P23");
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->where, "shard-00/2026-11-21/data000000 @1388");
}

// A scene whose second batch was sent after a commit write failed at 10 s; the server's life ends at 90 s.
struct FailureScene : Scene {
  static constexpr std::int64_t second = 1'000'000'000;
  explicit FailureScene(bool new_epoch) {
    history.failed_commits = {{0, 10 * second}};
    history.ends = {90 * second};
    history.answers.back().at = 5 * second;
    if (new_epoch) epoch(2);
    after("four", 2, 3, new_epoch ? 6 : 5, 11 * second);
  }
  void epoch(std::uint64_t number) {
    ImageWriter::Buffer body(32);
    ImageWriter::put(body, 0, number);
    writer.epoch = number;
    writer.add_batch(3, 0, 0, body, 0, 0);
  }
  void after(const std::string& payload, std::uint64_t sequence, std::uint64_t offset, std::uint64_t lsn,
             std::int64_t sent) {
    commit({payload}, sequence, offset, lsn);
    writer.close_group();
    history.attempts.back().sent_at = sent;
    history.answers.back().at = sent + second;
  }
};

TEST(Checker, P19_an_acknowledgement_after_a_failed_write_needs_a_new_epoch) {
  EXPECT_EQ(promises(FailureScene(true).check()), "");
  EXPECT_BREAKS(FailureScene(false).check(), "P19");
  FailureScene other(false);
  other.history.failed_commits[0].shard = 1;
  EXPECT_EQ(promises(other.check()), "");
}

TEST(Checker, P19_nothing_is_acknowledged_after_a_second_failure) {
  FailureScene scene(true);
  scene.history.failed_commits.push_back({0, 20 * scene.second});
  scene.epoch(3);
  EXPECT_EQ(promises(scene.check()), "");
  scene.after("five", 3, 4, 8, 21 * scene.second);
  EXPECT_BREAKS(scene.check(), "P19");
  scene.history.ends = {20 * scene.second + 1, 90 * scene.second};  // another life may
  EXPECT_EQ(promises(scene.check()), "");
}

TEST(Checker, P22_want_of_space_closes_no_shard_and_ends_with_it) {
  FailureScene scene(true);
  const std::size_t attempt = scene.history.attempts.size() - 1;
  scene.history.answers.push_back({attempt, 1, 206, 0, 0, false, 0, 0, 12 * scene.second});
  EXPECT_EQ(promises(scene.check()), "");
  scene.history.failed_commits.clear();
  EXPECT_BREAKS(scene.check(), "P22");
  scene.history.answers.back().error = 3;
  EXPECT_BREAKS(scene.check(), "P22");
  scene.history.short_of_space = {{6 * scene.second, 8 * scene.second}};
  EXPECT_EQ(promises(scene.check()), "");
  scene.history.answers.back().at = 40 * scene.second;
  EXPECT_BREAKS(scene.check(), "P22");
}

}  // namespace
}  // namespace millrace::checker
