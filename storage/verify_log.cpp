#include "storage/verify_log.hpp"

#include <utility>

#include "base/time.hpp"
#include "storage/control_batches.hpp"
#include "storage/state_rows.hpp"

namespace millrace {

void LogCheck::begin_day(Day day, bool from_its_beginning) {
  day_ = {};
  day_.whole = from_its_beginning;
  day_number_ = day;
  for (auto& [id, stream] : streams_) stream.day_begin = stream.next_offset;
}

void LogCheck::begin_segment(SegmentKey key, std::string file, Report report) {
  run_ = {};
  run_.key = key;
  file_ = std::move(file);
  report_ = std::move(report);
}

CheckedRun LogCheck::end_segment(const Verdict& verdict) {
  report_ = {};
  run_.segment_id = verdict.segment_id;
  run_.first_lsn = verdict.header_readable ? verdict.header.first_lsn : run_.first_lsn;
  run_.end_lsn = verdict.next_lsn;
  run_.chain = verdict.chain;
  return std::exchange(run_, {});
}

void LogCheck::tell(DamageKind kind, std::uint64_t position, std::uint64_t bytes, const BatchHeader& header,
                    std::string what) {
  Damage damage{.kind = kind, .shard = shard_, .file = file_, .begin = position, .end = position + bytes};
  damage.first_lsn = Lsn{header.lsn};
  damage.end_lsn = Lsn{header.lsn + 1};
  damage.stream = StreamId{header.stream_id};
  damage.what = std::move(what);
  if (header.kind == BatchKind::data) {
    damage.first_offset = Offset{header.first_offset};
    damage.end_offset = Offset{header.first_offset + header.record_count};
    auto stream = streams_.find(damage.stream);
    if (stream != streams_.end()) damage.stream_name = stream->second.name;
  }
  report_(std::move(damage));
}

void LogCheck::batch(const FoundBatch& found) {
  const BatchHeader& header = found.header;
  if (!any_) run_.first_lsn = Lsn{header.lsn};
  if (any_ && header.lsn != next_lsn_.value && !lost_some_)
    tell(DamageKind::order, found.position, found.whole.size(), header, "this lsn does not follow the one before");
  if (any_ && header.leader_time < last_time_)
    tell(DamageKind::order, found.position, found.whole.size(), header, "its leader time is before the one before");
  if (header.day != day_number_.value)
    tell(DamageKind::order, found.position, found.whole.size(), header, "it is of another day than its file");
  any_ = true;
  next_lsn_ = Lsn{header.lsn + 1};
  last_time_ = header.leader_time;
  tail_batches_ += found.source == BatchSource::tail;
  if (run_.first_time == 0) run_.first_time = header.leader_time;
  run_.last_time = header.leader_time;

  if (header.kind == BatchKind::data) {
    check_data(found);
    note_entry(found);
  } else {
    check_control(found);
  }
  if (header.kind == BatchKind::seal) return;
  ++day_.batches;
  day_.records += header.record_count;
  day_.body_bytes += header.body_bytes;
}

void LogCheck::check_data(const FoundBatch& found) {
  const BatchHeader& header = found.header;
  // Bodies in a file stand 16-byte aligned from its start; pieces of a tail's slots do so too.
  if (!BodyView::parse(found.body, header))
    tell(DamageKind::body, found.position, found.whole.size(), header, "its hash fits, its structure does not");
  auto [at, fresh] = streams_.try_emplace(StreamId{header.stream_id});
  CheckedStream& stream = at->second;
  Offset first{header.first_offset};
  if (!fresh && first != stream.next_offset) {
    bool skipped = first > stream.next_offset;
    Damage damage{.kind = skipped ? DamageKind::lost_records : DamageKind::order, .shard = shard_, .file = file_};
    damage.begin = damage.end = found.position;
    damage.stream = StreamId{header.stream_id};
    damage.stream_name = stream.name;
    damage.first_offset = skipped ? stream.next_offset : first;
    damage.end_offset = skipped ? first : stream.next_offset;
    damage.what = skipped ? "these records are lost" : "these offsets are given twice";
    report_(std::move(damage));
  }
  stream.next_offset = Offset{header.first_offset + header.record_count};
}

void LogCheck::note_entry(const FoundBatch& found) {
  const BatchHeader& header = found.header;
  StreamId id{header.stream_id};
  run_.entries[id].push_back({.first_offset = Offset{header.first_offset},
                              .leader_time = header.leader_time,
                              .event_time_min = header.event_time_min,
                              .event_time_max = header.event_time_max,
                              .position = static_cast<std::uint32_t>(found.position / batch_align),
                              .span = static_cast<std::uint32_t>(batch_span(header.body_bytes) / batch_align)});
  auto [at, fresh] = run_.streams.try_emplace(id);
  StreamRun& stream = at->second;
  if (fresh) {
    stream.stream_id = id;
    stream.first_offset = Offset{header.first_offset};
    stream.first_id = RecordId{header.first_id};
    stream.first_leader_time = header.leader_time;
  }
  ++stream.entries;
  stream.records += header.record_count;
  stream.end_offset = Offset{header.first_offset + header.record_count};
  stream.last_leader_time = header.leader_time;
}

void LogCheck::check_control(const FoundBatch& found) {
  bool reads = true;
  switch (found.header.kind) {
    case BatchKind::catalogue: return check_catalogue(found);
    case BatchKind::state: return check_state(found);
    case BatchKind::seal: return check_seal(found);
    case BatchKind::epoch: {
      Result<EpochBody> body = read_epoch_body(found.body);
      reads = body.has_value();
      if (reads) bump_offsets(body->offset_bump);
      break;
    }
    case BatchKind::trim: reads = read_trim_body(found.body).has_value(); break;
    case BatchKind::data: return;
  }
  if (!reads)
    tell(DamageKind::body, found.position, found.whole.size(), found.header, "a control batch that cannot be read");
}

/// Offsets that were perhaps acknowledged and are lost are skipped by every stream: that is told where they were lost.
void LogCheck::bump_offsets(std::uint64_t by) {
  offset_floor_ = offset_floor_.next(by);
  for (auto& [id, stream] : streams_) stream.next_offset = stream.next_offset.next(by);
}

void LogCheck::check_catalogue(const FoundBatch& found) {
  CatalogueReader reader(found.body);
  CatalogueEntry entry;
  Result<bool> more = reader.next(entry);
  for (; more && *more; more = reader.next(entry)) {
    if (entry.tag != CatalogueTag::stream) continue;
    auto [at, fresh] = streams_.try_emplace(entry.stream_id);
    CheckedStream& stream = at->second;
    if (fresh) stream.next_offset = stream.day_begin = offset_floor_;
    stream.name = entry.name;
    stream.begin_known = true;
  }
  if (!more)
    tell(DamageKind::body, found.position, found.whole.size(), found.header, "a catalogue that cannot be read");
}

/// State batches say where streams stood when the day began, also of streams whose first batches are no longer here.
void LogCheck::check_state(const FoundBatch& found) {
  Result<StatePiece> piece = read_state_piece(found.body);
  StateRow row;
  Result<bool> more = piece ? Result<bool>(true) : Result<bool>(fail(piece.error()));
  if (piece) {
    StateRowReader reader(piece->rows);
    for (more = reader.next(row); more && *more; more = reader.next(row)) {
      if (row.key.tag == StateTag::log) offset_floor_ = std::max(offset_floor_, row.log.offset_floor);
      if (row.key.tag != StateTag::stream) continue;
      auto [at, fresh] = streams_.try_emplace(row.stream.id);
      at->second.name = row.stream.name;
      if (fresh) at->second.next_offset = at->second.day_begin = row.stream.next_offset;
    }
  }
  if (!more)
    tell(DamageKind::body, found.position, found.whole.size(), found.header, "a state batch that cannot be read");
}

void LogCheck::check_seal(const FoundBatch& found) {
  Result<SealBody> seal = read_seal_body(found.body);
  if (!seal)
    return tell(DamageKind::body, found.position, found.whole.size(), found.header, "a seal that cannot be read");
  day_.sealed = true;
  day_.end_lsn = Lsn{found.header.lsn + 1};
  day_.chain = Chain{found.header.chain};
  bool fits = seal->day == day_number_ &&
              (!day_.whole ||
               (seal->batches == day_.batches && seal->records == day_.records && seal->body_bytes == day_.body_bytes));
  if (!fits)
    tell(DamageKind::seal, found.position, found.whole.size(), found.header, "its totals are not those of its day");
}

void LogCheck::lost_batch(const BatchHeader& header, std::uint64_t position) {
  // lost() tells the range; here is what its header still says.
  tell(DamageKind::lost_batches, position, batch_span(header.body_bytes), header,
       "its header verifies, its body does not");
  if (header.kind != BatchKind::data) return;
  CheckedStream& stream = streams_[StreamId{header.stream_id}];
  if (Offset{header.first_offset} == stream.next_offset)
    stream.next_offset = Offset{header.first_offset + header.record_count};
}

void LogCheck::lost(const LostRange& range) {
  Damage damage{
      .kind = DamageKind::lost_batches, .shard = shard_, .file = file_, .begin = range.begin, .end = range.end};
  damage.first_lsn = range.first_lsn;
  damage.end_lsn = range.end_lsn;
  bool none = range.first_lsn == range.end_lsn;
  damage.what = none ? "these bytes do not verify; every batch is still there" : "these batches do not verify";
  report_(std::move(damage));
  if (none) return;
  lost_some_ = true;
  day_.whole = false;
}

}  // namespace millrace
