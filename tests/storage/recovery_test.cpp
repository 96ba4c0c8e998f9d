// Recovery against a model that remembers: a pure crash is never refused and costs nothing durable (P01, P17), damage to what
// is known to be durable is never cut (P18), the same answer comes half-way through what recovery itself asks for (P23).
#include "storage/recovery.hpp"

#include <gtest/gtest.h>

#include <cstdio>

#include "tests/storage/log_model.hpp"

namespace millrace::test {
namespace {

constexpr double persisted_choices[] = {0, 0.05, 0.3, 0.5, 0.8, 0.95, 1};

struct CrashTally {
  std::uint64_t crashes = 0, in_flight = 0, refused = 0, lost = 0, invented = 0, changed = 0;
  RecoveryCounts rows;
};

/// Everything that is visited is what was appended, from 1 on, without a gap.
bool same_as_model(const Recovered& found, const LogModel& model) {
  std::uint64_t lsn = 1;
  for (const auto& [at, bytes] : found.batches) {
    if (at != lsn++) return false;
    auto known = model.batches().find(at);
    if (known == model.batches().end() || known->second != bytes) return false;
  }
  return found.in_order && found.verdict.next_lsn.value == lsn;
}

bool same_answer(const Recovered& a, const Recovered& b) {
  return a.batches == b.batches && a.verdict.next_lsn == b.verdict.next_lsn && a.verdict.damaged == b.verdict.damaged &&
         (a.batches.empty() || a.verdict.chain == b.verdict.chain);
}

/// Crashes inside what the verdict asks for, after each prefix of its writes; then does it all.
void apply_with_crashes(LogModel& model, Image& image, const Recovered& first, CrashTally& tally) {
  std::vector<Write> writes = writes_of(first.verdict, Epoch{model.led().back().last.next()});
  std::vector<EpochRange> led = model.led();
  led.back().last = led.back().last.next();
  for (std::size_t done = 0; done <= writes.size(); ++done) {
    Image torn = image;
    apply_whole({writes.begin(), writes.begin() + static_cast<long>(done)}, torn);
    if (done < writes.size()) apply_torn(writes[done], torn, persisted_choices[model.random()() % 7], model.random());
    RecoveryInput input = model.input(torn);
    input.epochs_led = led;
    Recovered again(input, torn.segment);
    ++tally.crashes;
    if (!same_answer(first, again)) ++tally.changed;
    tally.rows.add(again.verdict.row);
    if (done == writes.size()) {
      bool clean = again.verdict.row == RecoveryRow::clean_end || again.verdict.row == RecoveryRow::clean_empty;
      if (!clean) ++tally.changed;
    }
  }
  apply_whole(writes, image);
}

TEST(Recovery, P17_PureCrashIsNeverRefusedAndCostsNothing) {
  CrashTally tally;
  for (std::uint64_t seed = 1; seed <= 700; ++seed) {
    LogModel model(seed);
    for (int life = 0; life < 3; ++life) {
      model.random_steps(20 + seed % 60);
      Image image = model.crash(persisted_choices[model.random()() % 7]);
      ++tally.crashes;
      tally.in_flight += model.in_flight() > 0;
      Recovered found(model.input(image), image.segment, (1 + model.random()() % 64) * block_bytes);
      tally.rows.add(found.verdict.row);
      if (found.verdict.refused || found.verdict.damaged) ++tally.refused;
      if (found.verdict.next_lsn < model.durable()) ++tally.lost;
      if (!same_as_model(found, model)) ++tally.invented;
      ASSERT_EQ(tally.refused + tally.lost + tally.invented, 0u)
          << "seed " << seed << " life " << life << " row " << recovery_row_name(found.verdict.row) << " next "
          << found.verdict.next_lsn.value << " durable " << model.durable().value << " visited "
          << found.batches.size();
      apply_with_crashes(model, image, found, tally);
      ASSERT_EQ(tally.changed, 0u) << "seed " << seed << " life " << life << " row "
                                   << recovery_row_name(found.verdict.row);
      model.reopen(image, found.verdict);
    }
  }
  std::printf(
      "pure crashes %llu (%llu of 2100 lives with writes in flight): refused %llu, durable batches lost %llu, "
      "invented %llu, changed by a crash in recovery %llu (each at most %.4f %% at 95 %%)\n",
      static_cast<unsigned long long>(tally.crashes), static_cast<unsigned long long>(tally.in_flight),
      static_cast<unsigned long long>(tally.refused), static_cast<unsigned long long>(tally.lost),
      static_cast<unsigned long long>(tally.invented), static_cast<unsigned long long>(tally.changed),
      300.0 / static_cast<double>(tally.crashes));
  for (RecoveryRow row : {RecoveryRow::clean_empty, RecoveryRow::clean_end, RecoveryRow::tail_extends,
                          RecoveryRow::torn_cut, RecoveryRow::tail_then_cut, RecoveryRow::torn_header}) {
    std::printf("  %-16s %llu\n", std::string(recovery_row_name(row)).c_str(),
                static_cast<unsigned long long>(tally.rows.of(row)));
    EXPECT_GT(tally.rows.of(row), 20u) << recovery_row_name(row) << ": the model does not reach this row";
  }
}

/// Where a batch stands in the segment, or 0.
std::uint64_t place_of(const Image& image, const std::vector<std::byte>& batch) {
  for (std::size_t at = block_bytes + group_header_bytes; at + batch.size() <= image.segment.size(); at += batch_align)
    if (std::equal(batch.begin(), batch.end(), image.segment.begin() + static_cast<long>(at))) return at;
  return 0;
}

struct DamageTally {
  std::uint64_t trials = 0, known = 0, cut_though_known = 0, collateral = 0, unexplained_seen = 0, residual = 0;
  RecoveryCounts rows;
};

/// Opening does what the verdict asks for and closes the segment: whoever reads it later finds the same batches.
void expect_same_when_closed(const LogModel& model, Image image, const Recovered& found) {
  const Verdict& verdict = found.verdict;
  std::map<std::uint64_t, std::vector<std::byte>> kept = found.batches;
  apply_whole(writes_of(verdict, model.led().back().last.next()), image);
  RecoveryInput closed = model.input(image);
  closed.tail = {};
  closed.expected_end = SegmentEnd{verdict.segment_id, verdict.content_end, verdict.chain, verdict.next_lsn};
  Recovered later(closed, image.segment);
  EXPECT_TRUE(later.batches == kept) << recovery_row_name(verdict.row) << " then "
                                     << recovery_row_name(later.verdict.row);
  EXPECT_EQ(later.verdict.next_lsn, verdict.next_lsn);
  EXPECT_EQ(later.verdict.chain, verdict.chain);
}

/// One batch, durable and in the segment, is damaged by a flipped bit or a sector of zeros.
void damage_one(LogModel& model, DamageTally& tally) {
  Image image = model.crash(0.5);
  Recovered before(model.input(image), image.segment);
  if (model.durable().value < 2) return;
  std::uint64_t lsn = 1 + model.random()() % (model.durable().value - 1);
  const std::vector<std::byte>& batch = model.batches().at(lsn);
  std::uint64_t at = place_of(image, batch);
  if (at == 0) return;
  std::uint64_t bit = model.random()() % (batch.size() * 8);
  if (batch[bit / 8] == std::byte{0} && bit / 8 >= batch.size() - batch_align)
    return;  // padding belongs to nobody's hash
  if (model.random()() % 4 != 0) {
    image.segment[at + bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  } else {
    std::size_t whole = align_down(at + bit / 8, sector);
    if (whole < align_down(at, sector) + sector && at % block_bytes < sector + group_header_bytes)
      return;  // a group header
    if (all_zero(Bytes(image.segment).subspan(whole, sector))) return;
    std::fill_n(image.segment.begin() + static_cast<long>(whole), sector, std::byte{0});
  }
  Recovered after(model.input(image), image.segment, (1 + model.random()() % 64) * block_bytes);
  ++tally.trials;
  tally.rows.add(after.verdict.row);
  bool repaired = after.batches.contains(lsn);  // by what the tail still holds
  EXPECT_TRUE(!repaired || after.batches.at(lsn) == batch);
  EXPECT_TRUE(after.in_order);
  if (lsn < before.verdict.durable_known.value) {
    ++tally.known;
    if (!repaired && !after.verdict.damaged) ++tally.cut_though_known;
    // What does not share a sector with the damage still serves.
    for (std::uint64_t other = 1; other < before.verdict.durable_known.value; ++other) {
      if (after.batches.contains(other) || other == lsn) continue;
      std::uint64_t there = place_of(image, model.batches().at(other));
      if (there != 0 && after.verdict.tail_groups.empty()) ++tally.collateral;
    }
  } else if (!repaired) {
    after.verdict.damaged ? ++tally.unexplained_seen : ++tally.residual;
  }
  if (after.verdict.damaged) {
    EXPECT_GE(after.verdict.next_lsn, before.verdict.durable_known);
    if (after.verdict.tail_groups.empty()) {
      EXPECT_EQ(after.verdict.cut_begin, after.verdict.cut_end);
    }
    if (!repaired) {
      bool told = after.verdict.lost_first.value <= lsn && lsn < after.verdict.lost_end.value;
      EXPECT_TRUE(told) << "lsn " << lsn << " row " << recovery_row_name(after.verdict.row);
    }
    expect_same_when_closed(model, std::move(image), after);
  }
}

TEST(Recovery, P18_DamageToKnownDurableBytesIsNeverCut) {
  DamageTally tally;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    LogModel model(seed);
    model.random_steps(60 + seed % 80);
    if (seed % 3 == 0) model.complete_all();
    damage_one(model, tally);
    ASSERT_EQ(tally.cut_though_known, 0u) << "seed " << seed;
    ASSERT_EQ(tally.collateral, 0u) << "seed " << seed;
    if (HasFailure()) FAIL() << "seed " << seed;
  }
  std::printf(
      "damaged durable batches %llu: known durable %llu, cut silently %llu, others lost with them %llu; newer than the "
      "last durable end recorded: noticed %llu, silently cut %llu\n",
      static_cast<unsigned long long>(tally.trials), static_cast<unsigned long long>(tally.known),
      static_cast<unsigned long long>(tally.cut_though_known), static_cast<unsigned long long>(tally.collateral),
      static_cast<unsigned long long>(tally.unexplained_seen), static_cast<unsigned long long>(tally.residual));
  EXPECT_GT(tally.known, 500u);
  EXPECT_GT(tally.rows.of(RecoveryRow::damaged_durable), 100u);
  EXPECT_GT(tally.rows.of(RecoveryRow::unexplainable_group), 20u);
}

TEST(Recovery, AnswerDoesNotDependOnHowBytesAreFed) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    LogModel model(seed);
    model.random_steps(100);
    Image image = model.crash(0.7);
    if (seed % 2 == 0 && image.segment.size() > 30000) image.segment[9000] ^= std::byte{1};
    Recovered whole(model.input(image), image.segment, MiB);
    Recovered blocks(model.input(image), image.segment, block_bytes);
    EXPECT_TRUE(same_answer(whole, blocks)) << seed;
    EXPECT_EQ(whole.verdict.row, blocks.verdict.row);
    EXPECT_EQ(whole.verdict.cut_end, blocks.verdict.cut_end);
    EXPECT_EQ(whole.verdict.offset_bump, blocks.verdict.offset_bump);
  }
}

TEST(Recovery, AFollowerDoesNotBelieveTheLeadersDurableEnd) {
  std::uint64_t believed = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    LogModel model(seed);
    model.random_steps(80);
    Image image = model.crash(0.5);
    RecoveryInput input = model.input(image);
    input.epochs_led = {};
    input.tail = {};
    Recovered found(input, image.segment);
    believed += found.verdict.row == RecoveryRow::damaged_durable;
  }
  EXPECT_EQ(believed, 0u);
}

}  // namespace
}  // namespace millrace::test
