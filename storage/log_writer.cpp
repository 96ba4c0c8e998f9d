#include "storage/log_writer.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "base/stream_copy.hpp"
#include "protocol/batch.hpp"

namespace millrace {

namespace {

// How often a write that came back short or interrupted is issued again, whole, before it counts as failed.
constexpr std::uint32_t write_attempts_max = 8;

CommitterConfig committer_config(const WriterStart& start) {
  CommitterConfig config;
  config.sizes = start.commit_sizes;
  config.ring_bytes = start.ring_bytes;
  config.follows = start.follows;
  return config;
}

}  // namespace

LogWriter::LogWriter(Reactor& reactor, Staging& staging, WriterOwner& owner, File tail, const WriterStart& start)
    : reactor_(reactor),
      staging_(staging),
      owner_(owner),
      epoch_(start.epoch),
      separate_sync_(start.separate_sync),
      follows_(start.follows),
      tail_(std::move(tail)),
      slot_(tail_slot_header_bytes + tail_flush_bytes_max + block_bytes),
      committer_(committer_config(start), start.next_lsn, start.next_slot),
      marks_(start.next_lsn),
      chain_(start.chain) {
  timer_.context = this;
  timer_.fire = [](Timer& timer) {
    auto& self = *static_cast<LogWriter*>(timer.context);
    self.reactor_.request(self);
  };
  for (Write& write : writes_) {
    write.writer = this;
    write.operation.context = &write;
    write.operation.on_complete = [](Operation& operation, const Completion& completion) {
      auto& done = *static_cast<Write*>(operation.context);
      done.writer->completed(done, completion.result);
    };
  }
}

LogWriter::~LogWriter() {
  reactor_.disarm(timer_);
  reactor_.withdraw(*this);
  for (std::uint64_t number = first_group_; number < next_group_; ++number)
    if (group(number).buffer) staging_.give(group(number).buffer);
}

std::uint64_t LogWriter::end_segment() {
  close_group();
  const std::uint64_t end = segment_->end;
  segment_.reset();
  return end;
}

bool LogWriter::settled(SegmentKey key) const {
  for (std::uint64_t number = first_group_; number < next_group_; ++number) {
    const Group& group = groups_[number % Committer::groups_max];
    if (group.segment && !(key < group.segment->key)) return false;
  }
  return true;
}

void LogWriter::begin_segment(SegmentKey key, SegmentHeader header) {
  MR_ASSERT(segment_ == nullptr && !open_);
  MR_ASSERT(!follows_ || header.first_lsn == marks_.marks().appended);
  header.first_lsn = marks_.marks().appended;
  if (!follows_) header.epoch = epoch_;
  std::array<std::byte, block_bytes> block;
  write_segment_header(header, block);
  prepare_segment();
  segment_ = std::move(next_segment_);
  segment_->key = key;
  segment_->header = header;
  segment_->end = block_bytes;
  chain_ = first_chain(header);
}

void LogWriter::prepare_segment() {
  if (!next_segment_) next_segment_ = std::make_shared<WriterSegment>();
}

void LogWriter::attach(File file, std::vector<std::uint64_t> borders) {
  MR_ASSERT(segment_ != nullptr && !segment_->attached && file.is_open());
  segment_->file = std::move(file);
  segment_->borders = std::move(borders);
  segment_->attached = true;
  step({.kind = CommitEvent::Kind::segment_ready});
  reactor_.request(*this);
}

void LogWriter::resume_segment(SegmentKey key, const SegmentHeader& header, File file,
                               std::vector<std::uint64_t> borders, std::uint64_t end) {
  MR_ASSERT(segment_ == nullptr && is_aligned(end, block_bytes));
  segment_ = std::make_shared<WriterSegment>();
  segment_->key = key;
  segment_->header = header;
  segment_->file = std::move(file);
  segment_->borders = std::move(borders);
  segment_->attached = true;
  segment_->end = end;
}

bool LogWriter::fits_group(std::uint64_t span) const { return open_bytes_ + span <= group_bytes_max; }

// In the order of the ring, as those who refer to it hold the oldest first.
void LogWriter::tell_reused(const GroupBuffer& buffer) {
  if (!buffer.skipped.empty()) owner_.writer_reuses(buffer.skipped);
  owner_.writer_reuses(Staging::covered(buffer));
}

LogWriter::Room LogWriter::make_room(std::uint64_t span, bool reserve) {
  MR_ASSERT(segment_ != nullptr);
  const std::uint64_t limit = segment_->header.segment_bytes - (reserve ? 0 : seal_reserve_bytes);
  if (open_) {
    if (fits_group(span) && open_offset_ + align_up(open_bytes_ + span, block_bytes) <= limit) return Room::ready;
    close_group();
  }
  const std::uint64_t bytes = group_header_bytes + span;
  if (segment_->end + align_up(bytes, block_bytes) > limit) return Room::segment_full;
  const GroupBuffer buffer = committer_.full() ? GroupBuffer{} : staging_.take(bytes);
  if (!buffer) return Room::no_memory;
  tell_reused(buffer);
  Group& opened = group(next_group_);
  opened = Group{};
  opened.buffer = buffer;
  opened.segment = segment_;
  opened.first_of_segment = segment_->end == block_bytes;
  opened.offset = open_offset_ = segment_->end;
  opened.first = marks_.marks().appended;
  opened.before = covered_chain_ = chain_;
  open_bytes_ = group_header_bytes;
  open_ = true;
  CommitEvent event{.kind = CommitEvent::Kind::group_opened, .first_of_segment = opened.first_of_segment};
  event.bytes = static_cast<std::uint32_t>(open_bytes_);
  event.group = next_group_++;
  event.end = opened.first;
  step(event);
  if (segment_->attached) step({.kind = CommitEvent::Kind::segment_ready});
  return Room::ready;
}

Bytes LogWriter::append(const BatchHeader& header, Bytes body) {
  Group& into = group(next_group_ - 1);
  const std::size_t span = batch_span(header.body_bytes);
  MR_ASSERT(open_ && body.size() == header.body_bytes && open_bytes_ + span <= into.buffer.capacity);
  MR_ASSERT(header.lsn == marks_.marks().appended.value);
  std::byte* target = into.buffer.group + open_bytes_;
  std::memcpy(target, &header, sizeof(header));
  if (!body.empty()) stream_copy(target + sizeof(header), body.data(), body.size());
  std::memset(target + sizeof(header) + body.size(), 0, span - sizeof(header) - body.size());
  open_bytes_ += span;
  staged_bytes_ += span;
  ++into.batches;
  chain_ = Chain{header.chain};
  marks_.append(marks_.marks().appended.next());
  if (resuming_) return {target, span};
  committer_.appended(static_cast<std::uint32_t>(open_bytes_), marks_.marks().appended, reactor_.now());
  reactor_.request(*this);
  return {target, span};
}

void LogWriter::close_group() {
  if (!open_) return;
  freeze_group(group(next_group_ - 1));
  step({.kind = CommitEvent::Kind::group_closed});
  reactor_.request(*this);
}

void LogWriter::freeze_group(Group& closing) {
  MR_ASSERT(open_);
  closing.bytes = open_bytes_;
  closing.after = chain_;
  closing.segment->end = closing.offset + align_up(open_bytes_, block_bytes);
  staging_.trim(closing.buffer, open_bytes_);
  open_ = false;
}

void LogWriter::move_tail() {
  close_group();
  step({.kind = CommitEvent::Kind::move_wanted});
  reactor_.request(*this);
}

void LogWriter::turn_ended() {
  if (silent_) return;
  step({.kind = CommitEvent::Kind::turn_ended, .now = reactor_.now()});
  arm_timer();
  if (durable_news_) {
    durable_news_ = false;
    owner_.writer_durable(marks_.marks().durable);
  }
}

void LogWriter::arm_timer() {
  const Nanos deadline = committer_.deadline();
  if (deadline == 0 || silent_) return;
  // A timer that fires early is cheaper than one moved with every append.
  if (!timer_.armed() || timer_.deadline > deadline) reactor_.arm(timer_, deadline);
}

void LogWriter::step(const CommitEvent& event) {
  const CommitActions actions = committer_.step(event);
  for (const CommitAction& action : actions) perform(action);
}

void LogWriter::perform(const CommitAction& action) {
  switch (action.kind) {
    case CommitAction::Kind::write_group: write_group(action); break;
    case CommitAction::Kind::write_slot:
    case CommitAction::Kind::write_end: write_slot(action); break;
    case CommitAction::Kind::durable:
      if (marks_.make_durable(action.durable)) durable_news_ = true;
      break;
    case CommitAction::Kind::failed: break;  // completed() knows the error
  }
}

// Header, padding and, for the first group, the segment's header block before it.
void LogWriter::finish_group(Group& closing, Lsn durable_upto) {
  GroupHeader header;
  header.batches = closing.batches;
  header.segment_id = closing.segment->header.segment_id;
  header.file_offset = closing.offset;
  header.epoch = epoch_;
  header.first_lsn = closing.first;
  header.chain_before = closing.before;
  header.durable_upto = durable_upto;
  header.length = closing.bytes;
  header.chain_after = closing.after;
  if (closing.given) header = *closing.given;
  else seal_group_header(header);
  MR_ASSERT(follows_ == closing.given.has_value());
  std::memcpy(closing.buffer.group, &header, sizeof(header));
  const std::uint64_t padded = align_up(closing.bytes, block_bytes);
  std::memset(closing.buffer.group + closing.bytes, 0, padded - closing.bytes);
  if (!closing.first_of_segment) return;
  SegmentHeader segment = closing.segment->header;
  write_segment_header(segment, {closing.buffer.group - block_bytes, block_bytes});
}

void LogWriter::write_group(const CommitAction& action) {
  Group& closing = group(action.group);
  if (action.closes) freeze_group(closing);
  MR_ASSERT(closing.bytes == action.to && closing.segment->attached);
  finish_group(closing, action.durable);
  closing.submitted = closing.bytes;
  closing.final = true;
  owner_.writer_submitted();
  const std::uint64_t header_block = closing.first_of_segment ? block_bytes : 0;
  Write& write = writes_[action.ticket];
  write.action = action;
  write.operation.descriptor = closing.segment->file.descriptor();
  write.operation.offset = closing.offset - header_block;
  write.operation.data = closing.buffer.group - header_block;
  write.operation.length = static_cast<std::uint32_t>(align_up(closing.bytes, block_bytes) + header_block);
  ++stats_.group_writes;
  cut_at_border(write);
  submit(write);
}

// The piece up to the next border of the file's extents; the rest goes when that is durable. A crash in between leaves a torn
// group, as any write in flight may.
void LogWriter::cut_at_border(Write& write) {
  const auto& borders = group(write.action.group).segment->borders;
  const std::uint64_t begin = write.operation.offset;
  const std::uint64_t end = begin + write.operation.length;
  const auto border = std::upper_bound(borders.begin(), borders.end(), begin);
  write.rest = border != borders.end() && *border < end ? static_cast<std::uint32_t>(end - *border) : 0;
  write.operation.length -= write.rest;
}

void LogWriter::write_slot(const CommitAction& action) {
  const bool only_end = action.kind == CommitAction::Kind::write_end;
  TailSlot slot;
  slot.number = action.slot;
  slot.epoch = epoch_;
  slot.first_lsn = action.first;
  slot.durable_end = action.durable;
  if (only_end) {
    slot.segment_id = segment_ ? segment_->header.segment_id : Id128{};
    slot.group = open_ ? open_offset_ : (segment_ ? segment_->end : block_bytes);
    slot.start = open_ ? open_offset_ + open_bytes_ : slot.group + group_header_bytes;
    slot.chain_before = chain_;
    ++stats_.end_writes;
  } else {
    Group& open = group(action.group);
    open.submitted = action.to;
    owner_.writer_submitted();
    slot.length = action.to - action.from;
    slot.segment_id = open.segment->header.segment_id;
    slot.group = open.offset;
    slot.start = open.offset + action.from;
    slot.chain_before = std::exchange(covered_chain_, chain_);
    std::memcpy(slot_.bytes().data() + tail_slot_header_bytes, open.buffer.group + action.from, slot.length);
    ++stats_.slot_writes;
  }
  write_tail_slot(slot, slot_.bytes());
  Write& write = writes_[action.ticket];
  write.action = action;
  write.operation.descriptor = tail_.descriptor();
  write.operation.offset = block_bytes + action.ring_at;
  write.operation.data = slot_.bytes().data();
  write.operation.length = static_cast<std::uint32_t>(tail_slot_span(slot.length));
  write.rest = 0;
  submit(write);
}

void LogWriter::submit(Write& write) {
  write.operation.code = OperationCode::write;
  write.operation.durable = !separate_sync_;
  if (mutant("ack_before_dsync")) write.operation.durable = false;
  write.begun = reactor_.now();
  write.syncing = false;
  write.attempts = 0;
  stats_.write_bytes += write.operation.length + write.rest;
  ++writes_in_flight_;
  reactor_.submit(write.operation);
}

void LogWriter::completed(Write& write, std::int32_t result) {
  const bool partial = !write.syncing && result >= 0 && static_cast<std::uint32_t>(result) < write.operation.length;
  // Interrupted before anything was done, or moved in part: written again whole, from the group's start, so that no
  // block is ever left to a write that ends inside it. An error is never tried again: the system may have dropped the bytes.
  bool again = partial || (result < 0 && error_from_errno(-result) == Error::would_block);
  if (mutant("short_write_ignored")) again = again && !(partial && result > 0);
  if (again && ++write.attempts < write_attempts_max) {
    stats_.short_writes += partial;
    reactor_.submit(write.operation);
    return;
  }
  if (write.rest > 0 && result >= 0 && !again) {
    write.operation.offset += write.operation.length;
    write.operation.data += write.operation.length;
    write.operation.length = write.rest;
    write.attempts = 0;
    cut_at_border(write);
    reactor_.submit(write.operation);
    return;
  }
  const bool excused = mutant("retry_failed_sync") && result < 0 && !again;
  const bool sync_next = !write.syncing && ((separate_sync_ && result >= 0 && !again) || excused);
  if (sync_next) {
    // Submitted after the write has completed: the kernel would run both at once otherwise.
    write.syncing = true;
    write.operation.code = OperationCode::sync;
    write.operation.data_only = true;
    reactor_.submit(write.operation);
    return;
  }
  --writes_in_flight_;
  const Nanos took = reactor_.now() - write.begun;
  stats_.commit_max = std::max(stats_.commit_max, took);
  stats_.commit_total += took;
  if (silent_) return;
  CommitEvent event{.kind = CommitEvent::Kind::write_done, .ticket = write.action.ticket};
  if (result < 0 || again) event.kind = CommitEvent::Kind::write_failed;
  const bool first_failure = event.kind == CommitEvent::Kind::write_failed && !committer_.failed();
  step(event);
  release_groups();
  reactor_.request(*this);
  if (first_failure) owner_.writer_failed(result < 0 ? error_from_errno(-result) : Error::io_failed);
}

void LogWriter::release_groups() {
  for (; first_group_ < committer_.first_live_group(); ++first_group_) {
    Group& done = group(first_group_);
    staging_.give(std::exchange(done.buffer, {}));
    staged_bytes_ -= done.bytes - group_header_bytes;
    const std::shared_ptr<WriterSegment> segment = std::move(done.segment);
    owner_.writer_moved(*segment, done.offset + align_up(done.bytes, block_bytes));
  }
}

}  // namespace millrace
