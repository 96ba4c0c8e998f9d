#include "storage/reader.hpp"

#include <cstring>

#include "storage/reader_cursor.hpp"

namespace millrace {

void Reader::Cursor::give(ReadChunk& chunk, MutableBytes target, Bytes batch, std::uint32_t records) {
  std::memcpy(target.data() + chunk.bytes, batch.data(), batch.size());
  chunk.bytes += batch.size();
  chunk.batches += 1;
  chunk.records += records;
}

bool Reader::Cursor::before_seek(const Seek& seek, Day day, RecordId end_id, Offset end, Nanos leader_time) {
  switch (seek.by) {
    case Seek::By::offset: return end <= seek.offset;
    case Seek::By::time: return leader_time < seek.time;
    case Seek::By::day_id: return day < seek.day || (day == seek.day && end_id <= seek.id);
    case Seek::By::earliest:
    case Seek::By::latest: return false;
  }
  return false;
}

Reader::Reader(ReadView& view, const ReadRequest& request)
    : view_(view), request_(request), cursor_(std::make_unique<Cursor>()) {
  if (request.stream) cursor_->stream = *request.stream;
}

Reader::~Reader() = default;

void Reader::cancel() {
  cancelled_ = true;
  view_.moved().notify();
}

Task<ReadChunk> Reader::next(MutableBytes target) {
  ReadChunk chunk;
  needed_ = 0;
  while (true) {
    if (cancelled_) co_return fail(Error::cancelled);
    if (view_.stopping()) co_return fail(Error::not_ready);
    if (!view_.serving()) {
      if (!request_.follow) co_return fail(Error::not_ready);
      co_await view_.moved().wait();
      continue;
    }
    const std::uint64_t moves = view_.moves();
    const std::uint64_t drops = view_.drops();
    auto stepping = request_.stream ? step_stream(target, chunk) : step_log(target, chunk);
    auto step = co_await stepping;
    if (!step && step.error() == Error::not_found && drops != view_.drops()) {
      // Retention took what was being looked at: the cursor looks for what is left.
      cursor_->forget_source();
      cursor_->in_segment = false;
      continue;
    }
    if (!step && chunk.bytes == 0) co_return fail(step.error());
    // An error behind batches that were read comes again at the next call.
    if (!step || *step == Step::full) break;
    if (*step == Step::more) continue;
    if (tell_finished(chunk) || chunk.bytes > 0) break;
    if (!request_.follow) {
      chunk.notice = ReadNotice::caught_up;
      break;
    }
    // The step may have ended turns ago: what moved since would not wake us.
    if (moves == view_.moves()) co_await view_.moved().wait();
  }
  finish(chunk);
  co_return chunk;
}

void Reader::finish(ReadChunk& chunk) const {
  chunk.next_offset = cursor_->next;
  chunk.next_lsn = cursor_->next_lsn;
}

// A batch of `day` comes next: a day that was being read is complete then, and is told first.
bool Reader::tell_before(Day day, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (cursor.day.value == 0 || cursor.day >= day || cursor.day <= cursor.told) return false;
  return tell(cursor.day, chunk);
}

// Nothing more is there: the last complete day is told, unless it was complete before this reader came to it.
bool Reader::tell_finished(ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const Day finished = view_.finished();
  const bool reading = cursor.day.value != 0 || cursor.waited;
  cursor.waited = true;
  if (!reading) cursor.told = finished;
  if (finished <= cursor.told || finished < cursor.day) return false;
  return tell(finished, chunk);
}

bool Reader::tell(Day day, ReadChunk& chunk) {
  cursor_->told = day;
  chunk.notice = ReadNotice::day_finished;
  chunk.day = day;
  return true;
}

}  // namespace millrace
