#include "sdk/record_walk.hpp"

#include <algorithm>

namespace millrace {

namespace {
ByteView outer(Bytes bytes) { return {bytes.data(), bytes.size()}; }
}  // namespace

bool tell_event(const ReadEventCore& event, const std::string& stream, ReadResult& result) {
  result = {};
  switch (event.kind) {
    case ReadEventCore::Kind::day_finished:
      result.event = ReadEvent::day_finished;
      result.day = static_cast<std::uint32_t>(event.first);
      return false;
    case ReadEventCore::Kind::data_loss:
      result.event = ReadEvent::data_loss;
      result.loss_first = event.first;
      result.loss_end = event.next;
      result.problem.code = event.error == Error::out_of_range ? ErrorCode::out_of_range : ErrorCode::data_loss;
      return false;
    case ReadEventCore::Kind::failed:
      result.event = ReadEvent::failed;
      result.problem = {static_cast<ErrorCode>(event.error), event.detail, "read of " + stream};
      if (event.error == Error::unknown_stream && event.detail != 0)
        result.problem.context += " (batches of this log are lost: they may have held its records, at offsets below " +
                                  std::to_string(event.detail) + ")";
      return true;
    case ReadEventCore::Kind::batches:
    case ReadEventCore::Kind::end: break;
  }
  result.event = ReadEvent::end;
  return true;
}

bool RecordWalk::before_from(const ReadBatch& batch, std::uint32_t record) const {
  const Place& from = options_.from;
  if (from.kind == Place::Kind::offset) return batch.header.first_offset + record < from.offset;
  if (from.kind != Place::Kind::day) return false;  // a time is that of a whole batch
  return batch.header.day < from.day || (batch.header.day == from.day && batch.header.first_id + record < from.id);
}

bool RecordWalk::past_until(const ReadBatch& batch, std::uint32_t record) const {
  if (!options_.until) return false;
  const Place& until = *options_.until;
  switch (until.kind) {
    case Place::Kind::offset: return batch.header.first_offset + record >= until.offset;
    case Place::Kind::time: return batch.header.leader_time >= until.time;
    case Place::Kind::day:
      return batch.header.day > until.day ||
             (batch.header.day == until.day && batch.header.first_id + record >= until.id);
    case Place::Kind::earliest:
    case Place::Kind::latest: break;  // whoever brings the batches ends there, between two of them
  }
  return false;
}

RecordWalk::Step RecordWalk::next(ReadResult& result) {
  for (; batch_ < event_.batches.size(); ++batch_, record_ = 0) {
    const ReadBatch& batch = event_.batches[batch_];
    for (; record_ < batch.body.count(); ++record_) {
      const std::uint64_t offset = batch.header.first_offset + record_;
      if (offset < event_.first || before_from(batch, record_)) continue;
      if (past_until(batch, record_)) return Step::finished;
      if (options_.count != 0 && given_ == options_.count) return Step::finished;
      next_offset_ = offset + 1;
      if (options_.type && batch.body.type(record_) != *options_.type) continue;
      given_ += 1;
      result.event = ReadEvent::record;
      fill(result.record, batch, record_);
      ++record_;
      return Step::record;
    }
  }
  next_offset_ = std::max(next_offset_, event_.next);
  return options_.count != 0 && given_ == options_.count ? Step::finished : Step::used_up;
}

void RecordWalk::fill(ReadRecord& target, const ReadBatch& batch, std::uint32_t record) const {
  const BatchHeader& header = batch.header;
  target.stream = options_.stream;
  target.offset = header.first_offset + record;
  target.day = header.day;
  target.id = header.first_id + record;
  target.lsn = header.lsn;
  target.leader_time = header.leader_time;
  target.event_time = batch.body.event_time(record);
  target.type = batch.body.type(record);
  target.payload = outer(batch.body.payload(record));
  target.key = batch.body.has_keys() ? outer(batch.body.key(record)) : ByteView{};
  target.headers = batch.body.has_headers() ? outer(batch.body.headers(record)) : ByteView{};
}

}  // namespace millrace
