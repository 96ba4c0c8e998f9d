#include "server/read_stream.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/shard.hpp"
#include "storage/read_view.hpp"

namespace millrace {

namespace {

constexpr Offset no_end{std::numeric_limits<std::uint64_t>::max()};

Seek seek_of(const wire::Position& position) {
  switch (position.kind) {
    case wire::PositionKind::latest: return Seek::latest();
    case wire::PositionKind::offset: return {.by = Seek::By::offset, .offset = Offset{position.value}};
    case wire::PositionKind::time: return {.by = Seek::By::time, .time = static_cast<Nanos>(position.value)};
    case wire::PositionKind::day: return {.by = Seek::By::day_id, .day = position.day, .id = RecordId{position.value}};
    default: return Seek::earliest();
  }
}

bool has_type(const BodyView& body, std::uint16_t type) {
  for (std::uint32_t record = 0; record < body.count(); record++)
    if (body.type(record) == type) return true;
  return false;
}

ReadRequest request_of(const wire::Read& read) {
  ReadRequest request;
  request.stream = read.stream;
  request.from = seek_of(read.from);
  return request;
}

}  // namespace

ReadStream::ReadStream(Connection& connection, Shard& shard, const wire::Read& request)
    : connection_(connection), shard_(shard), request_(request), reader_(shard.view(), request_of(request)) {
  grant(request.credit);
}

ReadStream::~ReadStream() {
  // Empty after an orderly end; a simulated power cut takes a stream apart in the middle of a read.
  give_memory_back();
}

Reactor& ReadStream::reactor() { return shard_.reactor(); }

void ReadStream::start() { reactor().spawn(run()); }

void ReadStream::grant(std::uint64_t granted) {
  credit_.raise(std::min(granted, credit_.used() + read_credit_bytes_max));
  changed_.notify();
}

void ReadStream::cancel() {
  if (std::exchange(cancelled_, true)) return;
  reader_.cancel();
  changed_.notify();
  shard_.view().moved().notify();
  connection_.core().read_memory_freed().notify();
  connection_.chunk_ended().notify();
}

bool ReadStream::gone() const { return cancelled_ || connection_.ending(); }

Task<> ReadStream::run() {
  find_end();
  auto following = follow_log();
  auto followed = co_await following;
  if (!followed) error_ = shard_.told(followed.error());
  // A follower may be behind what another node has shown already.
  if (error_ == Error::out_of_range && !begun_ && shard_.log().options().follow) error_ = Error::not_ready;
  if (cancelled_) error_ = Error::cancelled;
  while (under_way_) co_await changed_.wait();
  give_memory_back();
  if (!connection_.ending())
    connection_.answer(wire::ReadEnd{request_.request_id, static_cast<std::uint16_t>(error_), next_, detail_});
  ended_ = true;
  connection_.read_ended();
  co_return Result<>();
}

/// Where the read ends as far as offsets tell; times and days are seen in the batches.
void ReadStream::find_end() {
  auto info = shard_.log().find_stream(request_.stream);
  Offset now = info ? info->next_offset : Offset{};
  stop_at_ = request_.follow ? no_end : now;
  if (request_.until.kind == wire::PositionKind::offset) stop_at_ = std::min(stop_at_, Offset{request_.until.value});
  if (request_.until.kind == wire::PositionKind::latest) stop_at_ = std::min(stop_at_, now);
  if (request_.until.kind == wire::PositionKind::earliest) stop_at_ = Offset{};
}

Task<> ReadStream::follow_log() {
  bool known = shard_.log().find_stream(request_.stream).has_value();
  if (known && request_.until.kind == wire::PositionKind::earliest) co_return Result<>();  // nothing is before it
  while (!gone() && !at_end_) {
    while (credit_.left() == 0 && !gone()) co_await changed_.wait();
    Lsn seen = shard_.view().durable();
    auto fetching = next_chunk();
    auto fetched = co_await fetching;
    if (gone()) break;
    if (!fetched && fetched.error() == Error::too_large && reader_.needed() + frame_header_bytes <= frame_bytes_max)
      continue;
    if (!fetched) co_return fetched;
    std::size_t bytes = keep_wanted(memory_.subspan(frame_header_bytes, chunk_.bytes));
    if (!begun_) {
      bool at_offset = request_.from.kind == wire::PositionKind::offset;
      // A read that begins with a loss begins where the loss does, and one before what is kept where it was asked for.
      Offset first = chunk_.notice == ReadNotice::data_loss ? chunk_.lost_first : chunk_.next_offset;
      if (bytes != 0) first = Offset{load<BatchHeader>(memory_, frame_header_bytes).first_offset};
      say_begin(at_offset ? Offset{request_.from.value} : first);
    }
    if (bytes != 0) {
      note_covered(memory_.subspan(frame_header_bytes, bytes));
      if (request_.filter_type) bytes = drop_unwanted(memory_.subspan(frame_header_bytes, bytes));
      auto sending = send_batches(bytes);
      auto sent = co_await sending;
      if (!sent) co_return sent;
    }
    if (at_end_ || gone()) break;
    next_ = chunk_.next_offset;
    say_notice(chunk_);
    if (next_ >= stop_at_) break;
    if (chunk_.notice != ReadNotice::caught_up) continue;
    if (!request_.follow) break;
    give_memory_back();
    auto waiting = wait_for_more(seen);
    (void)co_await waiting;
  }
  co_return Result<>();
}

Task<> ReadStream::wait_for_more(Lsn seen) {
  ReadView& view = shard_.view();
  if (view.durable() == seen && !gone()) co_await view.moved().wait();
  co_return Result<>();
}

/// Fills chunk_ and the memory behind a frame header's place.
Task<> ReadStream::next_chunk() {
  std::size_t wanted = frame_header_bytes + std::max(read_chunk_bytes, reader_.needed());
  if (memory_.size() < wanted) give_memory_back();
  while (memory_.empty() && !gone()) {
    if (!connection_.begin_chunk()) {
      co_await connection_.chunk_ended().wait();
      continue;
    }
    memory_ = connection_.core().take_read_memory(wanted);
    if (!memory_.empty()) break;
    connection_.end_chunk();
    co_await connection_.core().read_memory_freed().wait();
  }
  if (gone()) co_return fail(Error::cancelled);
  auto reading = reader_.next(memory_.subspan(frame_header_bytes));
  auto chunk = co_await reading;
  if (!chunk) co_return fail(chunk.error());
  chunk_ = *chunk;
  co_return Result<>();
}

bool ReadStream::is_past_end(const BatchHeader& header) const {
  if (header.first_offset >= stop_at_.value) return true;
  const wire::Position& until = request_.until;
  if (until.kind == wire::PositionKind::time) return header.leader_time >= static_cast<Nanos>(until.value);
  if (until.kind != wire::PositionKind::day) return false;
  return header.day > until.day.value || (header.day == until.day.value && header.first_id >= until.value);
}

/// Bytes of the batches in front of the end; sets at_end_ when the end stands among them.
std::size_t ReadStream::keep_wanted(Bytes batches) {
  std::size_t at = 0;
  while (at < batches.size()) {
    auto header = load<BatchHeader>(batches, at);
    if (is_past_end(header)) {
      at_end_ = true;
      break;
    }
    at += batch_span(header.body_bytes);
  }
  return at;
}

/// Which offsets the next batches frame speaks of: those of `batches`, whatever the filter leaves of them.
void ReadStream::note_covered(Bytes batches) {
  std::size_t last = 0;
  for (std::size_t at = 0; at < batches.size(); at += batch_span(load<BatchHeader>(batches, at).body_bytes)) last = at;
  auto header = load<BatchHeader>(batches, last);
  covered_from_ = Offset{load<BatchHeader>(batches).first_offset};
  next_ = Offset{header.first_offset + header.record_count};
}

/// Moves the batches that have a record of the wanted type to the front; returns their bytes. One whose records cannot be
/// told stays: the client judges it.
std::size_t ReadStream::drop_unwanted(MutableBytes batches) {
  std::size_t kept = 0;
  for (std::size_t at = 0; at < batches.size();) {
    auto header = load<BatchHeader>(batches, at);
    std::size_t span = batch_span(header.body_bytes);
    auto body = BodyView::parse(Bytes(batches).subspan(at + batch_header_bytes, header.body_bytes), header);
    if (!body || has_type(*body, request_.type)) {
      if (kept != at) std::memmove(batches.data() + kept, batches.data() + at, span);
      kept += span;
    }
    at += span;
  }
  return kept;
}

Task<> ReadStream::send_batches(std::size_t bytes) {
  Bytes batches = memory_.subspan(frame_header_bytes, bytes);
  auto info = shard_.log().find_stream(request_.stream);
  wire::Batches message{request_.request_id, covered_from_, next_, info ? info->next_offset : next_, batches};
  write_frame_header(memory_, wire::batches_header(message));
  credit_.spend(bytes);

  sending_.bytes = memory_.first(frame_header_bytes + bytes);
  sending_.context = this;
  sending_.done = [](OwnedSend& self, Result<>) {
    auto& read = *static_cast<ReadStream*>(self.context);
    read.under_way_ = false;
    read.connection_.chunk_taken();
    read.changed_.notify();
  };
  while (true) {
    auto queued = connection_.socket().send_owned(sending_);
    if (queued) break;
    if (queued.error() != Error::retry_later) co_return fail(Error::cancelled);
    co_await connection_.socket().progress().wait();
  }
  under_way_ = true;
  connection_.chunk_sending();
  connection_.core().counters().bytes_out += sending_.bytes.size();
  while (under_way_) co_await changed_.wait();
  co_return Result<>();
}

void ReadStream::say_begin(Offset from) {
  begun_ = true;
  auto info = shard_.log().find_stream(request_.stream);
  connection_.answer(wire::ReadBegin{request_.request_id, from, info ? info->next_offset : from,
                                     info ? info->first_offset : Offset{}});
}

void ReadStream::say_notice(const ReadChunk& chunk) {
  wire::Notice notice;
  notice.request_id = request_.request_id;
  notice.next = chunk.next_offset.value;
  switch (chunk.notice) {
    case ReadNotice::day_finished:
      notice.kind = wire::NoticeKind::day_finished;
      notice.first = chunk.day.value;
      break;
    case ReadNotice::data_loss:
      notice.kind = wire::NoticeKind::data_loss;
      notice.first = chunk.lost_first.value;
      break;
    case ReadNotice::out_of_range:
      notice.kind = wire::NoticeKind::out_of_range;
      notice.first = request_.from.kind == wire::PositionKind::offset ? request_.from.value : 0;
      break;
    default: return;
  }
  connection_.answer(notice);
}

void ReadStream::give_memory_back() {
  if (memory_.empty()) return;
  connection_.core().give_read_memory_back(memory_);
  memory_ = {};
  connection_.end_chunk();
}

}  // namespace millrace
