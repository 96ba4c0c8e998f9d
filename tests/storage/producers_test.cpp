// Exactly once: what the producers' table answers to batches it knows, does not know yet, and does not know any more.
#include "storage/producers.hpp"

#include <gtest/gtest.h>

#include "storage/state_rows.hpp"

namespace millrace {
namespace {

using Kind = DedupeVerdict::Kind;

constexpr ProducerId one{1};
constexpr StreamId orders{10};

/// Stores sequences [0, count) of `id` on `stream`; batch s stands at offset 10 s, lsn 100 + s.
void store(Producers& producers, ProducerId id, std::uint32_t epoch, StreamId stream, std::uint64_t count) {
  for (std::uint64_t sequence = 0; sequence < count; ++sequence) {
    ASSERT_EQ(producers.check(id, epoch, stream, sequence).kind, Kind::fresh) << sequence;
    producers.stored(id, epoch, stream, sequence, {Offset{10 * sequence}, Lsn{100 + sequence}});
  }
}

/// Producer `one` in its first epoch stores sequences [0, count) on `orders`.
void begin(Producers& producers, std::uint64_t count) {
  producers.set_epoch(one, 1, Lsn{1});
  store(producers, one, 1, orders, count);
}

TEST(Producers, ARepeatIsAnsweredWithThePlaceOfTheFirstCopy) {
  Producers producers;
  begin(producers, 3);
  const DedupeVerdict verdict = producers.check(one, 1, orders, 1);
  EXPECT_EQ(verdict.kind, Kind::repeat);
  EXPECT_EQ(verdict.first_copy.first_offset, Offset{10});
  EXPECT_EQ(verdict.first_copy.lsn, Lsn{101});
  EXPECT_EQ(producers.check(one, 1, StreamId{11}, 0).kind, Kind::fresh) << "each stream has sequences of its own";
}

TEST(Producers, AGapNamesTheSequenceExpected) {
  Producers producers;
  begin(producers, 5);
  const DedupeVerdict verdict = producers.check(one, 1, orders, 7);
  EXPECT_EQ(verdict.error, Error::out_of_order);
  EXPECT_EQ(verdict.detail, 5u);
  EXPECT_EQ(producers.check(one, 1, StreamId{11}, 1).detail, 0u);
}

TEST(Producers, TheWindowIsSixtyFourWhateverCameBefore) {
  for (std::uint64_t stored : {std::uint64_t{3}, std::uint64_t{17}, std::uint64_t{64}, std::uint64_t{300}}) {
    Producers producers;
    begin(producers, stored);
    const std::uint64_t oldest = stored > producer_window_max ? stored - producer_window_max : 0;
    for (std::uint64_t sequence = 0; sequence < stored; ++sequence) {
      const DedupeVerdict verdict = producers.check(one, 1, orders, sequence);
      if (sequence < oldest) {
        EXPECT_EQ(verdict.error, Error::duplicate) << sequence << " of " << stored;
        continue;
      }
      ASSERT_EQ(verdict.kind, Kind::repeat) << sequence << " of " << stored;
      EXPECT_EQ(verdict.first_copy.first_offset, Offset{10 * sequence});
    }
  }
}

TEST(Producers, EpochsFenceAndStartSequencesAnew) {
  Producers producers;
  begin(producers, 4);
  producers.set_epoch(one, 2, Lsn{50});
  const DedupeVerdict old = producers.check(one, 1, orders, 4);
  EXPECT_EQ(old.error, Error::fenced);
  EXPECT_EQ(old.detail, 2u);
  EXPECT_EQ(producers.check(one, 3, orders, 0).error, Error::unknown_producer);
  EXPECT_EQ(producers.check(one, 2, orders, 0).kind, Kind::fresh);
  EXPECT_EQ(producers.check(one, 2, orders, 4).error, Error::out_of_order);
  EXPECT_EQ(producers.check(ProducerId{2}, 1, orders, 0).error, Error::unknown_producer);
}

TEST(Producers, TheOneUnusedLongestLeavesWhole) {
  Producers producers;
  for (std::uint64_t id = 1; id <= producers_max; ++id) producers.set_epoch(ProducerId{id}, 1, Lsn{id});
  producers.stored(one, 1, orders, 0, {Offset{0}, Lsn{100'000}});  // used again: not the oldest any more
  producers.set_epoch(ProducerId{producers_max + 1}, 1, Lsn{100'001});
  EXPECT_EQ(producers.producer_count(), producers_max);
  EXPECT_EQ(producers.epoch(one), 1u);
  EXPECT_EQ(producers.epoch(ProducerId{2}), 0u);
  EXPECT_EQ(producers.find(ProducerId{2}), Producers::none);
}

TEST(Producers, WindowsAreLimitedAndAlwaysFindRoomForAnother) {
  Producers producers;
  producers.set_epoch(one, 1, Lsn{1});
  producers.stored(one, 1, orders, 0, {Offset{0}, Lsn{2}});
  const ProducerId two{2};
  producers.set_epoch(two, 1, Lsn{3});
  for (std::uint64_t stream = 1; stream < windows_max; ++stream)
    producers.stored(two, 1, StreamId{1000 + stream}, 0, {Offset{0}, Lsn{3 + stream}});
  EXPECT_EQ(producers.window_count(), windows_max);
  producers.stored(two, 1, StreamId{5}, 0, {Offset{0}, Lsn{900'000}});
  EXPECT_EQ(producers.find(one), Producers::none) << "the other producer made room";
  EXPECT_LE(producers.window_count(), windows_max);
  EXPECT_EQ(producers.check(two, 1, StreamId{6}, 0).error, Error::too_large) << "one producer on too many streams";
}

TEST(Producers, RowsBringBackTheSameAnswers) {
  Producers producers;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    producers.set_epoch(ProducerId{id}, static_cast<std::uint32_t>(id), Lsn{id});
    store(producers, ProducerId{id}, static_cast<std::uint32_t>(id), StreamId{20 + id}, 13 * id);
  }
  std::vector<std::byte> rows;
  producers.write_window_rows(rows, 0, producers.windows().size());
  producers.write_producer_rows(rows, 0, producers.producers().size());
  Producers again;
  StateRowReader reader(rows);
  for (StateRow row; reader.next(row).value();) {
    if (row.key.tag == StateTag::window) again.put(row.window);
    else again.put(row.producer);
  }
  again.finish_rows();
  std::vector<std::byte> rows_again;
  again.write_window_rows(rows_again, 0, again.windows().size());
  again.write_producer_rows(rows_again, 0, again.producers().size());
  EXPECT_TRUE(rows_again == rows);
  for (std::uint64_t id = 1; id <= 5; ++id)
    for (std::uint64_t sequence = 0; sequence <= 13 * id; ++sequence) {
      const auto epoch = static_cast<std::uint32_t>(id);
      const DedupeVerdict before = producers.check(ProducerId{id}, epoch, StreamId{20 + id}, sequence);
      const DedupeVerdict after = again.check(ProducerId{id}, epoch, StreamId{20 + id}, sequence);
      EXPECT_EQ(before.kind, after.kind) << id << " " << sequence;
      EXPECT_EQ(before.error, after.error);
      EXPECT_EQ(before.first_copy.lsn, after.first_copy.lsn);
    }
}

}  // namespace
}  // namespace millrace
