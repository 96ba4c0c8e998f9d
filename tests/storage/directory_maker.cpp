#include "tests/storage/directory_maker.hpp"

#include <algorithm>
#include <fstream>

#include "base/time.hpp"
#include "protocol/batch_builder.hpp"
#include "storage/control_batches.hpp"
#include "storage/node_meta.hpp"
#include "storage/state_rows.hpp"
#include "storage/tail_slot.hpp"

namespace millrace::test {

namespace fs = std::filesystem;

DirectoryMaker::DirectoryMaker(fs::path directory) : directory_(std::move(directory)) {
  header_.log_id = {1, 2};
  header_.in_flight_bytes_max = 16 * MiB;
}

void DirectoryMaker::write_file(const std::string& name, Bytes bytes) {
  fs::path path = directory_ / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void DirectoryMaker::write_node_meta() {
  std::vector<std::byte> meta(node_meta_bytes(1));
  NodeSlot node;
  node.sequence = 1;
  node.cluster_id = {9, 9};
  node.log_id = header_.log_id;
  node.shard_count = 1;
  node.segment_bytes = segment_bytes_default;
  write_node_slot(node, MutableBytes(meta).subspan(node_slot_offset(1), block_bytes));
  ShardSlot shard;
  shard.sequence = 1;
  take_epoch(shard, Epoch{1});
  write_shard_slot(shard, MutableBytes(meta).subspan(shard_slot_offset({}, 0), block_bytes));
  write_file("node.meta", meta);
}

void DirectoryMaker::begin_segment(Day day, std::uint32_t number) {
  Id128 before = header_.segment_id;
  header_.previous_segment_id = before;
  header_.previous_length = segment_.size();
  header_.previous_chain = chain_;
  header_.segment_id = {77, before.low + 1};
  header_.day = day;
  header_.number = number;
  header_.first_lsn = next_lsn_;
  header_.epoch = Epoch{1};
  segment_.assign(block_bytes, std::byte{0});
  write_segment_header(header_, segment_);
  chain_ = group_chain_ = first_chain(header_);
  group_lsn_ = next_lsn_;
  first_time_ = 0;
  entries_.clear();
  runs_.clear();
  if (day == day_) return;
  day_ = day;
  day_batches_ = day_records_ = day_body_bytes_ = 0;
  for (Stream& stream : streams_) {
    stream.day_begin = stream.next;
    stream.next_id = 0;
  }
}

void DirectoryMaker::add(BatchHeader header, Bytes body) {
  header.lsn = next_lsn_.value;
  header.day = day_.value;
  header.leader_time = time_ += 1000;
  if (first_time_ == 0) first_time_ = header.leader_time;
  seal_header(header, chain_);
  std::uint64_t position = segment_.size() + group_header_bytes + pending_.size();
  pending_.resize(pending_.size() + batch_span(header.body_bytes));
  MutableBytes target = MutableBytes(pending_).last(batch_span(header.body_bytes));
  store(target, 0, header);
  std::ranges::copy(body, target.begin() + batch_header_bytes);
  chain_ = Chain{header.chain};
  next_lsn_ = next_lsn_.next();
  ++pending_batches_;
  ++batches;
  if (header.kind != BatchKind::seal) {
    ++day_batches_;
    day_records_ += header.record_count;
    day_body_bytes_ += header.body_bytes;
  }
  if (header.kind != BatchKind::data) return;
  ++data_batches;
  StreamId id{header.stream_id};
  entries_[id].push_back({.first_offset = Offset{header.first_offset},
                          .leader_time = header.leader_time,
                          .event_time_min = header.event_time_min,
                          .event_time_max = header.event_time_max,
                          .position = static_cast<std::uint32_t>(position / batch_align),
                          .span = static_cast<std::uint32_t>(target.size() / batch_align)});
  auto [at, fresh] = runs_.try_emplace(id);
  StreamRun& run = at->second;
  if (fresh) {
    run.stream_id = id;
    run.first_offset = Offset{header.first_offset};
    run.first_id = RecordId{header.first_id};
    run.first_leader_time = header.leader_time;
  }
  ++run.entries;
  run.records += header.record_count;
  run.end_offset = Offset{header.first_offset + header.record_count};
  run.last_leader_time = header.leader_time;
}

void DirectoryMaker::control(BatchKind kind, const std::vector<std::byte>& body) {
  add(control_header(kind, body), body);
}

void DirectoryMaker::data(std::size_t number, std::size_t records) {
  Stream& stream = streams_[number];
  BatchBuilder builder;
  for (std::size_t i = 0; i < records; ++i) {
    std::string payload = stream.name + " record " + std::to_string(stream.next + i) + std::string(i * 50, '.');
    builder.add({.payload = bytes_of(payload), .event_time = static_cast<Nanos>(i), .key = {}, .headers = {}});
  }
  BatchHeader header;
  header.stream_id = stream_id_of(stream.name).value;
  header.first_offset = stream.next;
  header.first_id = stream.next_id;
  builder.finish(header);
  stream.next += records;
  stream.next_id += records;
  add(header, builder.body());
}

void DirectoryMaker::close_group() {
  GroupHeader group;
  group.batches = pending_batches_;
  group.segment_id = header_.segment_id;
  group.file_offset = segment_.size();
  group.epoch = Epoch{1};
  group.first_lsn = group_lsn_;
  group.chain_before = group_chain_;
  group.durable_upto = group_lsn_;
  group.length = group_header_bytes + pending_.size();
  group.chain_after = chain_;
  seal_group_header(group);
  std::size_t at = segment_.size();
  segment_.resize(at + group_span(group));
  store(MutableBytes(segment_), at, group);
  std::ranges::copy(pending_, segment_.begin() + static_cast<long>(at + group_header_bytes));
  pending_.clear();
  pending_batches_ = 0;
  group_lsn_ = next_lsn_;
  group_chain_ = chain_;
}

void DirectoryMaker::close_segment(std::size_t zeros) {
  std::vector<std::byte> whole = segment_;
  whole.resize(whole.size() + zeros);
  char name[32];
  std::snprintf(name, sizeof(name), "data%06u", header_.number);
  write_file("shard-00/" + format_day(day_) + "/" + name, whole);
}

void DirectoryMaker::write_index_run() {
  std::vector<RunEntry> entries;
  std::vector<StreamRun> streams;
  std::vector<std::byte> rows;
  for (auto& [id, run] : runs_) {
    run.first_entry = entries.size();
    entries.insert(entries.end(), entries_[id].begin(), entries_[id].end());
    streams.push_back(run);
    for (const Stream& stream : streams_)
      if (stream_id_of(stream.name) == id)
        write_row(rows,
                  StreamRow{id, Offset{stream.next}, RecordId{stream.next_id}, day_, Offset{}, Offset{}, stream.name});
  }
  LogRow log;
  log.next_lsn = next_lsn_;
  log.chain = chain_;
  write_row(rows, log);
  UnitHeader header;
  header.first_segment = header_.number;
  header.segments = 1;
  header.first_lsn = header_.first_lsn;
  header.end_lsn = next_lsn_;
  header.first_leader_time = first_time_;
  header.last_leader_time = time_;
  header.segment_id = header_.segment_id;
  write_run(index_, header, entries, streams, rows);
}

void DirectoryMaker::seal() {
  std::vector<std::byte> body;
  write_seal_body(body, {.day = day_,
                         .batches = day_batches_,
                         .records = day_records_,
                         .body_bytes = day_body_bytes_,
                         .epoch = Epoch{1}});
  control(BatchKind::seal, body);
  close_group();
  Finish finish;
  finish.log_id = header_.log_id;
  finish.day = day_;
  finish.last_segment_number = header_.number;
  finish.last_segment_length = segment_.size();
  finish.end_lsn = next_lsn_;
  finish.final_chain = chain_;
  finish.batches = day_batches_;
  finish.records = day_records_;
  finish.body_bytes = day_body_bytes_;
  std::vector<std::byte> block(block_bytes);
  write_finish(finish, block);
  write_file("shard-00/" + format_day(day_) + "/finish", block);
}

void DirectoryMaker::write_tail() {
  std::vector<std::byte> tail(block_bytes + 64 * KiB);
  TailHeader header;
  header.log_id = header_.log_id;
  header.ring_bytes = 64 * KiB;
  write_tail_header(header, tail);
  TailSlot slot;
  slot.length = static_cast<std::uint32_t>(pending_.size());
  slot.number = 1;
  slot.segment_id = header_.segment_id;
  slot.group = segment_.size();
  slot.start = segment_.size() + group_header_bytes;
  slot.epoch = Epoch{1};
  slot.first_lsn = group_lsn_;
  slot.chain_before = group_chain_;
  slot.durable_end = group_lsn_;
  MutableBytes target = MutableBytes(tail).subspan(block_bytes, tail_slot_span(slot.length));
  std::ranges::copy(pending_, target.begin() + tail_slot_header_bytes);
  write_tail_slot(slot, target);
  write_file("shard-00/tail", tail);
}

void DirectoryMaker::make() {
  write_node_meta();
  std::vector<std::byte> body;
  begin_segment(Day{20000}, 0);
  write_epoch_body(body, {.epoch = Epoch{1}});
  control(BatchKind::epoch, body);
  body.clear();
  for (const Stream& stream : streams_) write_catalogue_stream(body, stream_id_of(stream.name), stream.name);
  control(BatchKind::catalogue, body);
  data(0, 5);
  close_group();
  data(1, 3);
  data(0, 2);
  close_group();
  write_index_run();
  close_segment(block_bytes);

  begin_segment(Day{20000}, 1);
  data(0, 40);
  close_group();
  data(1, 1);
  seal();
  write_index_run();
  close_segment(0);
  UnitHeader header;
  header.first_segment = 0;
  header.segments = 2;
  header.end_lsn = next_lsn_;
  header.segment_id = header_.segment_id;
  std::vector<DayRow> table;
  for (const Stream& stream : streams_)
    table.push_back({stream_id_of(stream.name), Offset{stream.day_begin}, Offset{stream.next}});
  std::ranges::sort(table, {}, &DayRow::stream_id);
  write_day_table(index_, header, table);
  write_file("shard-00/" + format_day(day_) + "/index", index_);

  begin_segment(Day{20001}, 0);
  data(1, 4);
  close_group();
  data(0, 6);
  close_group();
  data(0, 1);
  close_segment(256 * KiB);
  write_tail();
}

}  // namespace millrace::test
