// The tables are a pure function of the log: whoever applies the same batches, or takes rows and the batches behind them, has
// the same.
#include "storage/tables.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "reactor/random.hpp"

namespace millrace {
namespace {

struct Batch {
  BatchHeader header;
  std::vector<std::byte> body;
};

/// A log as its leader would write it: streams and producers created, data, trims.
class LogMaker {
 public:
  explicit LogMaker(std::uint64_t seed) : random_(seed) {}

  Batch next() {
    const std::uint64_t choice = random_.next() % 20;
    std::vector<std::byte> body;
    if (choice == 0 || names_.empty()) {
      names_.push_back("stream " + std::to_string(names_.size()));
      write_catalogue_stream(body, stream_id_of(names_.back()), names_.back());
      write_catalogue_producer(body, ProducerId{1 + random_.next() % 4}, 1);
      return control(BatchKind::catalogue, std::move(body));
    }
    const StreamId stream = stream_id_of(names_[random_.next() % names_.size()]);
    if (choice == 1) {
      write_trim_body(body, {stream, Offset{next_[stream.value] / 2}});
      return control(BatchKind::trim, std::move(body));
    }
    if (choice == 2) {
      day_ += 1;
      ids_.clear();
    }
    Batch batch;
    batch.header.stream_id = stream.value;
    batch.header.record_count = static_cast<std::uint32_t>(1 + random_.next() % 5);
    batch.header.body_bytes = 100;
    batch.header.first_offset = next_[stream.value];
    batch.header.first_id = ids_[stream.value];
    next_[stream.value] += batch.header.record_count;
    ids_[stream.value] += batch.header.record_count;
    if (choice > 5) {
      batch.header.producer_id = 1 + random_.next() % 4;
      batch.header.producer_epoch = 1;
      batch.header.producer_sequence = sequences_[{batch.header.producer_id, stream.value}]++;
    }
    place(batch.header);
    return batch;
  }

 private:
  Batch control(BatchKind kind, std::vector<std::byte> body) {
    Batch batch{control_header(kind, body), std::move(body)};
    place(batch.header);
    return batch;
  }
  void place(BatchHeader& header) {
    header.lsn = ++lsn_;
    header.leader_time = static_cast<std::int64_t>(lsn_);
    header.day = day_;
    seal_header(header, chain_);
    chain_ = Chain{header.chain};
  }

  Random random_;
  std::vector<std::string> names_;
  std::map<std::uint64_t, std::uint64_t> next_;
  std::map<std::uint64_t, std::uint64_t> ids_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> sequences_;
  std::uint64_t lsn_ = 0;
  std::uint32_t day_ = 20'000;
  Chain chain_{};
};

std::vector<std::byte> rows_of(const Tables& tables) {
  std::vector<std::byte> rows;
  tables.write_rows(rows);
  return rows;
}

void apply(Tables& tables, const Batch& batch) { ASSERT_TRUE(tables.apply(batch.header, batch.body)); }

TEST(Tables, WhoAppliesTheSameHasTheSame) {
  LogMaker log(1);
  Tables left;
  Tables right;
  for (int i = 0; i < 2000; ++i) {
    const Batch batch = log.next();
    apply(left, batch);
    apply(right, batch);
  }
  EXPECT_TRUE(rows_of(left) == rows_of(right));
  EXPECT_EQ(left.log().next_lsn, Lsn{2001});
}

TEST(Tables, RowsAndWhatCameBehindThemAreTheWhole) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    LogMaker log(seed);
    Tables whole;
    for (int i = 0; i < 700; ++i) apply(whole, log.next());
    const std::vector<std::byte> rows = rows_of(whole);
    Tables later;
    ASSERT_TRUE(later.apply_rows(rows));
    later.finish_rows();
    later.set_log(whole.log());
    EXPECT_TRUE(rows_of(later) == rows) << seed;
    for (int i = 0; i < 300; ++i) {
      const Batch batch = log.next();
      apply(whole, batch);
      apply(later, batch);
    }
    EXPECT_TRUE(rows_of(later) == rows_of(whole)) << seed;
  }
}

// A closed segment's rows are taken piece by piece while the tables move on; they are those of the moment it closed.
TEST(Tables, ACaptureGivesTheRowsAsTheyWere) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    LogMaker log(seed);
    Random random(seed);
    Tables tables;
    Tables rebuilt;  // from captures alone
    for (int segment = 0; segment < 6; ++segment) {
      const std::uint64_t batches = 30 + random.next() % 200;
      for (std::uint64_t i = 0; i < batches; ++i) apply(tables, log.next());
      auto capture = tables.capture_segment();
      const std::vector<std::byte> then = rows_of(tables);
      const LogRow at = tables.log();
      tables.begin_segment();
      std::vector<std::byte> unsorted;
      while (capture->take_rows(unsorted, 200))
        if (random.next() % 2 == 0) apply(tables, log.next());
      std::map<RowKey, Bytes> rows;
      for (Bytes rest = unsorted; !rest.empty(); rest = rest.subspan(row_length(rest)))
        rows[row_key(rest)] = rest.first(row_length(rest));
      std::vector<std::byte> sorted;
      for (const auto& [key, row] : rows) sorted.insert(sorted.end(), row.begin(), row.end());
      ASSERT_TRUE(rebuilt.apply_rows(sorted));
      rebuilt.finish_rows();
      rebuilt.set_log(at);
      EXPECT_TRUE(rows_of(rebuilt) == then) << "seed " << seed << " segment " << segment;
      capture.reset();
    }
  }
}

TEST(Tables, WhatDoesNotFollowIsRefusedAndChangesNothing) {
  LogMaker log(3);
  Tables tables;
  for (int i = 0; i < 50; ++i) apply(tables, log.next());
  const std::vector<std::byte> before = rows_of(tables);
  Batch skipped = log.next();
  Batch next = log.next();
  EXPECT_EQ(tables.apply(next.header, next.body).error(), Error::corrupt) << "an lsn is missing";
  skipped.header.day = 1;
  EXPECT_EQ(tables.apply(skipped.header, skipped.body).error(), Error::corrupt) << "days never fall";
  EXPECT_TRUE(rows_of(tables) == before);
}

TEST(Tables, ALossMovesEveryStreamOn) {
  LogMaker log(5);
  Tables tables;
  for (int i = 0; i < 200; ++i) apply(tables, log.next());
  std::vector<std::pair<Offset, RecordId>> before;
  for (std::uint32_t i = 0; i < tables.streams().size(); ++i) {
    const Stream& stream = tables.streams().at(i);
    before.emplace_back(stream.next_offset, stream.day == tables.log().day ? stream.next_id : RecordId{});
  }
  std::vector<std::byte> body;
  write_epoch_body(body, {.epoch = Epoch{9}, .lost_first = Lsn{150}, .lost_end = Lsn{201}, .offset_bump = 1000});
  BatchHeader header = control_header(BatchKind::epoch, body);
  header.lsn = tables.log().next_lsn.value;
  header.leader_time = tables.log().last_leader_time;
  header.day = tables.log().day.value;
  ASSERT_TRUE(tables.apply(header, body));
  EXPECT_EQ(tables.log().epoch, Epoch{9});
  for (std::uint32_t i = 0; i < tables.streams().size(); ++i) {
    if (!tables.streams().at(i).exists()) continue;
    EXPECT_EQ(tables.streams().at(i).next_offset, before[i].first.next(1000));
    EXPECT_EQ(tables.streams().at(i).next_id, before[i].second.next(1000));
    EXPECT_EQ(tables.streams().at(i).day, tables.log().day)
        << "ids of the day that was lost are skipped, not an older day's";
  }
  EXPECT_EQ(tables.log().offset_floor, Offset{1000});
}

// Its first creation may be among what was lost, with offsets that were acknowledged: they are never used again.
TEST(Tables, AStreamCreatedAfterALossBeginsAtTheFloor) {
  LogMaker log(5);
  Tables tables;
  for (int i = 0; i < 20; ++i) apply(tables, log.next());
  auto control = [&](BatchKind kind, Bytes body) {
    BatchHeader header = control_header(kind, body);
    header.lsn = tables.log().next_lsn.value;
    header.leader_time = tables.log().last_leader_time;
    header.day = tables.log().day.value;
    ASSERT_TRUE(tables.apply(header, body));
  };
  std::vector<std::byte> body;
  write_epoch_body(body, {.epoch = Epoch{9}, .lost_first = Lsn{20}, .lost_end = Lsn{21}, .offset_bump = 700});
  control(BatchKind::epoch, body);
  body.clear();
  write_epoch_body(body, {.epoch = Epoch{10}, .lost_first = Lsn{21}, .lost_end = Lsn{22}, .offset_bump = 50});
  control(BatchKind::epoch, body);
  const StreamId id = stream_id_of("made again");
  body.clear();
  write_catalogue_stream(body, id, "made again");
  control(BatchKind::catalogue, body);
  auto expect_begun = [&](const Tables& known) {
    ASSERT_NE(known.streams().find(id), Catalogue::none);
    const Stream& stream = known.streams().at(known.streams().find(id));
    EXPECT_EQ(stream.begin, Offset{750});
    EXPECT_EQ(stream.next_offset, Offset{750});
    EXPECT_EQ(stream.next_id, RecordId{750});
    EXPECT_EQ(stream.day, tables.log().day);
    EXPECT_EQ(known.log().offset_floor, Offset{750});
  };
  expect_begun(tables);
  Tables again;
  ASSERT_TRUE(again.apply_rows(rows_of(tables)));
  expect_begun(again);
}

// Its catalogue batch was lost, its data was not: the row has no name, and a name that comes later changes nothing else.
TEST(Tables, AStreamWithoutANameIsPartOfTheLog) {
  Tables tables;
  StreamRow row;
  row.id = stream_id_of("forgotten");
  row.next_offset = Offset{12};
  row.first_kept = Offset{3};
  std::vector<std::byte> rows;
  write_row(rows, row);
  ASSERT_TRUE(tables.apply_rows(rows));
  const std::uint32_t number = tables.streams().find(row.id);
  ASSERT_NE(number, Catalogue::none);
  EXPECT_TRUE(tables.streams().at(number).exists());
  EXPECT_FALSE(tables.streams().at(number).created);
  std::vector<std::byte> back;
  tables.write_stream_rows(back, 0, tables.streams().size());
  EXPECT_EQ(back, rows);
  ASSERT_TRUE(tables.streams().declare("forgotten"));
  EXPECT_EQ(tables.streams().at(number).name, "forgotten");
  EXPECT_EQ(tables.streams().at(number).next_offset, Offset{12});
}

}  // namespace
}  // namespace millrace
