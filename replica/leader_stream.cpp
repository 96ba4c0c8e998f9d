#include "replica/leader_stream.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "protocol/answers.hpp"
#include "storage/names.hpp"
#include "storage/opening.hpp"
#include "storage/read_view.hpp"

namespace millrace {

LeaderStream::LeaderStream(Log& log, Socket& socket, const wire::Identity& identity, std::string name)
    : log_(log), source_(log.source()), socket_(socket), identity_(identity) {
  state_.name = std::move(name);
  log_.add_listener(*this);
  for (Outgoing& buffer : buffers_) {
    buffer.stream = this;
    buffer.send.context = &buffer;
    buffer.send.done = [](OwnedSend& send, Result<>) {
      auto& done = *static_cast<Outgoing*>(send.context);
      done.busy = false;
      --done.stream->buffers_busy_;
      done.stream->buffer_freed_.notify();
      done.stream->check_ended();
    };
  }
  marks_timer_.context = this;
  marks_timer_.fire = [](Timer& timer) {
    auto& self = *static_cast<LeaderStream*>(timer.context);
    if (self.ended_) return;
    if (self.state_.streaming) self.send_marks();
    self.reactor().arm(timer, self.reactor().now() + follow_marks_interval);
  };
}

LeaderStream::~LeaderStream() {
  reactor().disarm(marks_timer_);
  if (!ended_) log_.remove_listener(*this);
}

Reactor& LeaderStream::reactor() { return socket_.reactor(); }

void LeaderStream::ask(const wire::Follow& request) {
  if (state_.streaming || request_) return cancel();  // one statement at a time, and none while bytes come
  request_ = request;
  request_id_ = request.request_id;
  state_.heard = reactor().now();
  source_.submitted_signal().notify();
  if (std::exchange(started_, true)) return;
  reactor().arm(marks_timer_, reactor().now() + follow_marks_interval);
  reactor().spawn(run());
}

void LeaderStream::reported(const wire::Durable& report) {
  state_.heard = reactor().now();
  if (report.lsn > next_lsn_) return refuse(Error::diverged, report.lsn.value);
  state_.durable = std::max(state_.durable, report.lsn);
}

void LeaderStream::cancel() {
  if (std::exchange(cancelled_, true)) return;
  source_.submitted_signal().notify();
  buffer_freed_.notify();
}

void LeaderStream::log_failed() {
  failed_ = true;
  source_.submitted_signal().notify();
}

void LeaderStream::refuse(Error error, std::uint64_t detail) {
  small_.clear();
  encode(small_, wire::Refused{request_id_, error, detail, true, error_text(error)});
  const auto sent = socket_.send(small_);
  static_cast<void>(sent);
  cancel();
}

void LeaderStream::check_ended() {
  if (ended() && on_end != nullptr) on_end(context);
}

Task<> LeaderStream::run() {
  while (!gone() && !failed_ && !state_.streaming) {
    if (!request_) {
      co_await source_.submitted_signal().wait();
      continue;
    }
    auto answering = answer(*request_);
    auto answered = co_await answering;
    request_.reset();
    if (!answered && !gone()) refuse(answered.error());
  }
  if (!gone() && !failed_) {
    auto streaming = stream();
    auto streamed = co_await streaming;
    if (!streamed && !gone()) refuse(streamed.error());
  }
  if (failed_ && !gone()) refuse(Error::not_ready);
  state_.streaming = false;
  reactor().disarm(marks_timer_);
  log_.remove_listener(*this);
  ended_ = true;
  check_ended();
  co_return Result<>{};
}

// ---- What is sent.

Task<> LeaderStream::stream() {
  while (!gone() && !failed_) {
    auto advancing = advance();
    auto advanced = co_await advancing;
    if (!advanced) co_return fail(advanced.error());
    if (*advanced || gone() || failed_) continue;
    if (log_.watermarks().durable > durable_said_) send_marks();
    co_await source_.submitted_signal().wait();
  }
  co_return Result<>{};
}

/// True when something was sent, or the place moved.
Task<bool> LeaderStream::advance() {
  if (auto live = source_.submitted(key_, group_)) {
    if (live->bytes.size() <= from_ && !live->closed) co_return false;
    auto sending = send_live(*live);
    auto sent = co_await sending;
    if (!sent) co_return fail(sent.error());
    co_return true;
  }
  if (group_ < log_.view().readable_of(key_)) {
    auto sending = send_from_disk();
    auto sent = co_await sending;
    if (!sent || *sent) co_return sent;
  }
  if (source_.newest_segment() == key_) co_return false;
  auto stepping = next_segment();
  co_return co_await stepping;
}

Task<> LeaderStream::send_live(SubmittedGroup group) {
  if (!announced_) {
    auto announcing = send_segment();
    auto announced = co_await announcing;
    if (!announced) co_return fail(announced.error());
    // Time may have passed: it is looked for again.
    co_return Result<>{};
  }
  wire::Placed placed;
  placed.request_id = request_id_;
  placed.closes = group.closed;
  placed.group = group_;
  placed.from = from_;
  placed.durable = log_.watermarks().durable;
  if (group.closed) placed.header = group.bytes.first(group_header_bytes);
  placed.batches = group.bytes.subspan(from_);
  Lsn end = next_lsn_;
  BatchWalk walk(placed.batches, end, Chain{});
  while (!walk.at_end()) static_cast<void>(walk.next_checked());
  placed.end = walk.next_lsn();
  if (group.closed) {
    group_lsn_ = placed.end;
    group_chain_ = load<GroupHeader>(placed.header).chain_after;
  }
  moved_on(group.bytes.size(), group.closed, placed.end);
  auto sending = send_placed(placed);
  co_return co_await sending;
}

void LeaderStream::moved_on(std::uint64_t group_length, bool closed, Lsn end) {
  next_lsn_ = end;
  if (!closed) {
    from_ = group_length;
    return;
  }
  group_ += align_up(group_length, block_bytes);
  from_ = group_header_bytes;
}

/// False: no group stands at the place, the segment ends here.
Task<bool> LeaderStream::send_from_disk() {
  auto reading = read_group(group_);
  auto read = co_await reading;
  if (!read && read.error() == Error::not_found) co_return false;
  if (!read) co_return fail(read.error());
  if (!announced_) {
    auto announcing = send_segment();
    auto announced = co_await announcing;
    if (!announced) co_return fail(announced.error());
  }
  const Bytes group = memory_.bytes().subspan(group_ - memory_at_);
  const auto header = load<GroupHeader>(group);
  wire::Placed placed;
  placed.request_id = request_id_;
  placed.closes = true;
  placed.group = group_;
  placed.from = from_;
  placed.end = group_end_lsn(header);
  placed.durable = log_.watermarks().durable;
  placed.header = group.first(group_header_bytes);
  placed.batches = group.subspan(from_, header.length - from_);
  group_lsn_ = placed.end;
  group_chain_ = header.chain_after;
  moved_on(header.length, true, placed.end);
  auto sending = send_placed(placed);
  auto sent = co_await sending;
  if (!sent) co_return fail(sent.error());
  co_return true;
}

/// The group at `offset` stands whole in memory_, verified. not_found = none begins there.
Task<> LeaderStream::read_group(std::uint64_t offset) {
  const std::uint64_t readable = log_.view().readable_of(key_);
  auto opening = open_segment(key_);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  for (std::size_t wanted = follow_read_bytes;;) {
    const bool there = offset >= memory_at_ && offset + block_bytes <= memory_at_ + memory_bytes_;
    if (there) {
      const Bytes bytes = memory_.bytes().subspan(offset - memory_at_, memory_at_ + memory_bytes_ - offset);
      if (all_zero(bytes.first(block_bytes))) co_return fail(Error::not_found);
      auto header = read_group_header(bytes, offset);
      if (!header) co_return fail(Error::corrupt);
      if (group_span(*header) <= bytes.size()) co_return check_group(*header, bytes.first(group_span(*header)));
      wanted = std::max<std::size_t>(follow_read_bytes, group_span(*header));
      if (memory_at_ == offset && memory_bytes_ < wanted && memory_.size() >= wanted) co_return fail(Error::corrupt);
    }
    if (memory_.size() < wanted) memory_ = AlignedMemory(wanted);
    memory_at_ = offset;
    memory_bytes_ = 0;
    const std::uint64_t most = readable == UINT64_MAX ? memory_.size() : std::min(memory_.size(), readable - offset);
    auto reading = file_.read(offset, memory_.bytes().first(align_up(most, block_bytes)));
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    memory_bytes_ = align_down(std::min<std::uint64_t>(*read, most), block_bytes);
    if (memory_bytes_ == 0) co_return fail(Error::not_found);
  }
}

Task<> LeaderStream::open_segment(SegmentKey key) {
  if (file_.is_open() && open_key_ == key) co_return Result<>{};
  auto opening = File::open(reactor(), segment_path(log_.options().directory, key),
                            open_read | direct_flag(log_.options().buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  file_ = std::move(*file);
  open_key_ = key;
  memory_bytes_ = 0;
  co_return Result<>{};
}

Task<> LeaderStream::send_segment() {
  auto reading = read_header(key_);
  auto header = co_await reading;
  if (!header) co_return fail(header.error());
  alignas(8) std::array<std::byte, block_bytes> block;
  SegmentHeader again = *header;
  write_segment_header(again, block);
  small_.clear();
  encode(small_, wire::SegmentBegun{request_id_, key_.day, key_.number, block});
  announced_ = true;
  while (!gone()) {
    auto sent = socket_.send(small_);
    if (sent) break;
    if (sent.error() != Error::retry_later) co_return fail(Error::connection_lost);
    co_await socket_.progress().wait();
  }
  co_return Result<>{};
}

/// The place moves to the segment behind, which says that this one ends here.
Task<bool> LeaderStream::next_segment() {
  auto looking = segment_after(key_);
  auto next = co_await looking;
  if (!next) co_return fail(next.error());
  if (!*next) co_return false;
  auto reading = read_header(**next);
  auto header = co_await reading;
  if (!header) co_return fail(header.error());
  // The end of a closed segment may still be on its way to the file: neither in memory nor readable for a moment.
  if (header->previous_length > group_ && log_.view().readable_of(key_) != UINT64_MAX) co_return false;
  if (header->previous_length != group_ || from_ != group_header_bytes) co_return fail(Error::data_loss);
  key_ = **next;
  group_ = block_bytes;
  announced_ = false;
  co_return true;
}

Task<std::optional<SegmentKey>> LeaderStream::segment_after(SegmentKey key) {
  std::optional<SegmentKey> after;
  const auto newest = source_.newest_segment();
  auto listing = list_days(reactor(), log_.options().directory);
  auto days = co_await listing;
  if (!days) co_return fail(days.error());
  for (const Day day : *days) {
    if (day < key.day || !newest || newest->day < day) continue;
    auto listing_day = list_day(reactor(), log_.options().directory, day);
    auto files = co_await listing_day;
    if (!files) co_return fail(files.error());
    for (const std::uint32_t number : files->segments) {
      const SegmentKey found{day, number};
      if (!(key < found) || *newest < found) continue;
      after = found;
      co_return after;
    }
  }
  // The newest one may have no file yet.
  if (newest && key < *newest) after = *newest;
  co_return after;
}

Task<> LeaderStream::send_placed(wire::Placed placed) {
  state_.sent = placed.end;
  durable_said_ = std::max(durable_said_, placed.durable);
  if (placed.batches.size() < follow_own_bytes) {
    small_.clear();
    encode(small_, placed);
    auto sent = socket_.send(small_);
    if (sent) co_return Result<>{};
    if (sent.error() != Error::retry_later) co_return fail(Error::connection_lost);
  }
  // What it points to may go while this waits: it is copied first.
  FrameOutput frame;
  encode(frame, placed);
  auto taking = take_buffer();
  auto taken = co_await taking;
  if (!taken) co_return fail(taken.error());
  Outgoing& buffer = **taken;
  buffer.frame = std::move(frame);
  buffer.send.bytes = buffer.frame;
  while (!gone()) {
    auto sent = socket_.send_owned(buffer.send);
    if (sent) {
      buffer.busy = true;
      ++buffers_busy_;
      co_return Result<>{};
    }
    if (sent.error() != Error::retry_later) co_return fail(Error::connection_lost);
    co_await socket_.progress().wait();
  }
  co_return fail(Error::cancelled);
}

Task<LeaderStream::Outgoing*> LeaderStream::take_buffer() {
  while (!gone()) {
    for (Outgoing& buffer : buffers_)
      if (!buffer.busy) co_return &buffer;
    co_await buffer_freed_.wait();
  }
  co_return fail(Error::cancelled);
}

void LeaderStream::send_marks() {
  wire::Marks marks;
  marks.request_id = request_id_;
  marks.durable = durable_said_ = log_.watermarks().durable;
  marks.group_lsn = group_lsn_;
  marks.group_chain = group_chain_;
  marks.wall_time = reactor().wall_now();
  FrameOutput frame;
  encode(frame, marks);
  // A full queue tells the follower enough: what is in it carries marks too.
  const auto sent = socket_.send(frame);
  static_cast<void>(sent);
}

}  // namespace millrace
