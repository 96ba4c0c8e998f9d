// A cursor of all streams, in the order of the log: group after group. The segment that holds a place is found by halving over the
// first blocks of the segments, which the index does not need to be there for.
#include <algorithm>
#include <cstring>

#include "base/hash.hpp"
#include "base/time.hpp"
#include "storage/group.hpp"
#include "storage/reader.hpp"
#include "storage/reader_cursor.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

Task<Reader::Step> Reader::step_log(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (!cursor.placed) {
    auto placing = place_log();
    auto placed = co_await placing;
    if (!placed) co_return fail(placed.error());
    cursor.placed = true;
  }
  if (cursor.next_lsn >= view_.durable()) co_return Step::waits;
  if (cursor.next_lsn >= view_.tail().first()) {
    cursor.in_segment = false;
    co_return give_log_from_tail(target, chunk);
  }
  if (!cursor.in_segment || cursor.segment < view_.first_kept()) {
    auto entering = enter_segment(chunk);
    co_return co_await entering;
  }
  auto scanning = scan_groups(target, chunk);
  co_return co_await scanning;
}

Result<Reader::Step> Reader::give_log_from_tail(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  while (cursor.next_lsn < view_.durable()) {
    const auto* entry = view_.tail().find(cursor.next_lsn);
    if (entry == nullptr) return Step::waits;
    auto given = give_log_batch(entry->bytes, target, chunk);
    if (!given || *given == Step::full) return given;
    ++stats_.batches_from_memory;
  }
  return Step::waits;
}

// `more`: given, or passed because nobody asked for it.
Result<Reader::Step> Reader::give_log_batch(Bytes batch, MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const auto header = load<BatchHeader>(batch);
  const bool wanted = header.kind == BatchKind::data && !(cursor.anywhere && request_.from.by == Seek::By::time &&
                                                          header.leader_time < request_.from.time);
  if (wanted) {
    if (tell_before(Day{header.day}, chunk)) return Step::full;
    if (batch.size() > target.size() - chunk.bytes) {
      if (chunk.bytes > 0) return Step::full;
      needed_ = batch.size();
      return fail(Error::too_large);
    }
    Cursor::give(chunk, target, batch, header.record_count);
    cursor.anywhere = false;
    cursor.day = Day{header.day};
  }
  cursor.next_lsn = Lsn{header.lsn + 1};
  return Step::more;
}

// ---- Finding the segment.

Task<> Reader::place_log() {
  Cursor& cursor = *cursor_;
  if (request_.from_lsn) {
    if (*request_.from_lsn > view_.appended_end()) co_return fail(Error::out_of_range);
    cursor.next_lsn = *request_.from_lsn;
    cursor.anywhere = false;
    co_return {};
  }
  switch (request_.from.by) {
    case Seek::By::latest:
      cursor.next_lsn = view_.durable();
      cursor.anywhere = false;
      co_return {};
    case Seek::By::earliest: cursor.next_lsn = Lsn{}; co_return {};
    case Seek::By::time: {
      auto finding = find_segment(Lsn{UINT64_MAX}, request_.from.time);
      auto facts = co_await finding;
      if (!facts) co_return fail(facts.error());
      cursor.next_lsn = *facts ? (**facts).first_lsn : view_.durable();
      co_return {};
    }
    case Seek::By::offset:
    case Seek::By::day_id: co_return fail(Error::invalid_argument);
  }
  co_return {};
}

// The header of a segment file, and the leader time of its first batch. Nothing when it was not begun or is not there.
Task<std::optional<Reader::SegmentFront>> Reader::read_front(SegmentKey segment) {
  auto leasing = view_.lease_buffer();
  auto lease = co_await leasing;
  if (!lease) co_return fail(lease.error());
  const MutableBytes bytes = lease->bytes().first(2 * block_bytes);
  auto reading = read_segment(segment, 0, bytes);
  auto got = co_await reading;
  if (!got && got.error() == Error::not_found) co_return std::optional<SegmentFront>{};
  if (!got) co_return fail(got.error());
  if (*got < bytes.size()) co_return std::optional<SegmentFront>{};
  auto header = read_segment_header(bytes.first(block_bytes), OpenFor::reading);
  if (!header) co_return std::optional<SegmentFront>{};
  const SegmentKey found{header->day, header->number};
  SegmentFront front{{found, header->segment_id, header->first_lsn}, 0, header->previous_length};
  auto first = read_batch_header(bytes.subspan(block_bytes + group_header_bytes));
  if (first) front.first_time = first->leader_time;
  co_return std::optional<SegmentFront>(front);
}

Task<std::vector<SegmentKey>> Reader::list_segments(Day day) {
  auto listing = Directory::list(view_.reactor(), day_path(view_.options().shard_directory, day));
  auto entries = co_await listing;
  std::vector<SegmentKey> segments;
  if (!entries && entries.error() == Error::not_found) co_return segments;
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    const auto key = parse_segment_name(day, entry.name);
    if (key && *key >= view_.first_kept()) segments.push_back(*key);
  }
  std::sort(segments.begin(), segments.end());
  co_return segments;
}

// The last segment that begins at or before `lsn`, or whose first leader time is before `time` (the batch sought may lie in it).
// The first segment of all when none does.
Task<std::optional<SegmentFacts>> Reader::find_segment(Lsn lsn, Nanos time) {
  auto before = [lsn, time](const SegmentFront& front) {
    return lsn.value != UINT64_MAX ? front.facts.first_lsn <= lsn : front.first_time < time;
  };
  std::optional<SegmentFacts> best;
  const std::vector<Day> days = view_.index().days();
  std::size_t low = 0;
  std::size_t high = days.size();
  std::optional<Day> day;
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    auto listing = list_segments(days[middle]);
    auto segments = co_await listing;
    if (!segments) co_return fail(segments.error());
    std::optional<SegmentFront> front;
    if (!segments->empty()) {
      auto reading = read_front(segments->front());
      auto read = co_await reading;
      if (!read) co_return fail(read.error());
      front = *read;
    }
    if (front && (before(*front) || !best)) best = front->facts;
    // A day without a readable segment says nothing; what is sought lies before it as far as anybody can tell.
    if (front && before(*front)) {
      day = days[middle];
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (!day) {
    // Nothing begins before it: the log's first segment.
    for (const Day first : days) {
      auto listing = list_segments(first);
      auto segments = co_await listing;
      if (!segments) co_return fail(segments.error());
      if (segments->empty()) continue;
      auto reading = read_front(segments->front());
      auto read = co_await reading;
      if (!read) co_return fail(read.error());
      if (*read) co_return std::optional<SegmentFacts>((**read).facts);
    }
    co_return std::optional<SegmentFacts>{};
  }
  auto listing = list_segments(*day);
  auto segments = co_await listing;
  if (!segments) co_return fail(segments.error());
  low = 0;
  high = segments->size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    auto reading = read_front((*segments)[middle]);
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (*read && before(**read)) {
      best = (**read).facts;
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  co_return best;
}

// The cursor goes to the segment that holds next_lsn.
Task<Reader::Step> Reader::enter_segment(ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  cursor.in_segment = false;
  std::optional<SegmentFacts> facts;
  for (const ReadView::RunPtr& run : view_.runs())
    if (run->segment().first_lsn <= cursor.next_lsn && cursor.next_lsn < run->end_lsn()) facts = run->segment();
  if (!facts) {
    auto finding = find_segment(cursor.next_lsn, 0);
    auto found = co_await finding;
    if (!found) co_return fail(found.error());
    facts = *found;
  }
  if (!facts) co_return Step::waits;
  const bool behind = facts->first_lsn > cursor.next_lsn;
  if (behind) {
    const Lsn wanted = std::exchange(cursor.next_lsn, facts->first_lsn);
    if (!cursor.anywhere) {
      chunk.notice = ReadNotice::out_of_range;
      chunk.lost_lsn = wanted;
      co_return Step::full;
    }
  }
  cursor.segment = facts->key;
  cursor.position = block_bytes;
  cursor.in_segment = true;
  // Where it ends: the next one's header says so.
  cursor.segment_end = UINT64_MAX;
  auto following = next_segment(facts->key);
  auto next = co_await following;
  if (!next) co_return fail(next.error());
  cursor.after = *next;
  if (*next) cursor.segment_end = (**next).previous_length;
  co_return Step::more;
}

Task<std::optional<Reader::SegmentFront>> Reader::next_segment(SegmentKey segment) {
  const std::vector<Day> days = view_.index().days();
  for (auto day = std::lower_bound(days.begin(), days.end(), segment.day); day != days.end(); ++day) {
    auto listing = list_segments(*day);
    auto segments = co_await listing;
    if (!segments) co_return fail(segments.error());
    auto next = std::upper_bound(segments->begin(), segments->end(), segment);
    if (next == segments->end()) continue;
    auto reading = read_front(*next);
    co_return co_await reading;
  }
  co_return std::optional<SegmentFront>{};
}

// ---- Reading groups.

Task<Reader::Step> Reader::scan_groups(MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const SegmentKey segment = cursor.segment;
  const std::uint64_t readable = view_.readable_of(segment);
  const bool open = readable != UINT64_MAX;
  const std::uint64_t end = std::min(readable, cursor.segment_end);
  if (cursor.position >= end) co_return leave_segment(chunk, open);
  auto leasing = view_.lease_buffer();
  auto lease = co_await leasing;
  if (!lease) co_return fail(lease.error());
  lease->pin(segment);
  const std::uint64_t want =
      std::min<std::uint64_t>(align_up(end, block_bytes) - cursor.position, lease->bytes().size());
  auto reading = read_segment(segment, cursor.position, lease->bytes().first(align_down(want, block_bytes)));
  auto got = co_await reading;
  if (segment < view_.first_kept()) {
    cursor.in_segment = false;
    co_return Step::more;
  }
  if (!got) co_return fail(got.error());
  Bytes bytes = lease->bytes().first(*got);
  if (bytes.empty()) co_return leave_segment(chunk, open);
  bool progressed = false;
  while (bytes.size() >= block_bytes) {
    auto group = read_group_header(bytes, cursor.position);
    if (!group || group->first_lsn > cursor.next_lsn) {
      if (progressed) break;
      co_return pass_damage(bytes, group.has_value() ? &*group : nullptr, open, chunk);
    }
    const std::uint64_t span = group_span(*group);
    if (span > bytes.size()) {
      if (progressed) break;
      auto large = give_large_group(*group, target, chunk);
      co_return co_await large;
    }
    auto step = give_group(*group, bytes, target, chunk);
    if (!step) co_return fail(step.error());
    if (*step != Step::more) co_return *step;
    progressed = true;
    cursor.position += span;
    bytes = bytes.subspan(span);
  }
  co_return Step::more;
}

Result<Reader::Step> Reader::give_group(const GroupHeader& group, Bytes bytes, MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  std::uint64_t at = group_header_bytes;
  while (at < group.length) {
    auto header = read_batch_header(bytes.subspan(at, group.length - at));
    const std::size_t span = header ? batch_span(header->body_bytes) : 0;
    bool fits = header && span <= group.length - at;
    if (fits && header->lsn >= view_.durable().value) return Step::waits;
    if (fits && header->lsn >= cursor.next_lsn.value) {
      const Bytes batch = bytes.subspan(at, span);
      fits = header->lsn == cursor.next_lsn.value &&
             hash128(batch.subspan(batch_header_bytes, header->body_bytes)) == header->body_hash;
      if (fits) {
        auto given = give_log_batch(batch, target, chunk);
        if (!given || *given == Step::full) return given;
        ++stats_.batches_from_disk;
      }
    }
    if (!fits) {
      // Without its header's lengths nobody knows where the next batch begins: the rest of the group is lost; of a bad body, the batch.
      chunk.notice = ReadNotice::data_loss;
      chunk.lost_lsn = cursor.next_lsn;
      cursor.next_lsn = header && header->lsn == cursor.next_lsn.value ? cursor.next_lsn.next() : group_end_lsn(group);
      return Step::full;
    }
    at += span;
  }
  return Step::more;
}

// A group of one batch larger than a read buffer.
Task<Reader::Step> Reader::give_large_group(GroupHeader group, MutableBytes target, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  const std::uint64_t span = group.length - group_header_bytes;
  if (span > target.size() - chunk.bytes) {
    if (chunk.bytes > 0) co_return Step::full;
    needed_ = span;
    co_return fail(Error::too_large);
  }
  AlignedMemory whole(group_span(group));
  auto reading = read_segment(cursor.segment, cursor.position, whole.bytes());
  auto got = co_await reading;
  if (cursor.segment < view_.first_kept()) co_return Step::more;
  if (!got) co_return fail(got.error());
  auto step = give_group(group, whole.bytes(), target, chunk);
  if (step && *step == Step::more) cursor.position += group_span(group);
  co_return step;
}

// No group stands where one should, or a later one does: what verifies further on is looked for.
Reader::Step Reader::pass_damage(Bytes bytes, const GroupHeader* next, bool open, ReadChunk& chunk) {
  Cursor& cursor = *cursor_;
  if (next != nullptr) {
    chunk.notice = ReadNotice::data_loss;
    chunk.lost_lsn = std::exchange(cursor.next_lsn, next->first_lsn);
    return Step::full;
  }
  if (cursor.segment_end == UINT64_MAX && all_zero(bytes.first(block_bytes))) return leave_segment(chunk, open);
  for (std::size_t at = block_bytes; at + block_bytes <= bytes.size(); at += block_bytes) {
    if (!read_group_header(bytes.subspan(at), cursor.position + at)) continue;
    cursor.position += at;
    return Step::more;
  }
  cursor.position += align_down(bytes.size(), block_bytes);
  return Step::more;
}

Reader::Step Reader::leave_segment(ReadChunk& chunk, bool open) {
  Cursor& cursor = *cursor_;
  if (open) return Step::waits;
  cursor.in_segment = false;
  if (cursor.after && cursor.after->facts.first_lsn > cursor.next_lsn) {
    chunk.notice = ReadNotice::data_loss;
    chunk.lost_lsn = std::exchange(cursor.next_lsn, cursor.after->facts.first_lsn);
    return Step::full;
  }
  // Without a successor on disk everything behind is in memory or not there yet.
  return cursor.after ? Step::more : Step::waits;
}

}  // namespace millrace
