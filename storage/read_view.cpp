#include "storage/read_view.hpp"

#include <algorithm>

#include "storage/index_file.hpp"
#include "storage/names.hpp"
#include "storage/state_load.hpp"

namespace millrace {

ReadView::ReadView(Reactor& reactor, ReadViewOptions options, const StreamSource& streams)
    : reactor_(reactor),
      options_(std::move(options)),
      streams_(streams),
      tail_(options_.tail),
      index_(std::make_unique<Index>(reactor, options_.shard_directory, options_.day_offset_seconds,
                                     options_.write_index, options_.buffered)),
      builder_(std::make_unique<IndexBuilder>(reactor)),
      repair_(std::make_unique<IndexRepair>(reactor,
                                            IndexRepairOptions{.shard_directory = options_.shard_directory,
                                                               .log_id = options_.log_id,
                                                               .shard = options_.shard,
                                                               .day_offset_seconds = options_.day_offset_seconds,
                                                               .buffered = options_.buffered},
                                            *index_, *builder_)) {
  if (options_.write_index) index_->ensure = [this](Day day) { return ensure_indexed(day); };
}

ReadView::~ReadView() = default;

// ---- What the log tells.

void ReadView::begin(const ViewStart& start) {
  closing_.reserve(2 * runs_behind_max);
  start_ = start;
  serving_ = false;
  // Closed segments that had settled stay as they are; of the others recovery tells anew.
  std::erase_if(closing_, [](const Closing& closing) { return !closing.settled; });
  std::erase_if(runs_,
                [&](const RunPtr& run) { return run == open_ || readable_of(run->segment().key) != UINT64_MAX; });
  unsettled_.clear();
  open_.reset();
  first_kept_ = start.first_kept;
  front_dropped_ = start.first_lsn > Lsn{1};
  index_->drop_before(first_kept_);
  finished_ = start.finished;
  durable_ = Lsn{};
  appended_ = start.next_lsn;
  open_readable_ = 0;
  tail_.clear(start.next_lsn);
  if (start.has_open) {
    begin_run(start.open);
    appended_ = start.open.first_lsn;
    tail_.clear(appended_);
  }
}

void ReadView::recovered(const BatchHeader& header, std::uint64_t position, Bytes bytes) {
  if (header.lsn > appended_.value) {
    // Batches between are lost.
    appended_ = Lsn{header.lsn};
    open_->skip_to(appended_);
    tail_.clear(appended_);
  }
  note(header, position);
  if (!bytes.empty() && options_.tail.ring_bytes > 0) {
    tail_.append(header, bytes, open_->segment().key, position);
    return;
  }
  open_readable_ = std::max(open_readable_, position + batch_span(header.body_bytes));
  tail_.clear(appended_);
}

void ReadView::ready(Lsn durable) {
  durable_ = ready_ = durable;
  serving_ = true;
  wake();
}

void ReadView::segment_begun(const SegmentFacts& segment) {
  MR_ASSERT(open_ == nullptr && segment.first_lsn >= appended_);
  if (segment.first_lsn > appended_) {
    appended_ = segment.first_lsn;  // what lies between is lost
    tail_.clear(appended_);
  }
  begin_run(segment);
  open_readable_ = 0;
}

void ReadView::appended(const BatchHeader& header, Bytes batch, std::uint64_t position) {
  note(header, position);
  const SegmentKey segment = open_->segment().key;
  if (options_.tail.ring_bytes > 0) tail_.append(header, batch, segment, position);
  else tail_.append_in_place(header, batch, segment, position);
}

void ReadView::memory_reused(Bytes memory) { tail_.forget_in(memory); }

void ReadView::moved_to_segment(std::uint64_t end) {
  MR_ASSERT(end >= open_readable_);
  open_readable_ = end;
}

void ReadView::durable_moved(Lsn durable) {
  MR_ASSERT(durable >= durable_ && durable <= appended_);
  durable_ = durable;
  wake();
}

void ReadView::segment_closed(std::unique_ptr<StateCapture> capture) {
  MR_ASSERT(open_ != nullptr);
  unsettled_.push_back({open_->segment().key, open_readable_});
  if (options_.write_index) closing_.push_back({open_, std::move(capture), Day{}, false});
  open_.reset();
}

void ReadView::segment_settled(SegmentKey segment) {
  std::erase_if(unsettled_, [&](const Unsettled& closed) { return !(segment < closed.key); });
  for (Closing& closing : closing_)
    if (closing.run && !(segment < closing.run->segment().key)) closing.settled = true;
  stuck_ = false;
  start_writing();
}

void ReadView::start_writing() {
  if (writing_ || repairing_ || stuck_ || closing_.empty() || !closing_.front().settled) return;
  writing_ = true;
  reactor_.spawn(write_closed());
}

void ReadView::day_finished(Day day) {
  MR_ASSERT(day >= finished_);
  finished_ = day;
  if (options_.write_index) {
    closing_.push_back({nullptr, nullptr, day, true});
    stuck_ = false;
    start_writing();
  }
  wake();
}

void ReadView::day_indexed(Day day) {
  MR_ASSERT(!options_.write_index);
  if (std::erase_if(runs_, [&](const RunPtr& run) { return run->segment().key.day == day && run != open_; }) > 0)
    ++runs_moved_;
}

void ReadView::drop_before(SegmentKey first) {
  ++drops_;
  front_dropped_ = front_dropped_ || first > first_kept_;
  first_kept_ = std::max(first_kept_, first);
  index_->drop_before(first_kept_);
  std::erase_if(runs_, [&](const RunPtr& run) { return run->segment().key < first_kept_ && run != open_; });
}

void ReadView::day_dropped(Day day) {
  ++drops_;
  index_->day_dropped(day);
}

void ReadView::forget_derived(Day day) {
  MR_ASSERT(!writing_);
  closing_.clear();
  std::erase(whole_, day);
  index_->forget(day);
  state_.reset();
  state_saved_ = {};
  state_behind_ = UINT64_MAX / 2;
}

void ReadView::lost(LostLsns range) { losses_.push_back(range); }

void ReadView::failed() {
  serving_ = false;
  wake();
}

Task<> ReadView::stop() {
  stopping_ = true;
  serving_ = false;
  wake();
  stuck_ = false;
  start_writing();
  while (writing_) co_await written_.wait();
  co_return {};
}

bool ReadView::pinned_before(SegmentKey key) const {
  return std::any_of(buffers_.begin(), buffers_.end(), [&](const auto& buffer) {
    return buffer->leased && buffer->pin.deadline > reactor_.now() && buffer->pin.segment < key;
  });
}

IndexStats ReadView::index_stats() const { return index_->stats(); }

void ReadView::wake() {
  ++moves_;
  moved_.notify();
}

std::uint64_t ReadView::readable_of(SegmentKey key) const {
  if (open_ != nullptr && open_->segment().key == key) return open_readable_;
  for (const Unsettled& closed : unsettled_)
    if (closed.key == key) return closed.readable;
  return UINT64_MAX;
}

// ---- Runs.

std::shared_ptr<OpenRun> ReadView::free_run() {
  for (const auto& run : all_runs_)
    if (run.use_count() == 1) return run;
  all_runs_.push_back(std::make_shared<OpenRun>());
  return all_runs_.back();
}

void ReadView::begin_run(const SegmentFacts& segment) {
  open_ = free_run();
  open_->begin(segment);
  runs_.push_back(open_);
  index_->day_added(segment.key.day);
}

void ReadView::note(const BatchHeader& header, std::uint64_t position) {
  MR_ASSERT(open_ != nullptr && header.lsn == appended_.value);
  open_->append(header, position);
  appended_ = appended_.next();
}

void ReadView::retire(const std::shared_ptr<OpenRun>& run) {
  std::erase_if(runs_, [&](const RunPtr& held) { return held == run; });
  ++runs_moved_;
  written_.notify();
}

// ---- Buffers.

Task<ReadView::BufferLease> ReadView::lease_buffer() {
  while (true) {
    for (auto& buffer : buffers_) {
      if (buffer->leased) continue;
      buffer->leased = true;
      co_return BufferLease(*this, *buffer);
    }
    if (buffers_.size() < read_buffers_max) {
      buffers_.push_back(std::make_unique<ReadBuffer>());
      buffers_.back()->memory = AlignedMemory(read_operation_max + 2 * block_bytes);
      continue;
    }
    co_await buffer_free_.wait();
  }
}

ReadView::BufferLease& ReadView::BufferLease::operator=(BufferLease&& other) noexcept {
  if (this != &other) {
    release();
    view_ = other.view_;
    buffer_ = std::exchange(other.buffer_, nullptr);
  }
  return *this;
}

void ReadView::BufferLease::pin(SegmentKey segment) {
  buffer_->pin = {segment, view_->reactor_.now() + segment_pin_max};
}

void ReadView::BufferLease::release() {
  if (buffer_ == nullptr) return;
  buffer_->leased = false;
  buffer_->pin = {};
  if (view_->buffer_free_.has_waiters()) view_->buffer_free_.notify();
  buffer_ = nullptr;
}

}  // namespace millrace
