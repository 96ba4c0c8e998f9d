// Every file operation of one script of a log's life, one run each: it fails, or the machine ends with it. Whatever happens,
// the next life opens, holds everything the log had called durable, and nothing else than what was appended. The number of
// runs is the number of operations; MILLRACE_LONG takes every one of them and every way to end, ./check a part.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>

#include "base/time.hpp"
#include "tests/sim/checker/checker.hpp"
#include "tests/storage/log_script.hpp"

namespace millrace::test {
namespace {

using sim::CutProfile;
using sim::SimNode;

constexpr int script_batches = 24;

bool long_run() { return std::getenv("MILLRACE_LONG") != nullptr; }

std::string all_of(const ScriptBook& book) {
  std::string text;
  for (const std::string& wrong : book.wrong) text += wrong + "\n";
  return text;
}

ScriptLife life_of(ScriptBook& book, int batches, bool check) {
  ScriptLife life;
  life.options = script_options();
  life.book = &book;
  life.batches = batches;
  life.check = check;
  return life;
}

/// A life without misfortune after whatever happened: it opens, and everything is there.
void expect_whole(ScriptWorld& machine, ScriptBook& book, const std::string& after) {
  machine.world.before_file_operation = nullptr;
  machine.world.faults().set_calm(true);
  machine.world.run_for(5 * nanos_per_second);  // until the lock of a killed process is free
  ScriptLife last = life_of(book, 2, true);
  ASSERT_TRUE(machine.run(last)) << after << ": the next life hangs: " << last.report.step;
  ASSERT_TRUE(last.opened) << after << ": the next life is refused: " << last.report.diagnosis;
  ASSERT_TRUE(last.ended) << after;
  ASSERT_EQ(last.report.lost_batches, 0u) << after << ": a crash was taken for damage: " << last.report.verdict;
  ASSERT_EQ(book.wrong.size(), 0u) << after << ":\n" << all_of(book);
  ASSERT_EQ(machine.world.livelock(), "") << after;
}

/// Lives without misfortune.
void live(ScriptWorld& machine, ScriptBook& book, int lives) {
  for (int i = 0; i < lives; ++i) {
    ScriptLife life = life_of(book, script_batches, false);
    ASSERT_TRUE(machine.run(life));
  }
}

/// How many file operations the script has without misfortune, after `before` lives.
std::uint64_t count_operations(int lives_before) {
  ScriptWorld machine(1);
  ScriptBook book;
  live(machine, book, lives_before);
  std::uint64_t operations = 0;
  machine.world.before_file_operation = [&](SimNode&, const Operation&) { return ++operations, 0; };
  ScriptLife life = life_of(book, script_batches, false);
  EXPECT_TRUE(machine.run(life));
  EXPECT_TRUE(life.ended);
  EXPECT_EQ(book.durable, static_cast<std::uint64_t>(script_batches * (lives_before + 1)));
  return operations;
}

std::string text_of(const Operation& operation) {
  return "code " + std::to_string(static_cast<int>(operation.code)) + " at " + std::to_string(operation.offset) + "+" +
         std::to_string(operation.length) + (operation.durable ? " durable " : " ") +
         (operation.path != nullptr ? operation.path : "");
}

enum class Persistence { once, from_then_on };

/// The nth operation of a life fails with `error`; the others do what they should (or fail as well).
void fail_at(std::uint64_t n, int error, Persistence persistence, int lives_before) {
  ScriptWorld machine(1);
  ScriptBook book;
  live(machine, book, lives_before);
  std::uint64_t count = 0;
  std::string what;
  machine.world.before_file_operation = [&](SimNode&, const Operation& operation) {
    ++count;
    if (persistence == Persistence::once ? count != n : count < n) return 0;
    // Closing, reading directories and locking do not fail so, and space is only missing where some is taken.
    bool takes_space = operation.code == OperationCode::write || operation.code == OperationCode::allocate ||
                       operation.code == OperationCode::write_zeroes || operation.code == OperationCode::make_directory;
    if (error == ENOSPC && !takes_space) return 0;
    if (what.empty()) what = text_of(operation);
    return error;
  };
  ScriptLife life = life_of(book, script_batches, false);
  const std::string name = "operation " + std::to_string(n) + " failed with " + std::to_string(error);
  ASSERT_TRUE(machine.run(life)) << name << " (" << what << "): the life hangs: " << life.report.step;
  expect_whole(machine, book, name + " (" + what + ")");
}

void fail_each(int lives_before) {
  const std::uint64_t operations = count_operations(lives_before);
  ASSERT_GT(operations, 100u);
  const std::uint64_t stride = long_run() ? 1 : 20;
  std::uint64_t runs = 0;
  for (std::uint64_t n = 1; n <= operations && !testing::Test::HasFailure(); ++n) {
    if (n % stride == 0 || long_run()) fail_at(n, EIO, Persistence::once, lives_before), ++runs;
    if (n % stride == 1 || long_run()) fail_at(n, ENOSPC, Persistence::once, lives_before), ++runs;
    if (n % stride == 2 || long_run()) fail_at(n, EIO, Persistence::from_then_on, lives_before), ++runs;
    if (n % stride == 3 || long_run()) fail_at(n, ENOSPC, Persistence::from_then_on, lives_before), ++runs;
  }
  std::printf("%lu operations, %lu runs\n", operations, runs);
}

TEST(NthOperation, FailsInTheFirstLife) { fail_each(0); }
TEST(NthOperation, FailsInALaterLife) { fail_each(1); }

/// The machine ends with the nth operation of a life: the process alone, or with the power.
void end_at(ScriptWorld& machine, ScriptLife& life, std::uint64_t n, int way) {
  std::uint64_t count = 0;
  sim::SimProcess* process = nullptr;
  machine.world.before_file_operation = [&](SimNode& node, const Operation&) {
    if (++count == n)
      machine.world.after(0, [&machine, &node, &process, way] {
        if (!process->running()) return;
        if (way == 0) machine.world.kill(*process);
        else machine.world.power_cut(node, static_cast<CutProfile>(way - 1));
      });
    return 0;
  };
  process = &machine.start(life);
  machine.world.run_until([&] { return !process->running(); }, 600 * nanos_per_second);
  machine.world.before_file_operation = nullptr;
}
constexpr int ways_to_end = 1 + static_cast<int>(sim::cut_profiles);

void end_each(int lives_before) {
  const std::uint64_t operations = count_operations(lives_before);
  std::uint64_t runs = 0;
  for (std::uint64_t n = 1; n <= operations && !testing::Test::HasFailure(); ++n) {
    for (int way = 0; way < ways_to_end && !testing::Test::HasFailure(); ++way) {
      if (!long_run() && (n % 4 != 0 || static_cast<std::uint64_t>(way) != n / 4 % ways_to_end)) continue;
      ScriptWorld machine(1);
      ScriptBook book;
      live(machine, book, lives_before);
      ScriptLife life = life_of(book, script_batches, false);
      end_at(machine, life, n, way);
      expect_whole(machine, book, "ended at operation " + std::to_string(n) + " in way " + std::to_string(way));
      ++runs;
    }
  }
  std::printf("%lu operations, %lu ends\n", operations, runs);
}

TEST(NthOperation, IsTheLastOfTheFirstLife) { end_each(0); }
TEST(NthOperation, IsTheLastOfALaterLife) { end_each(1); }

/// What a log holds, whatever the epochs that stand around it: every batch with its place and its bytes.
std::vector<std::string> content_of(const sim::DirectoryImage& whole) {
  checker::Image image;
  for (const auto& [path, bytes] : whole)
    if (path.starts_with("data/") && !path.ends_with("/")) image.emplace(path.substr(5), bytes);
  std::vector<std::string> content;
  checker::ParsedLog log = checker::parse(image, {});
  for (const auto& violation : log.violations)
    content.push_back(violation.promise + " " + violation.where + ": " + violation.what);
  for (const checker::Batch& batch : log.batches) {
    if (batch.kind == 3) continue;             // epoch batches tell of openings
    const bool tells_epoch = batch.kind == 4;  // a seal names the epoch it was written in
    content.push_back(std::to_string(batch.lsn) + " " + std::to_string(batch.day) + "/" +
                      std::to_string(batch.segment) + " @" + std::to_string(batch.position) + " " +
                      std::to_string(batch.stream) + " " + std::to_string(batch.first_offset) + " " +
                      (tells_epoch ? "seal" : std::to_string(batch.body_hash[0])));
  }
  return content;
}

/// The bytes of the log's own files. node.meta holds the epoch, which every opening takes anew, and the tail a durable end
/// that every life states again.
sim::DirectoryImage log_files(const sim::DirectoryImage& whole) {
  sim::DirectoryImage files;
  for (const auto& [path, bytes] : whole)
    if (path.find("/data0") != std::string::npos || path.ends_with("/finish")) files.emplace(path, bytes);
  return files;
}

sim::DirectoryImage image_after_opening(ScriptWorld& machine, ScriptBook& book) {
  machine.world.run_for(5 * nanos_per_second);
  ScriptLife life = life_of(book, 0, false);
  EXPECT_TRUE(machine.run(life));
  EXPECT_TRUE(life.opened && life.ended) << life.report.diagnosis;
  return machine.node.disk.image();
}

/// A crash, then recovery: once more over what it left changes nothing; and a recovery that is itself cut off at any of its
/// operations leads to the same batches at the same places.
TEST(NthOperation, RecoveryOfWhatRecoveryLeftChangesNothing) {
  const std::uint64_t operations = count_operations(0);
  const std::uint64_t crash_stride = long_run() ? 3 : 16;
  const std::uint64_t nested_stride = long_run() ? 1 : 7;
  std::uint64_t crashes = 0;
  std::uint64_t nested = 0;
  for (std::uint64_t n = operations / 4; n <= operations && !HasFailure(); n += crash_stride) {
    ScriptWorld machine(n);
    ScriptBook book;
    ScriptLife life = life_of(book, script_batches, false);
    end_at(machine, life, n, 1 + static_cast<int>(n % sim::cut_profiles));
    const sim::DirectoryImage crashed = machine.node.disk.image();
    const auto first = image_after_opening(machine, book);
    const auto second = image_after_opening(machine, book);
    ASSERT_TRUE(log_files(first) == log_files(second)) << "crash at " << n << ": the second recovery changed bytes";
    const auto content = content_of(first);
    ++crashes;
    for (std::uint64_t inner = 1; !HasFailure(); inner += nested_stride) {
      ScriptWorld again(n + inner);
      again.node.disk.load(crashed);
      again.node.wall_offset = machine.node.wall_offset;
      ScriptBook none;
      ScriptLife cut = life_of(none, 0, false);
      end_at(again, cut, inner, 1 + static_cast<int>((n + inner) % sim::cut_profiles));
      const auto recovered = image_after_opening(again, none);
      ASSERT_EQ(content_of(recovered), content) << "crash at " << n << ", recovery cut off at " << inner;
      ++nested;
      if (cut.ended) break;
    }
  }
  std::printf("%lu crashes, %lu recoveries cut off\n", crashes, nested);
  EXPECT_GE(crashes, 5u);
  EXPECT_GT(nested, crashes);
}

/// A crash between the naming of a spare and the first write to the segment before it leaves two empty segments named. When
/// the day ends before either is begun, both leave, and no opening finds one missing.
TEST(NamedAhead, TwoEmptySegmentsLeaveADayThatEnds) {
  ScriptWorld machine(1);
  ScriptBook book;
  ScriptLife life = life_of(book, 4, false);
  ASSERT_TRUE(machine.run(life));
  sim::DirectoryImage crashed = machine.node.disk.image();
  const std::string day = "data/shard-00/2026-11-21/";
  const std::vector<std::byte> zeros(script_options().segment_bytes);
  for (const char* name : {"data000001", "data000002"}) crashed[day + name] = zeros;

  ScriptWorld next_day(2);
  next_day.node.disk.load(crashed);
  next_day.node.wall_offset = machine.node.wall_offset + nanos_per_day;
  const auto first = image_after_opening(next_day, book);
  EXPECT_TRUE(first.contains(day + "finish"));
  EXPECT_FALSE(first.contains(day + "data000001"));
  EXPECT_FALSE(first.contains(day + "data000002"));
  expect_whole(next_day, book, "two named ahead");
}

/// The simulated disk has a border between extents every 577 blocks. What is committed across one goes out in pieces.
TEST(Borders, NoDurableWriteGoesAcrossOne) {
  constexpr std::uint64_t apart = 577 * block_bytes;
  ScriptWorld machine(1);
  ScriptBook book;
  std::uint64_t at_border = 0;
  std::uint64_t across = 0;
  machine.world.before_file_operation = [&](SimNode&, const Operation& operation) {
    if (operation.code != OperationCode::write || !operation.durable) return 0;
    at_border += operation.offset > 0 && operation.offset % apart == 0;
    across += operation.offset / apart != (operation.offset + operation.length - 1) / apart;
    return 0;
  };
  ScriptLife life = life_of(book, script_batches, false);
  ASSERT_TRUE(machine.run(life));
  ASSERT_TRUE(life.ended);
  EXPECT_EQ(across, 0u);
  EXPECT_GE(at_border, 6u);  // three batches of 7 MB, a border every 2.4
  EXPECT_EQ(book.durable, static_cast<std::uint64_t>(script_batches));
  expect_whole(machine, book, "writes in pieces");
}

}  // namespace
}  // namespace millrace::test
