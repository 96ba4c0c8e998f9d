// Reading the batches a stream's entries point to: neighbours on disk in one read, a batch larger than a buffer in pieces.
#include <algorithm>
#include <cstring>

#include "base/hash.hpp"
#include "storage/read_around.hpp"
#include "storage/reader.hpp"
#include "storage/reader_cursor.hpp"

namespace millrace {

namespace {

std::uint64_t begin_of(const RunEntry& entry) { return std::uint64_t{entry.position} * batch_align; }
std::uint64_t span_of(const RunEntry& entry) { return std::uint64_t{entry.span} * batch_align; }
std::uint64_t end_of(const RunEntry& entry) { return begin_of(entry) + span_of(entry); }

}  // namespace

// How many of the next entries one disk read covers.
std::size_t Reader::mergeable(std::size_t space) const {
  const Cursor& cursor = *cursor_;
  const auto entries = std::span(cursor.entries).subspan(cursor.entry);
  const std::uint64_t readable = view_.readable_of(cursor.segment);
  const std::uint64_t begin = align_down(begin_of(entries[0]), block_bytes);
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (const RunEntry& entry : entries) {
    bytes += span_of(entry);
    if (bytes > space || end_of(entry) > readable || end_of(entry) - begin > read_operation_max) break;
    if (count > 0 && begin_of(entry) - end_of(entries[count - 1]) > read_merge_bytes) break;
    ++count;
  }
  return count;
}

Task<Reader::Step> Reader::fetch(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (cursor.segment < view_.first_kept()) {
    cursor.forget_source();
    co_return Step::more;
  }
  const RunEntry front = cursor.entries[cursor.entry];
  if (!cursor.anywhere && front.first_offset > cursor.next) {
    auto telling = tell_gap(front.first_offset, chunk);
    co_return co_await telling;
  }
  if (span_of(front) > target.size() - chunk.bytes) {
    if (chunk.bytes > 0) co_return Step::full;
    // The length is the index's word only.
    if (cursor.found) {
      auto checking = index_was_wrong(cursor.segment.day);
      auto wrong = co_await checking;
      if (!wrong) co_return fail(wrong.error());
      if (*wrong) co_return Step::more;
    }
    needed_ = span_of(front);
    co_return fail(Error::too_large);
  }
  std::size_t count = mergeable(target.size() - chunk.bytes);
  const bool large = count == 0 && span_of(front) + block_bytes > read_operation_max;
  if (count == 0 && !large) {
    // Not in the segment's file yet: in the tail cache, or not durable either.
    const auto* entry = view_.tail().seek(cursor.stream, front.first_offset);
    if (entry == nullptr || entry->first_offset != front.first_offset) co_return Step::waits;
    const Lsn lsn = entry->lsn;
    cursor.forget_source();
    co_return give_chain(lsn, target, chunk);
  }
  if (large) {
    auto fetching = fetch_large(target, chunk);
    co_return co_await fetching;
  }
  const std::uint64_t begin = align_down(begin_of(front), block_bytes);
  const std::uint64_t end = align_up(end_of(cursor.entries[cursor.entry + count - 1]), block_bytes);
  const SegmentKey segment = cursor.segment;
  auto leasing = view_.lease_buffer();
  auto lease = co_await leasing;
  if (!lease) co_return fail(lease.error());
  lease->pin(segment);
  const std::uint64_t drops = view_.drops();
  auto reading = read_segment(segment, begin, lease->bytes().first(end - begin));
  auto got = co_await reading;
  if (segment < view_.first_kept()) co_return Step::more;  // it was cut away meanwhile: what was read means nothing
  // A file that is not there though nobody took it is damage.
  const bool missing = !got && got.error() == Error::not_found && drops == view_.drops();
  if (!got && !missing) co_return fail(got.error());
  cursor.damaged = missing ? count : 0;
  Result<Step> step = Step::more;
  if (got) step = give_entries(count, begin, lease->bytes().first(*got), target, chunk);
  if (cursor.damaged == 0) co_return step;
  *lease = ReadView::BufferLease();  // what comes now takes one itself
  auto telling = tell_damage(segment, chunk);
  co_return co_await telling;
}

/// Whether the segment's file is the one of this name still.
Task<bool> Reader::is_there(SegmentKey segment) {
  auto reading = read_front(segment);
  auto front = co_await reading;
  if (!front) co_return fail(front.error());
  co_return *front && (**front).facts.key == segment;
}

// Batches do not verify. In a directory that a server writes, its segment may have been dropped and reused under us.
Task<Reader::Step> Reader::tell_damage(SegmentKey segment, ReadChunk& chunk) {
  if (!view_.options().write_index) {
    cursor_->file = {};
    auto looking = is_there(segment);
    auto same = co_await looking;
    if (!same) co_return fail(same.error());
    // Retention takes what is oldest: while that is there, it is not what took this one.
    bool taken = !*same;
    if (taken && view_.first_kept() < segment) {
      const SegmentKey oldest = view_.first_kept();
      auto asking = is_there(oldest);
      auto kept = co_await asking;
      if (!kept) co_return fail(kept.error());
      taken = !*kept;
    }
    if (taken) {
      view_.drop_before({segment.day, segment.number + 1});
      co_return Step::more;
    }
  }
  auto checking = index_was_wrong(segment.day);
  auto wrong = co_await checking;
  if (!wrong) co_return fail(wrong.error());
  if (*wrong) co_return Step::more;
  auto losing = lose_entries(chunk);
  co_return co_await losing;
}

Reader::Step Reader::give_entries(std::size_t count, std::uint64_t begin, Bytes bytes, MutableBytes target,
                                  ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  for (std::size_t i = 0; i < count; ++i) {
    const RunEntry entry = cursor.entries[cursor.entry];
    if (!cursor.anywhere && entry.first_offset > cursor.next) return Step::more;  // a gap: told by the next look
    const auto header = verify(entry, begin, bytes);
    if (!header) {
      // What is bad behind it is told with it: no block is asked for again that the device has just refused.
      for (cursor.damaged = 1; i + cursor.damaged < count; ++cursor.damaged)
        if (verify(cursor.entries[cursor.entry + cursor.damaged], begin, bytes)) break;
      return Step::full;
    }
    const Offset end{header->first_offset + header->record_count};
    const Seek seek = cursor.anywhere ? request_.from : Seek::at_offset(cursor.next);
    if (header->lsn >= view_.durable().value) return Step::waits;
    if (!Cursor::before_seek(seek, Day{header->day}, RecordId{header->first_id + header->record_count}, end,
                             header->leader_time)) {
      if (tell_before(Day{header->day}, chunk)) return Step::full;
      cursor.give(chunk, target, bytes.subspan(begin_of(entry) - begin, span_of(entry)), header->record_count);
      ++stats_.batches_from_disk;
      cursor.anywhere = false;
      cursor.index_checked = false;
      cursor.next = end;
      cursor.day = Day{header->day};
    }
    ++cursor.entry;
  }
  return Step::more;
}

// Before anything is called lost: was it the index that led astray? Then it has been derived anew, and the cursor looks again.
Task<bool> Reader::index_was_wrong(Day day) {
  Cursor& cursor = *cursor_;
  if (std::exchange(cursor.index_checked, true)) co_return false;
  auto verifying = view_.verify_index(day);
  auto fits = co_await verifying;
  if (!fits) co_return fail(fits.error());
  if (!*fits) {
    cursor.forget_source();
    cursor.at_tail = false;
  }
  co_return !*fits;
}

// Looking for the stream failed. An index that is damaged is derived anew, once before the stream goes on.
Task<Reader::Step> Reader::mend_index(Error error) {
  if (error != Error::corrupt || cursor_->index_checked || !view_.options().write_index) co_return fail(error);
  auto checking = index_was_wrong(view_.index().damaged());
  auto checked = co_await checking;
  if (!checked) co_return fail(checked.error());
  cursor_->forget_source();
  co_return Step::more;
}

// One batch larger than a read buffer: in pieces, straight into the target.
Task<Reader::Step> Reader::fetch_large(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const RunEntry entry = cursor.entries[cursor.entry];
  const SegmentKey segment = cursor.segment;
  if (end_of(entry) > view_.readable_of(segment)) co_return Step::waits;
  auto leasing = view_.lease_buffer();
  auto lease = co_await leasing;
  if (!lease) co_return fail(lease.error());
  lease->pin(segment);
  const std::uint64_t drops = view_.drops();
  const MutableBytes whole = target.subspan(chunk.bytes, span_of(entry));
  std::size_t done = 0;
  while (done < whole.size()) {
    const std::uint64_t position = begin_of(entry) + done;
    const std::uint64_t begin = align_down(position, block_bytes);
    const std::uint64_t length =
        std::min<std::uint64_t>(align_up(end_of(entry), block_bytes) - begin, read_operation_max);
    auto reading = read_segment(segment, begin, lease->bytes().first(length));
    auto got = co_await reading;
    if (segment < view_.first_kept()) co_return Step::more;
    if (!got && got.error() == Error::not_found && drops == view_.drops()) break;
    if (!got) co_return fail(got.error());
    const std::size_t skip = position - begin;
    if (*got <= skip) break;
    const std::size_t use = std::min(*got - skip, whole.size() - done);
    std::memcpy(whole.data() + done, lease->bytes().data() + skip, use);
    done += use;
  }
  auto header = verify(entry, begin_of(entry), whole.first(done));
  if (!header) {
    cursor.damaged = 1;
    *lease = ReadView::BufferLease();
    auto telling = tell_damage(segment, chunk);
    co_return co_await telling;
  }
  if (header->lsn >= view_.durable().value) co_return Step::waits;
  ++cursor.entry;
  const Offset end{header->first_offset + header->record_count};
  const Seek seek = cursor.anywhere ? request_.from : Seek::at_offset(cursor.next);
  if (Cursor::before_seek(seek, Day{header->day}, RecordId{header->first_id + header->record_count}, end,
                          header->leader_time))
    co_return Step::more;
  if (tell_before(Day{header->day}, chunk)) {
    --cursor.entry;
    co_return Step::full;
  }
  chunk.bytes += whole.size();
  chunk.batches += 1;
  chunk.records += header->record_count;
  ++stats_.batches_from_disk;
  cursor.anywhere = false;
  cursor.next = end;
  cursor.day = Day{header->day};
  co_return Step::more;
}

// The entry's batch among `bytes`, which stand at `begin` of the segment.
Result<BatchHeader> Reader::verify(const RunEntry& entry, std::uint64_t begin, Bytes bytes) const {
  if (end_of(entry) - begin > bytes.size()) return fail(Error::corrupt);
  const Bytes batch = bytes.subspan(begin_of(entry) - begin, span_of(entry));
  auto header = read_batch_header(batch);
  if (!header) return header;
  const bool fits = header->kind == BatchKind::data && header->stream_id == cursor_->stream.value &&
                    header->first_offset == entry.first_offset.value && batch_span(header->body_bytes) == batch.size();
  if (!fits) return fail(Error::corrupt);
  if (hash128(batch.subspan(batch_header_bytes, header->body_bytes)) != header->body_hash) return fail(Error::corrupt);
  return header;
}

// The batches of the damaged entries cannot be read: their records are lost, and the cursor goes on at the next entry.
Task<Reader::Step> Reader::lose_entries(ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const Offset lost = cursor.entries[cursor.entry].first_offset;
  cursor.entry += std::exchange(cursor.damaged, 0);
  if (cursor.entry == cursor.entries.size()) {
    cursor.entries.clear();
    cursor.entry = 0;
    auto more = more_entries();
    auto read = co_await more;
    if (!read) co_return fail(read.error());
  }
  chunk.notice = ReadNotice::data_loss;
  chunk.lost_first = cursor.anywhere ? lost : cursor.next;
  cursor.anywhere = false;
  cursor.next = cursor.entries.empty() ? cursor.run_end : cursor.entries[cursor.entry].first_offset;
  cursor.index_checked = false;
  co_return Step::full;
}

// The stream goes on behind where it should. When what is missing lies before everything that is left, retention took it; else it
// is lost.
Task<Reader::Step> Reader::tell_gap(Offset found, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (!cursor.index_checked) {
    const std::vector<Day> days = view_.index().days();
    for (const Day day : days) {
      if (day < cursor.day || day > cursor.segment.day) continue;
      cursor.index_checked = false;
      auto checking = index_was_wrong(day);
      auto wrong = co_await checking;
      if (!wrong) co_return fail(wrong.error());
      if (*wrong) co_return Step::more;
    }
  }
  auto finding = view_.index().find(cursor.stream, Seek::earliest());
  auto earliest = co_await finding;
  if (!earliest) co_return fail(earliest.error());
  Offset first_left = found;
  if (*earliest) first_left = (**earliest).stream.first_offset;
  else {
    for (const ReadView::RunPtr& run : view_.runs()) {
      const std::uint32_t number = run->find(cursor.stream);
      if (number == OpenRun::none) continue;
      first_left = run->stream(number).first_offset;
      break;
    }
  }
  if (first_left >= found && view_.front_dropped()) {
    chunk.notice = ReadNotice::out_of_range;
  } else {
    chunk.notice = ReadNotice::data_loss;
    chunk.lost_first = cursor.next;
  }
  cursor.next = found;
  cursor.index_checked = false;
  co_return Step::full;
}

Task<> Reader::open_segment(SegmentKey segment) {
  Cursor& cursor = *cursor_;
  if (cursor.file.is_open() && cursor.file_segment == segment) co_return {};
  const unsigned flags = view_.options().buffered ? open_read : open_read | open_direct;
  auto opening = File::open(view_.reactor(), segment_path(view_.options().shard_directory, segment), flags);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  cursor.file = std::move(*file);
  cursor.file_segment = segment;
  co_return {};
}

// Every read of a segment's file. What the device refuses comes back as bytes that verify as nothing.
Task<std::uint32_t> Reader::read_segment(SegmentKey segment, std::uint64_t position, MutableBytes target) {
  auto opening = open_segment(segment);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  ++stats_.disk_reads;
  stats_.disk_bytes += target.size();
  File& file = cursor_->file;
  auto reading = read_around(file, position, target);
  auto got = co_await reading;
  if (!got && got.error() == Error::io_failed) {
    // So many blocks that the device may be gone. Where it still gives the segment's header, it is this place that is damaged.
    auto probing = file.read(0, target.first(block_bytes));
    auto probed = co_await probing;
    if (!probed) co_return fail(got.error());
    auto again = read_around(file, position, target, target.size() / block_bytes);
    got = co_await again;
  }
  if (!got) co_return fail(got.error());
  co_return got->bytes;
}

}  // namespace millrace
