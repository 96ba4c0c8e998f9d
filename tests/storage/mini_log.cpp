#include "tests/storage/mini_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/aligned_memory.hpp"
#include "storage/group.hpp"
#include "storage/segment_header.hpp"
#include "storage/state_rows.hpp"

namespace millrace::test {

namespace {

constexpr const char* shard_directory = "shard-00";

/// One row a segment: enough to see that rows travel.
class LogRowCapture final : public StateCapture {
 public:
  explicit LogRowCapture(Lsn next) : next_(next) {}
  bool take_rows(std::vector<std::byte>& rows, std::size_t) override {
    write_row(rows, LogRow{.next_lsn = next_});
    return false;
  }

 private:
  Lsn next_;
};

}  // namespace

MiniLog::MiniLog(Reactor& reactor, MiniLogOptions options)
    : reactor_(reactor), options_(options), random_(reactor.kernel().seed()) {
  ReadViewOptions view;
  view.shard_directory = shard_directory;
  view.tail = {.ring_bytes = options.ring_bytes, .batches_max = options.batches_max};
  view_ = std::make_unique<ReadView>(reactor, view, *this);
  time_ = day_begin(options.first_day, 0);
}

Task<> MiniLog::open() {
  auto making = Directory::make(reactor_, shard_directory);
  auto made = co_await making;
  if (!made) co_return fail(made.error());
  segment_ = {options_.first_day, 0};
  auto beginning = begin_segment();
  auto begun = co_await beginning;
  if (!begun) co_return fail(begun.error());
  view_->ready(Lsn{1});
  co_return {};
}

Task<> MiniLog::begin_segment() {
  auto making = Directory::make(reactor_, day_path(shard_directory, segment_.day));
  auto made = co_await making;
  if (!made && made.error() != Error::already_exists) co_return fail(made.error());
  auto opening =
      File::open(reactor_, segment_path(shard_directory, segment_), open_read | open_write | open_create | open_direct);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  AlignedMemory block(options_.segment_bytes);
  SegmentHeader header;
  header.day = segment_.day;
  header.number = segment_.number;
  header.first_lsn = Lsn{batches_.size() + 1};
  header.previous_length = batches_.empty() ? 0 : group_at_;
  segment_id_ = {random_.next(), random_.next()};
  header.segment_id = segment_id_;
  header.segment_bytes = segment_bytes_min;
  write_segment_header(header, block.bytes().first(block_bytes));
  auto writing = file->write_exact(0, block.bytes(), true);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  file_ = std::move(*file);
  group_at_ = block_bytes;
  chain_ = group_chain_ = first_chain(header);
  group_first_ = header.first_lsn;
  const SegmentFacts facts{segment_, segment_id_, header.first_lsn};
  if (!std::exchange(begun_, true))
    view_->begin({.first_kept = segment_, .has_open = true, .open = facts, .next_lsn = Lsn{1}});
  else view_->segment_begun(facts);
  co_return {};
}

void MiniLog::append(StreamId stream, std::uint32_t records, std::uint32_t body_bytes) {
  std::vector<std::byte> body(body_bytes);
  for (std::byte& byte : body) byte = static_cast<std::byte>(random_.next());
  BatchHeader header;
  header.stream_id = stream.value;
  header.record_count = records;
  header.body_bytes = body_bytes;
  header.raw_bytes = body_bytes;
  header.body_hash = hash128(body);
  header.first_offset = next_[stream].value;
  auto& id = ids_[{stream, segment_.day}];
  header.first_id = id;
  next_[stream] = next_[stream].next(records);
  id += records;
  place(header, body);
}

void MiniLog::append_control() {
  const std::array<std::byte, 16> body{};
  BatchHeader header;
  header.kind = BatchKind::trim;
  header.body_bytes = 16;
  header.raw_bytes = 16;
  header.body_hash = hash128(body);
  place(header, body);
}

void MiniLog::place(BatchHeader header, Bytes body) {
  time_ += 1 + static_cast<Nanos>(random_.next() % nanos_per_milli);
  header.lsn = batches_.size() + 1;
  header.leader_time = time_;
  header.event_time_min = time_ - 5;
  header.event_time_max = time_;
  header.day = segment_.day.value;
  seal_header(header, chain_);
  chain_ = Chain{header.chain};
  ModelBatch batch{header, std::vector<std::byte>(batch_span(header.body_bytes)), segment_, 0};
  std::memcpy(batch.bytes.data(), &header, sizeof(header));
  std::ranges::copy(body, batch.bytes.begin() + sizeof(header));  // memcpy refuses the null of an empty body
  batch.position = group_at_ + group_header_bytes + group_.size();
  MR_ASSERT(batch.position + batch.bytes.size() <= options_.segment_bytes);
  group_.insert(group_.end(), batch.bytes.begin(), batch.bytes.end());
  batches_.push_back(batch);
  view_->appended(header, batches_.back().bytes, batch.position);
}

void MiniLog::flush_to_tail() { view_->durable_moved(Lsn{batches_.size() + 1}); }

Task<> MiniLog::flush() {
  if (group_.empty()) co_return {};
  GroupHeader header;
  header.batches = static_cast<std::uint32_t>(batches_.size() + 1 - group_first_.value);
  header.segment_id = segment_id_;
  header.file_offset = group_at_;
  header.epoch = Epoch{1};
  header.first_lsn = group_first_;
  header.chain_before = group_chain_;
  header.chain_after = chain_;
  header.durable_upto = view_->durable();
  header.length = group_header_bytes + group_.size();
  seal_group_header(header);
  AlignedMemory memory(group_span(header));
  std::memcpy(memory.bytes().data(), &header, sizeof(header));
  std::memcpy(memory.bytes().data() + sizeof(header), group_.data(), group_.size());
  auto writing = file_.write_exact(group_at_, memory.bytes(), true);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  group_at_ += group_span(header);
  group_first_ = Lsn{batches_.size() + 1};
  group_chain_ = chain_;
  group_.clear();
  view_->moved_to_segment(group_at_);
  view_->durable_moved(group_first_);
  co_return {};
}

Task<> MiniLog::roll(bool new_day) {
  auto flushing = flush();
  auto flushed = co_await flushing;
  if (!flushed) co_return fail(flushed.error());
  const Day day = segment_.day;
  view_->segment_closed(std::make_unique<LogRowCapture>(Lsn{batches_.size() + 1}));
  view_->segment_settled(segment_);
  if (new_day) {
    view_->day_finished(day);
    segment_ = {day.next(), 0};
    time_ = std::max(time_, day_begin(segment_.day, 0));
  } else {
    ++segment_.number;
  }
  auto beginning = begin_segment();
  co_return co_await beginning;
}

Task<> MiniLog::settle() {
  while (view_->runs_behind() > 0 || view_->writing()) co_await Sleep(reactor_, reactor_.now() + nanos_per_milli);
  co_return {};
}

Offset MiniLog::next_of(StreamId stream) const {
  auto found = next_.find(stream);
  return found == next_.end() ? Offset{} : found->second;
}

std::vector<const ModelBatch*> MiniLog::of(StreamId stream) const {
  std::vector<const ModelBatch*> result;
  for (const ModelBatch& batch : batches_)
    if (batch.header.kind == BatchKind::data && batch.header.stream_id == stream.value) result.push_back(&batch);
  return result;
}

StreamBounds MiniLog::stream_bounds(StreamId stream) const {
  auto found = next_.find(stream);
  if (found == next_.end()) return {};
  auto kept = kept_.find(stream);
  return {true, kept == kept_.end() ? Offset{} : kept->second, found->second};
}

void take_chunk(ReadBack& back, const ReadChunk& chunk, Bytes target) {
  std::size_t at = 0;
  std::uint32_t batches = 0;
  while (at < chunk.bytes) {
    auto header = read_batch_header(target.subspan(at, chunk.bytes - at));
    ASSERT_TRUE(header.has_value());
    back.headers.push_back(*header);
    at += batch_span(header->body_bytes);
    ++batches;
  }
  EXPECT_EQ(at, chunk.bytes);
  EXPECT_EQ(batches, chunk.batches);
  back.bytes.insert(back.bytes.end(), target.begin(), target.begin() + static_cast<std::ptrdiff_t>(chunk.bytes));
  switch (chunk.notice) {
    case ReadNotice::none:
    case ReadNotice::caught_up: break;
    case ReadNotice::day_finished: back.notices.push_back("day " + std::to_string(chunk.day.value)); break;
    case ReadNotice::data_loss:
      back.notices.push_back("lost " + std::to_string(chunk.lost_first.value) + " next " +
                             std::to_string(chunk.next_offset.value));
      break;
    case ReadNotice::out_of_range: back.notices.push_back("first " + std::to_string(chunk.next_offset.value)); break;
  }
}

Task<ReadBack> read_to_end(Reader& reader, std::size_t target_bytes) {
  std::vector<std::byte> target(target_bytes);
  ReadBack back;
  while (true) {
    auto reading = reader.next(target);
    auto chunk = co_await reading;
    if (!chunk) {
      back.ended = fail(chunk.error());
      break;
    }
    take_chunk(back, *chunk, target);
    if (chunk->notice == ReadNotice::caught_up) break;
  }
  back.stats = reader.stats();
  co_return std::move(back);
}

Task<ReadBack> read_to_end(ReadView& view, ReadRequest request, std::size_t target_bytes) {
  Reader reader(view, request);
  auto reading = read_to_end(reader, target_bytes);
  co_return co_await reading;
}

std::string difference(const ReadBack& back, const std::vector<const ModelBatch*>& batches) {
  std::vector<std::byte> bytes;
  for (const ModelBatch* batch : batches) bytes.insert(bytes.end(), batch->bytes.begin(), batch->bytes.end());
  if (bytes == back.bytes) return {};
  for (std::size_t i = 0; i < batches.size() && i < back.headers.size(); ++i)
    if (batches[i]->header.lsn != back.headers[i].lsn)
      return "batch " + std::to_string(i) + " has lsn " + std::to_string(back.headers[i].lsn) + " instead of " +
             std::to_string(batches[i]->header.lsn);
  std::string text = std::to_string(back.headers.size()) + " batches instead of " + std::to_string(batches.size());
  for (const std::string& notice : back.notices) text += "; " + notice;
  return text;
}

}  // namespace millrace::test
