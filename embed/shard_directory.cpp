#include "embed/shard_directory.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "storage/index_file.hpp"
#include "storage/names.hpp"
#include "storage/read_around.hpp"
#include "storage/state_load.hpp"

namespace millrace {

namespace {

constexpr std::size_t feed_bytes = 2 * MiB;
constexpr std::size_t ring_bytes = 4 * MiB;  // more than a tail's pending bytes can be
constexpr int scans_max = 4;                 // of a segment that grows under the scan

std::string shard_path(const std::string& directory, ShardIndex shard) {
  std::array<char, 24> name{};
  std::snprintf(name.data(), name.size(), "/shard-%02u", shard.value);
  return directory + name.data();
}

}  // namespace

ShardDirectory::ShardDirectory(Reactor& reactor, const DirectoryOptions& options, const NodeSlot& node,
                               const ShardSlot& slot)
    : reactor_(reactor),
      options_(options),
      node_(node),
      slot_(slot),
      directory_(shard_path(options.directory, slot.shard)),
      tables_(std::make_unique<Tables>()),
      buffer_(feed_bytes) {
  ReadViewOptions view;
  view.shard_directory = directory_;
  view.log_id = node.log_id;
  view.shard = slot.shard;
  view.day_offset_seconds = node.day_offset_seconds;
  view.buffered = options.buffered;
  view.write_index = false;
  view.tail = {.ring_bytes = ring_bytes, .batches_max = 16 * 1024};
  view_ = std::make_unique<ReadView>(reactor, view, *this);
  facts_.shard = slot.shard;
  facts_.epoch = slot.epoch;
}

StreamBounds ShardDirectory::stream_bounds(StreamId stream) const {
  const std::uint32_t number = tables_->streams().find(stream);
  if (number == Catalogue::none || !tables_->streams().at(number).exists()) return {};
  const Stream& known = tables_->streams().at(number);
  const auto lost = lost_upto_.find(stream);
  const Offset next = lost == lost_upto_.end() ? known.next_offset : std::max(known.next_offset, lost->second);
  return {true, known.first_kept, next, known.begin};
}

Task<Offset> ShardDirectory::first_offset(StreamId stream) {
  auto finding = view_->first_readable(stream);
  co_return co_await finding;
}

// ---- Opening.

Task<> ShardDirectory::open(std::string& diagnosis) {
  auto listing = list();
  auto listed = co_await listing;
  if (!listed) {
    diagnosis = directory_ + ": cannot be listed";
    co_return fail(listed.error());
  }
  auto opening = view_->index().open();
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  auto replaying = replay(diagnosis);
  auto replayed = co_await replaying;
  if (!replayed) co_return fail(replayed.error());
  auto scanning = scan_newest();
  auto scanned = co_await scanning;
  if (!scanned) {
    if (diagnosis.empty()) diagnosis = directory_ + ": its newest segment cannot be read";
    co_return fail(scanned.error());
  }
  co_return Result<>{};
}

Task<> ShardDirectory::list() {
  auto listing = Directory::list(reactor_, directory_);
  auto entries = co_await listing;
  segments_.clear();
  facts_.days = facts_.segments = 0;
  if (!entries && entries.error() == Error::not_found) co_return Result<>{};
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    const auto day = entry.is_directory ? parse_day(entry.name) : std::nullopt;
    if (!day) continue;
    auto reading = Directory::list(reactor_, day_path(directory_, *day));
    auto names = co_await reading;
    if (!names && names.error() == Error::not_found) continue;  // retention was faster
    if (!names) co_return fail(names.error());
    bool held = false;
    for (const DirectoryEntry& name : *names) {
      if (name.name == "finish") facts_.finished = std::max(facts_.finished, *day);
      if (const auto key = parse_segment_name(*day, name.name)) {
        segments_.push_back(*key);
        held = true;
      }
    }
    facts_.days += held ? 1 : 0;
  }
  std::sort(segments_.begin(), segments_.end());
  facts_.segments = segments_.size();
  if (!segments_.empty()) {
    facts_.first_day = segments_.front().day;
    facts_.last_day = segments_.back().day;
  }
  co_return Result<>{};
}

Task<SegmentFile> ShardDirectory::look_at(SegmentKey key) {
  auto opening = open_segment_file(reactor_, segment_path(directory_, key), key, options_.buffered, buffer_.bytes());
  auto segment = co_await opening;
  const bool ours =
      segment && segment->header && segment->header->log_id == node_.log_id && segment->header->shard == slot_.shard;
  if (segment && !ours) segment->header.reset();
  co_return std::move(segment);
}

Task<> ShardDirectory::read_tail() {
  tail_ = AlignedMemory();
  auto opening = File::open(reactor_, tail_path(directory_), open_read | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return Result<>{};
  if (!file) co_return fail(file.error());
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  if (status->size < 2 * block_bytes || status->size > block_bytes + tail_ring_bytes_max) co_return Result<>{};
  tail_ = AlignedMemory(align_down(status->size, block_bytes));
  auto reading = read_around(*file, 0, tail_.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (read->bytes < tail_.size()) co_return fail(Error::out_of_range);
  co_return Result<>{};
}

/// Whether the index on disk has this closed segment.
Task<bool> ShardDirectory::indexed(SegmentKey key) {
  auto opening = view_->index().file_of(key.day);
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return false;
  if (!file) co_return fail(file.error());
  co_return key.number < (*file)->next_segment();
}

// Tables, and runs in memory for what the index lacks, up to the newest segment that was begun.
Task<> ShardDirectory::replay(std::string& diagnosis) {
  while (!segments_.empty()) {
    auto looking = look_at(segments_.back());
    auto place = co_await looking;
    if (!place && place.error() != Error::not_found) {
      diagnosis = segment_path(directory_, segments_.back()) + ": " + std::string(error_text(place.error()));
      co_return fail(place.error());
    }
    if (place && place->header) {
      open_ = std::move(*place);
      break;
    }
    segments_.pop_back();
  }
  if (!open_) co_return Result<>{};
  view_->drop_before(segments_.front());
  StateLoadOptions wanted{.shard_directory = directory_,
                          .log_id = node_.log_id,
                          .day_offset_seconds = node_.day_offset_seconds,
                          .buffered = options_.buffered,
                          .first_kept = segments_.front(),
                          .until = open_->key};
  auto loading = load_tables(reactor_, std::move(wanted), *tables_);
  auto load = co_await loading;
  if (!load) co_return fail(load.error());
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    const SegmentKey key = segments_[i];
    auto asking = indexed(key);
    auto known = co_await asking;
    if (!known) co_return fail(known.error());
    feed_tables_ = !(key < load->next);
    feed_view_ = !*known;
    if (!feed_tables_ && !feed_view_) continue;
    if (options_.progress) options_.progress("reading segments the index lacks", i, segments_.size());
    auto looking = look_at(key);
    auto place = co_await looking;
    if (!place && place.error() == Error::not_found) continue;
    if (!place) co_return fail(place.error());
    if (!place->header) continue;
    RecoveryInput input;
    auto peeking = look_at(segments_[i + 1]);
    auto next = co_await peeking;
    if (next && next->header && next->header->previous_segment_id == place->header->segment_id)
      input.expected_end = SegmentEnd{next->header->previous_segment_id, next->header->previous_length,
                                      next->header->previous_chain, next->header->first_lsn};
    if (feed_view_) {
      ViewStart start{.first_kept = segments_.front(), .has_open = true, .open = {key, place->header->segment_id, {}}};
      start.open.first_lsn = start.next_lsn = place->header->first_lsn;
      view_->begin(start);
    }
    auto scanning = scan(*place, input);
    auto verdict = co_await scanning;
    if (!verdict) co_return fail(verdict.error());
    if (feed_view_) {
      view_->segment_closed(nullptr);
      view_->segment_settled(key);
    }
  }
  tables_->finish_rows();
  co_return Result<>{};
}

Task<Verdict> ShardDirectory::scan(SegmentFile& segment, RecoveryInput input) {
  const auto led = epochs_led(slot_);
  input.log_id = node_.log_id;
  input.shard = slot_.shard;
  input.epochs_led = led;
  input.in_flight_bytes_max = segment.header->in_flight_bytes_max;
  input.purpose = OpenFor::reading;
  auto scanning = scan_segment(segment.file, segment.file_bytes, input, *this, buffer_.bytes(), options_.progress);
  co_return co_await scanning;
}

Task<> ShardDirectory::scan_newest() {
  ViewStart start;
  start.finished = facts_.finished;
  if (!open_) {
    view_->begin(start);
    view_->ready(start.next_lsn);
    co_return Result<>{};
  }
  start.first_kept = segments_.front();
  auto fronting = look_at(segments_.front());
  auto front = co_await fronting;
  if (front && front->header) start.first_lsn = front->header->first_lsn;
  facts_.first_lsn = start.first_lsn;
  start.has_open = true;
  start.open = {open_->key, open_->header->segment_id, open_->header->first_lsn};
  start.next_lsn = open_->header->first_lsn;
  std::vector<std::byte> saved;
  // A server may be writing: a group whose beginning was read before it was there is no damage. Look again then.
  std::optional<Verdict> verdict;
  for (int attempt = 0; attempt < scans_max; ++attempt) {
    auto tailing = read_tail();
    auto tailed = co_await tailing;
    if (!tailed) co_return fail(tailed.error());
    RecoveryInput input;
    input.tail = tail_.bytes();
    feed_view_ = feed_tables_ = false;
    auto probing = scan(*open_, input);
    auto probed = co_await probing;
    if (!probed) co_return fail(probed.error());
    verdict = *probed;
    if (!verdict->damaged) break;
  }
  // The bytes that gave this verdict may have more behind them by now; refresh() takes that up.
  view_->begin(start);
  LogRow at = tables_->log();
  at.next_lsn = start.open.first_lsn;
  tables_->set_log(at);
  tables_->begin_segment();
  end_ = {block_bytes, start.open.first_lsn, first_chain(*open_->header), open_->header->epoch};
  if (verdict->damaged) {
    feed_view_ = feed_tables_ = true;
    RecoveryInput input;
    input.tail = tail_.bytes();
    auto scanning = scan(*open_, input);
    auto scanned = co_await scanning;
    if (!scanned) co_return fail(scanned.error());
    end_ = {scanned->content_end, scanned->next_lsn, scanned->chain, scanned->last_epoch};
    view_->moved_to_segment(std::max(view_->readable_of(open_->key), scanned->prefix_end));
    view_->ready(scanned->next_lsn);
    facts_.durable = view_->durable();
    co_return Result<>{};
  }
  view_->ready(start.open.first_lsn);
  auto refreshing = refresh();
  co_return co_await refreshing;
}

void ShardDirectory::batch(const FoundBatch& found) {
  const Bytes whole = found.source == BatchSource::tail ? found.whole : Bytes{};
  if (feed_view_) {
    if (feed_tables_) {
      take_batch(found.header, found.body, found.position, whole);
      return;
    }
    view_->recovered(found.header, found.position, whole);
    return;
  }
  if (!feed_tables_) return;
  LogRow at = tables_->log();
  at.next_lsn = Lsn{found.header.lsn};
  tables_->set_log(at);
  static_cast<void>(tables_->apply(found.header, found.body));
}

void ShardDirectory::lost_batch(const BatchHeader& header, std::uint64_t) {
  if (header.kind != BatchKind::data) return;
  Offset& upto = lost_upto_[StreamId{header.stream_id}];
  upto = std::max(upto, Offset{header.first_offset + header.record_count});
}

void ShardDirectory::lost(const LostRange& range) {
  if (feed_view_ && range.first_lsn != range.end_lsn) view_->lost({range.first_lsn, range.end_lsn});
}

void ShardDirectory::take_batch(const BatchHeader& header, Bytes body, std::uint64_t position, Bytes whole) {
  LogRow at = tables_->log();
  if (at.next_lsn.value != header.lsn) {
    at.next_lsn = Lsn{header.lsn};
    tables_->set_log(at);
  }
  // A control body that cannot be read changes nothing; the batch keeps its place.
  static_cast<void>(tables_->apply(header, body));
  view_->recovered(header, position, whole);
}

// ---- Following.

Task<> ShardDirectory::refresh() {
  while (open_) {
    auto tailing = read_tail();
    auto tailed = co_await tailing;
    if (!tailed) co_return fail(tailed.error());
    auto walking = walk_groups();
    auto walked = co_await walking;
    if (!walked) co_return fail(walked.error());
    walk_tail();
    if (view_->appended_end() > view_->durable()) view_->durable_moved(view_->appended_end());
    facts_.durable = view_->durable();
    auto moving = next_segment();
    auto moved = co_await moving;
    if (!moved) co_return fail(moved.error());
    if (!*moved) break;
  }
  facts_.runs_in_memory = view_->runs().size();
  facts_.log_bytes = 0;
  if (open_) {
    const auto closed = static_cast<std::uint64_t>(segments_.empty() ? 0 : segments_.size() - 1);
    facts_.log_bytes = closed * node_.segment_bytes + end_.position;
  }
  co_return Result<>{};
}

// Takes the whole valid groups that stand behind what is known. Their batches that the tail gave before are passed over.
Task<bool> ShardDirectory::walk_groups() {
  bool any = false;
  while (end_.position + block_bytes <= open_->file_bytes) {
    const std::uint64_t length = std::min<std::uint64_t>(feed_bytes, open_->file_bytes - end_.position);
    auto reading = read_around(open_->file, end_.position, buffer_.bytes().first(align_down(length, block_bytes)));
    auto got = co_await reading;
    if (!got) co_return fail(got.error());
    Bytes bytes = buffer_.bytes().first(got->bytes);
    bool progressed = false;
    AlignedMemory large;
    while (bytes.size() >= block_bytes) {
      auto group = read_group_header(bytes, end_.position, open_->header->segment_id);
      if (!group || group->first_lsn != end_.next_lsn || group->chain_before != end_.chain) break;
      const std::uint64_t span = group_span(*group);
      if (span > bytes.size()) {
        if (progressed) break;
        large = AlignedMemory(span);
        auto reading_large = read_around(open_->file, end_.position, large.bytes());
        auto whole = co_await reading_large;
        if (!whole) co_return fail(whole.error());
        if (whole->bytes < span) co_return any;
        bytes = large.bytes();
      }
      if (!check_group(*group, bytes.first(span))) co_return any;  // not all of it is there yet
      BatchWalk walk(bytes.subspan(group_header_bytes, group->length - group_header_bytes), group->first_lsn,
                     group->chain_before);
      while (!walk.at_end()) {
        auto batch = walk.check_next();
        if (!batch) co_return any;
        if (batch->header.lsn < view_->appended_end().value) continue;
        take_batch(batch->header, batch->body, end_.position + group_header_bytes + batch->at, {});
      }
      end_ = {end_.position + span, group_end_lsn(*group), group->chain_after, group->epoch};
      view_->moved_to_segment(end_.position);
      bytes = bytes.subspan(span);
      progressed = any = true;
    }
    if (!progressed) break;
  }
  co_return any;
}

// What the tail holds behind the last group.
void ShardDirectory::walk_tail() {
  if (tail_.size() == 0) return;
  auto scan = TailScan::read(tail_.bytes(), node_.log_id, slot_.shard, OpenFor::reading);
  if (!scan) return;
  LogEnd end = end_;
  auto group = scan->take(open_->header->segment_id, end);
  if (!group) return;
  std::uint64_t position = group->file_offset + group_header_bytes;
  Lsn lsn = group->first_lsn;
  Chain chain = group->chain_before;
  for (const Bytes& piece : group->pieces) {
    BatchWalk walk(piece, lsn, chain);
    while (!walk.at_end()) {
      auto batch = walk.check_next();
      if (!batch) return;
      if (batch->header.lsn >= view_->appended_end().value)
        take_batch(batch->header, batch->body, position + batch->at, batch->whole);
    }
    position += piece.size();
    lsn = walk.next_lsn();
    chain = walk.chain();
  }
}

// Goes to the segment behind the open one, once it was begun and all of this one is known.
Task<bool> ShardDirectory::next_segment() {
  auto listing = list();
  auto listed = co_await listing;
  if (!listed) co_return fail(listed.error());
  if (!segments_.empty()) view_->drop_before(segments_.front());
  auto next = std::upper_bound(segments_.begin(), segments_.end(), open_->key);
  if (next == segments_.end()) {
    if (facts_.finished > view_->finished() && facts_.finished >= open_->key.day) view_->day_finished(facts_.finished);
    co_return false;
  }
  auto looking = look_at(*next);
  auto place = co_await looking;
  if (!place && place.error() == Error::not_found) co_return false;
  if (!place) co_return fail(place.error());
  if (!place->header || place->header->first_lsn < view_->appended_end()) co_return false;
  if (place->header->previous_segment_id == open_->header->segment_id &&
      place->header->previous_length > end_.position) {
    // It closed between our two looks: its last groups first.
    auto walking = walk_groups();
    auto walked = co_await walking;
    if (!walked) co_return fail(walked.error());
    if (view_->appended_end() > view_->durable()) view_->durable_moved(view_->appended_end());
  }
  const SegmentKey old = open_->key;
  view_->segment_closed(nullptr);
  view_->segment_settled(old);
  if (old.day < place->key.day && view_->finished() < old.day) view_->day_finished(old.day);
  tables_->begin_segment();
  open_ = std::move(*place);
  end_ = {block_bytes, open_->header->first_lsn, first_chain(*open_->header), open_->header->epoch};
  view_->segment_begun({open_->key, open_->header->segment_id, open_->header->first_lsn});
  auto dropping = drop_indexed_days();
  static_cast<void>(co_await dropping);  // a day whose index cannot be read stays in memory
  co_return true;
}

/// A day that is over is read by the index its server wrote, once that is complete; who follows for days keeps no more than one.
Task<> ShardDirectory::drop_indexed_days() {
  std::vector<Day> days;
  for (const ReadView::RunPtr& run : view_->runs())
    if (const Day day = run->segment().key.day; day < open_->key.day && (days.empty() || days.back() != day))
      days.push_back(day);
  for (const Day day : days) {
    view_->index().forget(day);  // as it was when it was looked into last
    auto opening = view_->index().file_of(day);
    auto file = co_await opening;
    if (file && (*file)->complete()) view_->day_indexed(day);
  }
  co_return Result<>{};
}

}  // namespace millrace
