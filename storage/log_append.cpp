// The way of a batch into the log: dedupe, day, place, header. Synchronous, and without allocation once streams, producers and
// segments exist.
#include <algorithm>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/log_core.hpp"

namespace millrace {

namespace {

AppendRefusal refusal(Error error, std::uint64_t detail = 0) { return {error, detail}; }

constexpr std::uint64_t epoch_batch_span = batch_span(sizeof(EpochBody));

// A catalogue batch that creates one stream: entry head, id, name.
std::uint64_t creation_span(std::string_view name) {
  return batch_span(static_cast<std::uint32_t>(8 + sizeof(StreamId) + name.size()));
}

}  // namespace

Log::Appended LogCore::append(const BatchHeader& producer, Bytes body) {
  auto refuse = [&](AppendRefusal why) {
    ++refusals_;
    return std::unexpected(why);
  };
  if (auto wrong = check_append(producer, body)) return refuse(*wrong);
  const std::uint32_t number = tables_->streams().find(StreamId{producer.stream_id});
  // One whose name is lost has to be named before it can be created anew.
  if (number == Catalogue::none || tables_->streams().at(number).name.empty())
    return refuse(refusal(Error::unknown_stream));
  if (producer.producer_id != 0) {
    const DedupeVerdict verdict = tables_->producers().check(ProducerId{producer.producer_id}, producer.producer_epoch,
                                                             StreamId{producer.stream_id}, producer.producer_sequence);
    if (verdict.kind == DedupeVerdict::Kind::refused) return refuse(refusal(verdict.error, verdict.detail));
    if (verdict.kind == DedupeVerdict::Kind::repeat) {
      // Whoever waited for the first copy was told that its outcome is not known; why, is said here.
      if (stalled(verdict.first_copy.lsn)) return refuse(refusal(*supply_failure_, pool_.free_bytes()));
      ++repeats_;
      AppendPosition position;
      position.lsn = verdict.first_copy.lsn;
      position.first_offset = verdict.first_copy.first_offset;
      position.repeat = true;
      return position;
    }
  }
  const DayStamp stamp = stamp_now();
  held_ += stamp.held;
  if (Placed day = prepare_day(stamp); !day) return refuse(day.error());
  if (Placed placed = place_batches(producer, tables_->streams().at(number), stamp); !placed)
    return refuse(placed.error());
  no_space_ = false;
  return append_data(producer, body, number, stamp);
}

std::optional<AppendRefusal> LogCore::check_append(const BatchHeader& producer, Bytes body) const {
  if (const auto error = no_leader()) return refusal(*error);
  if (state_ != State::serving) return refusal(state_ == State::closed ? Error::closed : Error::not_ready);
  if (producer.kind != BatchKind::data || producer.record_count == 0 || producer.stream_id == 0 ||
      body.size() != producer.body_bytes)
    return refusal(Error::invalid_argument);
  if (producer.record_count > batch_records_max || batch_span(producer.body_bytes) > batch_bytes_max)
    return refusal(Error::too_large, batch_bytes_max);
  return std::nullopt;
}

LogCore::Placed LogCore::prepare_day(const DayStamp& stamp) {
  if (!day_is_open() || stamp.day <= tables_->log().day) return {};
  return seal_day(stamp);
}

AppendRefusal LogCore::no_space() const { return refusal(Error::no_space, pool_.free_bytes()); }

// Makes place for batches that belong together, in a new group or segment where they do not fit into the open ones.
LogCore::Placed LogCore::place(std::uint64_t span, Day day, bool reserve) {
  for (;;) {
    if (!writer_->has_segment()) {
      if (!can_begin()) {
        no_space_ = true;
        return std::unexpected(no_space());
      }
      begin_segment(next_key(day));
    }
    const WriterSegment& segment = writer_->segment();
    if (!segment.attached && !pool_.can_supply() && !reserve) {
      no_space_ = true;
      return std::unexpected(no_space());
    }
    // Nothing of it can become durable before a file is there: what comes now is told so.
    if (!segment.attached && supply_failure_ && !reserve) {
      no_space_ = *supply_failure_ == Error::no_space;
      return std::unexpected(no_space_ ? no_space() : refusal(*supply_failure_));
    }
    switch (writer_->make_room(span, reserve)) {
      case LogWriter::Room::ready: return {};
      case LogWriter::Room::no_memory: return std::unexpected(refusal(Error::retry_later, retry_after_ms));
      case LogWriter::Room::segment_full: break;
    }
    if (!segment.attached || view_->runs_behind() >= runs_behind_max)
      return std::unexpected(refusal(Error::retry_later, retry_after_ms));
    if (!can_begin()) {
      no_space_ = true;
      return std::unexpected(no_space());
    }
    close_segment();
  }
}

LogCore::Placed LogCore::place_batches(const BatchHeader& producer, const Stream& stream, const DayStamp& stamp) {
  const std::uint64_t before =
      (epoch_pending_ ? epoch_batch_span : 0) + (stream.created ? 0 : creation_span(stream.name));
  const std::uint64_t span = batch_span(producer.body_bytes);
  const bool together = before + span + group_header_bytes <= group_bytes_max;
  if (before > 0 && !together) {
    // A batch over a group's size stands alone: what must come before it goes into the group before it.
    if (Placed placed = place(before, stamp.day, false); !placed) return placed;
    append_prologue(stamp);
    if (!stream.created) append_created(stream, stamp);
  }
  if (Placed placed = place(together ? before + span : span, stamp.day, false); !placed) return placed;
  append_prologue(stamp);
  if (!stream.created) append_created(stream, stamp);
  return {};
}

void LogCore::append_prologue(const DayStamp& stamp) {
  if (!epoch_pending_) return;
  epoch_pending_ = false;
  std::vector<std::byte> body;
  write_epoch_body(body, epoch_body_);
  append_control(BatchKind::epoch, body, stamp);
}

void LogCore::append_created(const Stream& stream, const DayStamp& stamp) {
  std::vector<std::byte> body;
  write_catalogue_stream(body, stream.id, stream.name);
  MR_ASSERT(batch_span(static_cast<std::uint32_t>(body.size())) <= creation_span(stream.name) + batch_align);
  append_control(BatchKind::catalogue, body, stamp);
}

void LogCore::append_control(BatchKind kind, Bytes body, const DayStamp& stamp) {
  MR_ASSERT(stamp.day == writer_->segment().key.day);
  BatchHeader header = control_header(kind, body);
  header.lsn = writer_->marks().appended.value;
  header.leader_time = stamp.leader_time;
  header.day = stamp.day.value;
  seal_header(header, writer_->chain());
  const std::uint64_t position = writer_->position();
  const Bytes whole = writer_->append(header, body);
  written_bytes_ += whole.size();
  auto applied = tables_->apply(header, body);
  MR_ASSERT(applied.has_value());
  sealed_ = kind == BatchKind::seal;
  day_rule_->took(stamp);
  view_->appended(header, whole, position);
}

AppendPosition LogCore::append_data(const BatchHeader& producer, Bytes body, std::uint32_t number,
                                    const DayStamp& stamp) {
  MR_ASSERT(stamp.day == writer_->segment().key.day);
  const Stream& stream = tables_->streams().at(number);
  BatchHeader header = producer;
  header.magic = batch_magic;
  header.lsn = writer_->marks().appended.value;
  header.first_offset = stream.next_offset.value;
  header.first_id = stream.day == stamp.day ? stream.next_id.value : 0;
  header.leader_time = stamp.leader_time;
  header.day = stamp.day.value;
  seal_header(header, writer_->chain());
  const std::uint64_t position = writer_->position();
  const Bytes whole = writer_->append(header, body);
  tables_->apply_data(header, number);
  sealed_ = false;
  day_rule_->took(stamp);
  view_->appended(header, whole, position);
  if (mutant("reader_past_durable")) view_->durable_moved(writer_->marks().appended);
  ++appended_batches_;
  appended_records_ += header.record_count;
  appended_body_bytes_ += header.body_bytes;
  written_bytes_ += whole.size();
  AppendPosition at;
  at.lsn = Lsn{header.lsn};
  at.first_offset = Offset{header.first_offset};
  at.first_id = RecordId{header.first_id};
  at.day = stamp.day;
  return at;
}

std::expected<Lsn, AppendRefusal> LogCore::append_alone(BatchKind kind, Bytes body) {
  if (const auto error = no_leader()) return std::unexpected(refusal(*error));
  if (state_ != State::serving)
    return std::unexpected(refusal(state_ == State::closed ? Error::closed : Error::not_ready));
  const DayStamp stamp = stamp_now();
  if (Placed day = prepare_day(stamp); !day) return std::unexpected(day.error());
  const std::uint64_t span =
      (epoch_pending_ ? epoch_batch_span : 0) + batch_span(static_cast<std::uint32_t>(body.size()));
  if (Placed placed = place(span, stamp.day, false); !placed) return std::unexpected(placed.error());
  append_prologue(stamp);
  const Lsn lsn = writer_->marks().appended;
  append_control(kind, body, stamp);
  return lsn;
}

Result<StreamId> LogCore::declare_stream(std::string_view name) {
  if (const auto error = no_leader()) return fail(*error);
  if (state_ != State::serving) return fail(state_ == State::closed ? Error::closed : Error::not_ready);
  auto declared = tables_->streams().declare(name);
  if (!declared) return fail(declared.error());
  return tables_->streams().at(*declared).id;
}

Task<ProducerRegistration> LogCore::register_producer(ProducerId id) {
  ProducerRegistration registration;
  registration.id = id;
  if (id == ProducerId{}) {
    registration.epoch = 1;
    while (registration.id == ProducerId{} || tables_->producers().epoch(registration.id) != 0)
      registration.id = ProducerId{reactor_.random().next()};
  } else if (const std::uint32_t known = tables_->producers().epoch(id); known != 0) {
    registration.epoch = known + 1;
  } else {
    // Evicted, or never here. Seconds are above every epoch it can have had, so what an older life of it still sends is fenced.
    registration.epoch = static_cast<std::uint32_t>(stamp_now().leader_time / nanos_per_second);
  }
  std::vector<std::byte> body;
  write_catalogue_producer(body, registration.id, registration.epoch);
  const std::uint64_t failures = failures_;
  auto appended = append_alone(BatchKind::catalogue, body);
  if (!appended) {
    ++refusals_;
    co_return fail(appended.error().error);
  }
  while (failures_ == failures && writer_ && !(writer_->marks().durable > *appended) && !stalled(*appended)) {
    if (state_ == State::stopped && !writer_) break;
    co_await progress_.wait();
  }
  if (failures_ == failures && stalled(*appended)) co_return fail(*supply_failure_);
  if (failures_ != failures || !writer_ || !(writer_->marks().durable > *appended))
    co_return fail(Error::unknown_outcome);
  co_return registration;
}

Result<Lsn> LogCore::trim_stream(StreamId stream, Offset first_kept) {
  const std::uint32_t number = tables_->streams().find(stream);
  if (number == Catalogue::none || !tables_->streams().at(number).exists()) return fail(Error::unknown_stream);
  if (first_kept > tables_->streams().at(number).next_offset) return fail(Error::out_of_range);
  std::vector<std::byte> body;
  write_trim_body(body, {stream, first_kept});
  auto appended = append_alone(BatchKind::trim, body);
  if (!appended) return fail(appended.error().error);
  return *appended;
}

StreamBounds LogCore::stream_bounds(StreamId stream) const {
  const std::uint32_t number = tables_->streams().find(stream);
  if (number == Catalogue::none || !tables_->streams().at(number).exists()) return {};
  const Stream& found = tables_->streams().at(number);
  return {true, found.first_kept, found.next_offset, found.begin};
}

StreamInfo LogCore::info_of(const Stream& stream) {
  return {stream.id, stream.name, stream.next_offset, stream.first(), stream.next_id, stream.day};
}

Result<StreamInfo> LogCore::find_stream(StreamId id) const {
  const std::uint32_t number = tables_->streams().find(id);
  if (number == Catalogue::none || !tables_->streams().at(number).exists()) return fail(Error::unknown_stream);
  return info_of(tables_->streams().at(number));
}

}  // namespace millrace
