// Control batches, state rows and index units: what is written is read back, and what cannot have been written is refused.
#include <gtest/gtest.h>

#include <string>

#include "storage/control_batches.hpp"
#include "storage/index_unit.hpp"
#include "storage/state_rows.hpp"

namespace millrace {
namespace {

TEST(ControlBatches, CatalogueComesBack) {
  std::vector<std::byte> body;
  write_catalogue_stream(body, stream_id_of("demo"), "demo");
  write_catalogue_producer(body, ProducerId{77}, 3);
  write_catalogue_stream(body, stream_id_of("x"), "x");
  CatalogueReader reader(body);
  CatalogueEntry entry;
  ASSERT_TRUE(reader.next(entry).value());
  EXPECT_EQ(entry.name, "demo");
  EXPECT_EQ(entry.stream_id, stream_id_of("demo"));
  ASSERT_TRUE(reader.next(entry).value());
  EXPECT_EQ(entry.producer_id, ProducerId{77});
  EXPECT_EQ(entry.producer_epoch, 3u);
  ASSERT_TRUE(reader.next(entry).value());
  EXPECT_EQ(entry.name, "x");
  EXPECT_FALSE(reader.next(entry).value());
}

TEST(ControlBatches, AStreamsIdIsItsNames) {
  std::vector<std::byte> body;
  write_catalogue_stream(body, StreamId{5}, "demo");
  CatalogueEntry entry;
  EXPECT_EQ(CatalogueReader(body).next(entry).error(), Error::bad_body);
}

TEST(ControlBatches, CutShortIsRefusedOrEndsEarly) {
  std::vector<std::byte> body;
  write_catalogue_producer(body, ProducerId{77}, 3);
  CatalogueEntry entry;
  for (std::size_t length = 1; length < body.size(); ++length)
    EXPECT_EQ(CatalogueReader(Bytes(body).first(length)).next(entry).error(), Error::bad_body) << length;
}

TEST(ControlBatches, FixedBodiesHaveTheirLengths) {
  std::vector<std::byte> body;
  write_epoch_body(body, {.epoch = Epoch{4}, .lost_first = Lsn{10}, .lost_end = Lsn{12}, .offset_bump = 7});
  ASSERT_EQ(body.size(), 32u);
  EXPECT_EQ(read_epoch_body(body)->offset_bump, 7u);
  EXPECT_FALSE(read_epoch_body(Bytes(body).first(31)));
  body.clear();
  write_seal_body(body, {.day = Day{20000}, .batches = 1, .records = 2, .body_bytes = 3, .epoch = Epoch{4}});
  ASSERT_EQ(body.size(), 40u);
  EXPECT_EQ(read_seal_body(body)->records, 2u);
  body.clear();
  write_trim_body(body, {StreamId{1}, Offset{2}});
  EXPECT_EQ(read_trim_body(body)->first_kept, Offset{2});
  body.clear();
  write_state_piece_head(body, 1, 2, Lsn{9});
  EXPECT_EQ(read_state_piece(body)->first_not_included, Lsn{9});
  body[0] = std::byte{2};
  EXPECT_FALSE(read_state_piece(body));  // piece 2 of 2
}

std::vector<std::byte> sample_rows() {
  std::vector<std::byte> rows;
  write_row(rows, StreamRow{stream_id_of("a"), Offset{5}, RecordId{4}, Day{3}, Offset{1}, Offset{}, "a"});
  WindowRow window{.producer_id = ProducerId{1}, .stream_id = StreamId{2}, .last_lsn = Lsn{3}};
  window.count = 2;
  window.next_sequence = 9;
  window.batches[0] = {Offset{10}, Lsn{11}};
  window.batches[1] = {Offset{12}, Lsn{13}};
  write_row(rows, window);
  write_row(rows, ProducerRow{ProducerId{1}, 2, Lsn{3}});
  write_row(rows, LogRow{Lsn{14}, Chain{15}, 16, Day{17}, Epoch{18}});
  return rows;
}

TEST(StateRows, ComeBack) {
  std::vector<std::byte> rows = sample_rows();
  StateRowReader reader(rows);
  StateRow row;
  ASSERT_TRUE(reader.next(row).value());
  EXPECT_EQ(row.stream.name, "a");
  EXPECT_EQ(row.stream.next_offset, Offset{5});
  ASSERT_TRUE(reader.next(row).value());
  EXPECT_EQ(row.window.count, 2u);
  EXPECT_EQ(row.window.batches[1].lsn, Lsn{13});
  ASSERT_TRUE(reader.next(row).value());
  EXPECT_EQ(row.producer.epoch, 2u);
  ASSERT_TRUE(reader.next(row).value());
  EXPECT_EQ(row.log.epoch, Epoch{18});
  EXPECT_FALSE(reader.next(row).value());
}

TEST(StateRows, AreSortedAndWhole) {
  std::vector<std::byte> rows = sample_rows();
  StateRow row;
  std::vector<std::byte> twice = rows;
  twice.insert(twice.end(), rows.begin(), rows.end());
  StateRowReader reader(twice);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(reader.next(row).value());
  EXPECT_FALSE(reader.next(row));  // the log's row does not come before a stream's
  for (std::size_t length = 1; length < 56; ++length)
    EXPECT_FALSE(StateRowReader(Bytes(rows).first(length)).next(row)) << length;
}

UnitHeader unit_header() {
  UnitHeader header;
  header.segments = 1;
  header.first_lsn = Lsn{1};
  header.end_lsn = Lsn{4};
  header.segment_id = {3, 4};
  return header;
}

std::vector<std::byte> sample_run() {
  std::vector<RunEntry> entries{{.first_offset = Offset{0}, .position = 264, .span = 20},
                                {.first_offset = Offset{3}, .position = 300, .span = 20},
                                {.first_offset = Offset{0}, .position = 290, .span = 10}};
  std::vector<StreamRun> streams{
      {.stream_id = StreamId{5}, .entries = 2, .records = 6, .end_offset = Offset{6}},
      {.stream_id = StreamId{6}, .first_entry = 2, .entries = 1, .records = 1, .end_offset = Offset{1}}};
  std::vector<std::byte> unit;
  write_run(unit, unit_header(), entries, streams, sample_rows());
  return unit;
}

TEST(IndexUnit, RunComesBack) {
  std::vector<std::byte> unit = sample_run();
  EXPECT_TRUE(is_aligned(unit.size(), block_bytes));
  Result<UnitView> view = UnitView::parse(unit);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->run_entries().size(), 3u);
  EXPECT_EQ(view->stream_runs()[1].stream_id, StreamId{6});
  StateRow row;
  EXPECT_TRUE(StateRowReader(view->state_rows()).next(row).value());
}

TEST(IndexUnit, EveryFlippedBitIsSeen) {
  std::vector<std::byte> unit = sample_run();
  for (std::size_t bit = 0; bit < unit.size() * 8; bit += 3) {
    unit[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(UnitView::parse(unit)) << bit;
    unit[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(IndexUnit, DirectoriesAndDayTablesAreSorted) {
  UnitHeader header = unit_header();
  header.level = 1;
  header.segments = 16;
  std::vector<DirectoryRow> rows{{.stream_id = StreamId{1}, .first_offset = Offset{0}, .end_offset = Offset{5}},
                                 {.stream_id = StreamId{1}, .first_offset = Offset{5}, .end_offset = Offset{6}},
                                 {.stream_id = StreamId{2}, .first_offset = Offset{0}, .end_offset = Offset{1}}};
  std::vector<std::byte> unit;
  write_directory(unit, header, rows);
  ASSERT_TRUE(UnitView::parse(unit));
  EXPECT_EQ(UnitView::parse(unit)->directory_rows().size(), 3u);
  std::swap(rows[0], rows[1]);
  unit.clear();
  write_directory(unit, header, rows);
  EXPECT_FALSE(UnitView::parse(unit));

  std::vector<DayRow> days{{StreamId{1}, Offset{0}, Offset{9}}, {StreamId{2}, Offset{4}, Offset{4}}};
  unit.clear();
  write_day_table(unit, unit_header(), days);
  ASSERT_TRUE(UnitView::parse(unit));
  EXPECT_EQ(UnitView::parse(unit)->day_rows()[1].begin, Offset{4});
  days[1].end = Offset{3};
  unit.clear();
  write_day_table(unit, unit_header(), days);
  EXPECT_FALSE(UnitView::parse(unit));
}

}  // namespace
}  // namespace millrace
