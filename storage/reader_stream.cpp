// A cursor of one stream. What the tail cache holds for certain is given from there; else the index, or a run in memory, says where
// the stream's batches stand, and neighbours on disk are read together.
#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "storage/reader.hpp"
#include "storage/reader_cursor.hpp"

namespace millrace {

namespace {

constexpr std::size_t entries_ahead_max = 256;
constexpr std::uint32_t walk_step = 16 * 1024;  // entries of a run in memory passed in one turn

}  // namespace

Task<Reader::Step> Reader::step_stream(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (!cursor.placed) {
    auto placed = place();
    if (!placed) co_return fail(placed.error());
  }
  const StreamBounds bounds = view_.streams().stream_bounds(cursor.stream);
  if (bounds.first_kept > cursor.next) {
    cursor.next = bounds.first_kept;
    cursor.forget_source();
    cursor.at_tail = false;
    if (!cursor.anywhere) {
      chunk.notice = ReadNotice::out_of_range;
      co_return Step::full;
    }
  }
  if (auto given = give_from_tail(target, chunk)) {
    if (!cursor.gap) co_return *given;
    auto telling = tell_gap(*std::exchange(cursor.gap, std::nullopt), chunk);
    co_return co_await telling;
  }
  if (cursor.entry == cursor.entries.size()) {
    auto locating = locate();
    auto located = co_await locating;
    if (!located) {
      auto mending = mend_index(located.error());
      co_return co_await mending;
    }
    if (!*located) {
      cursor.at_tail = true;
      cursor.last = {};
      co_return Step::more;
    }
  }
  auto fetching = fetch(target, chunk);
  auto fetched = co_await fetching;
  if (!cursor.gap) co_return fetched;
  auto telling = tell_gap(*std::exchange(cursor.gap, std::nullopt), chunk);
  co_return co_await telling;
}

Result<> Reader::place() {
  Cursor& cursor = *cursor_;
  const StreamBounds bounds = view_.streams().stream_bounds(cursor.stream);
  if (!bounds.known) return fail(Error::unknown_stream);
  if (request_.from.by == Seek::By::earliest && !view_.front_dropped()) {
    // Nothing was taken away at the front: what lacks there is lost, and that is told.
    cursor.next = bounds.first();
    cursor.anywhere = false;
  } else if (request_.from.by == Seek::By::offset) {
    if (request_.from.offset > bounds.next) return fail(Error::out_of_range);
    cursor.next = request_.from.offset;
    cursor.anywhere = false;
  } else if (request_.from.by == Seek::By::latest) {
    // Behind what is durable: batches that are not yet will be given.
    cursor.next = bounds.next;
    const TailCache& tail = view_.tail();
    for (const auto* entry = tail.newest(cursor.stream); entry != nullptr && entry->lsn >= view_.durable();
         entry = tail.find(entry->previous_in_stream))
      cursor.next = entry->first_offset;
    cursor.at_tail = true;
    cursor.scanned = view_.durable();
    cursor.anywhere = false;
  }
  cursor.placed = true;
  return {};
}

// Nothing when the tail cache cannot answer for certain.
std::optional<Result<Reader::Step>> Reader::give_from_tail(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const TailCache& tail = view_.tail();
  if (cursor.at_tail) {
    if (const auto* last = tail.find(cursor.last)) return give_chain(last->next_in_stream, target, chunk);
    if (cursor.scanned >= tail.first()) {
      Lsn from{};
      for (const auto* entry = tail.newest(cursor.stream); entry != nullptr && entry->lsn >= cursor.scanned;
           entry = tail.find(entry->previous_in_stream))
        from = entry->lsn;
      return give_chain(from, target, chunk);
    }
    cursor.at_tail = false;  // it fell behind what memory holds
  }
  if (cursor.anywhere) return std::nullopt;
  const auto* entry = tail.seek(cursor.stream, cursor.next);
  if (entry == nullptr) return std::nullopt;
  cursor.forget_source();
  cursor.scanned = entry->lsn;
  cursor.last = {};
  return give_chain(entry->lsn, target, chunk);
}

Result<Reader::Step> Reader::give_chain(Lsn from, MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const TailCache& tail = view_.tail();
  cursor.at_tail = true;
  for (Lsn lsn = from; lsn.value != 0;) {
    const auto& entry = *tail.find(lsn);
    if (entry.lsn >= view_.durable()) {
      cursor.scanned = std::max(cursor.scanned, view_.durable());
      return Step::waits;
    }
    const bool passed = cursor.anywhere
                            ? Cursor::before_seek(request_.from, entry.day, entry.first_id.next(entry.record_count),
                                                  entry.end_offset(), entry.leader_time)
                            : entry.end_offset() <= cursor.next;
    if (!passed) {
      if (!cursor.anywhere && entry.first_offset > cursor.next) {
        // Lost, or taken by retention: the index tells which.
        cursor.gap = entry.first_offset;
        cursor.scanned = lsn;
        cursor.last = {};
        return Step::full;
      }
      // The memory is the groups' own: what it holds must be this batch still.
      MR_ASSERT(load<BatchHeader>(entry.bytes).lsn == entry.lsn.value);
      if (tell_before(entry.day, chunk)) return Step::full;
      if (entry.bytes.size() > target.size() - chunk.bytes) {
        if (chunk.bytes > 0) return Step::full;
        needed_ = entry.bytes.size();
        return fail(Error::too_large);
      }
      cursor.give(chunk, target, entry.bytes, entry.record_count);
      ++stats_.batches_from_memory;
      cursor.anywhere = false;
      cursor.next = entry.end_offset();
      cursor.day = entry.day;
    }
    cursor.last = lsn;
    cursor.scanned = lsn.next();
    lsn = entry.next_in_stream;
  }
  cursor.scanned = view_.appended_end();
  const Offset next = view_.streams().stream_bounds(cursor.stream).next;
  if (!cursor.anywhere && cursor.next < next && view_.skips_are_durable()) cursor.gap = next;
  return Step::waits;
}

// ---- Where the stream goes on: fills entries. False when everything of it below `scanned` was given.

Task<bool> Reader::locate() {
  Cursor& cursor = *cursor_;
  cursor.entries.clear();
  cursor.entry = 0;
  if (cursor.segment < view_.first_kept()) cursor.forget_source();
  auto more = more_entries();
  auto read = co_await more;
  if (!read) co_return fail(read.error());
  if (!cursor.entries.empty()) co_return true;

  cursor.forget_source();
  if (!cursor.anywhere) {
    // What is in memory needs no look at the disk.
    auto looking = locate_in_runs();
    auto there = co_await looking;
    if (!there) co_return fail(there.error());
    if (*there && cursor.entries[0].first_offset <= cursor.next) co_return true;
    if (!*there && cursor.next >= view_.streams().stream_bounds(cursor.stream).next) co_return false;
    cursor.forget_source();
  }
  auto searching = locate_on_disk();
  auto found = co_await searching;
  if (!found) co_return fail(found.error());
  if (*found) co_return true;
  auto looking = locate_in_runs();
  co_return co_await looking;
}

Task<bool> Reader::locate_on_disk() {
  Cursor& cursor = *cursor_;
  const Seek seek = cursor.anywhere ? request_.from : Seek::at_offset(cursor.next);
  while (true) {
    const std::uint64_t moved = view_.runs_moved();
    auto finding = view_.index().find(cursor.stream, seek);
    auto found = co_await finding;
    if (!found) co_return fail(found.error());
    if (!*found) {
      // A run that went from memory to disk meanwhile was seen in neither.
      if (moved != view_.runs_moved()) continue;
      co_return false;
    }
    auto placing = view_.index().find_entry(**found, seek);
    auto entry = co_await placing;
    if (!entry) co_return fail(entry.error());
    cursor.found = **found;
    cursor.found_next = *entry;
    cursor.segment = cursor.found->segment;
    cursor.run_end = cursor.found->stream.end_offset;
    auto more = more_entries();
    auto read = co_await more;
    if (!read) co_return fail(read.error());
    co_return true;
  }
}

Task<bool> Reader::locate_in_runs() {
  Cursor& cursor = *cursor_;
  const Seek seek = cursor.anywhere ? request_.from : Seek::at_offset(cursor.next);
  const std::vector<ReadView::RunPtr> runs = view_.runs();
  const Lsn appended = view_.appended_end();
  for (const ReadView::RunPtr& run : runs) {
    if (run->segment().key < view_.first_kept()) continue;
    const std::uint32_t number = run->find(cursor.stream);
    if (number == OpenRun::none) continue;
    const RunStream& part = run->stream(number);
    const Day day = run->segment().key.day;
    const RecordId end_id = part.first_id.next(part.end_offset.value - part.first_offset.value);
    if (Cursor::before_seek(seek, day, end_id, part.end_offset, part.last_time)) continue;
    // The last entry that is not behind the place sought.
    Offset offset = part.first_offset;
    if (seek.by == Seek::By::offset) offset = seek.offset;
    if (seek.by == Seek::By::day_id && day == seek.day && seek.id > part.first_id)
      offset = part.first_offset.next(seek.id.value - part.first_id.value);
    std::uint32_t entry = run->first_entry(number);
    for (std::uint32_t walked = 1;; ++walked) {
      const std::uint32_t after = run->next_entry(entry);
      if (after == OpenRun::none) break;
      if (seek.by == Seek::By::time ? run->entry(entry).leader_time >= seek.time
                                    : run->entry(after).first_offset > offset)
        break;
      entry = after;
      if (walked % walk_step == 0) co_await Yield{};
    }
    cursor.run = run;
    cursor.run_next = entry;
    cursor.segment = run->segment().key;
    auto more = more_entries();
    auto read = co_await more;
    if (!read) co_return fail(read.error());
    co_return true;
  }
  cursor.scanned = appended;
  co_return false;
}

Task<> Reader::more_entries() {
  Cursor& cursor = *cursor_;
  if (cursor.run) {
    while (cursor.run_next != OpenRun::none && cursor.entries.size() < entries_ahead_max) {
      cursor.entries.push_back(cursor.run->entry(cursor.run_next));
      cursor.run_next = cursor.run->next_entry(cursor.run_next);
    }
    cursor.run_end = cursor.run->stream(cursor.run->find(cursor.stream)).end_offset;  // an open run grows
  } else if (cursor.found && cursor.found_next < cursor.found->stream.entries) {
    const FoundRun run = *cursor.found;
    const auto count = std::min<std::size_t>(run.stream.entries - cursor.found_next, entries_ahead_max);
    cursor.entries.resize(count);
    auto reading = view_.index().read_entries(run, cursor.found_next, cursor.entries);
    auto read = co_await reading;
    if (!read) {
      cursor.entries.clear();
      co_return fail(read.error());
    }
    cursor.found_next += static_cast<std::uint32_t>(count);
  }
  co_return {};
}

}  // namespace millrace
