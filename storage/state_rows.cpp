#include "storage/state_rows.hpp"

#include "base/hash.hpp"
#include "storage/control_batches.hpp"

namespace millrace {

namespace {

struct RowHead {
  StateTag tag;
  std::uint8_t zeros[3] = {};
  std::uint32_t length;  // of the rest, a multiple of 8
};
static_assert(sizeof(RowHead) == 8);

struct StreamFields {
  StreamId id;
  Offset next_offset;
  RecordId next_id;
  Day day;
  std::uint32_t name_length;
  Offset first_kept;
  Offset begin;
};
static_assert(sizeof(StreamFields) == 48);

struct WindowFields {
  ProducerId producer_id;
  StreamId stream_id;
  Lsn last_lsn;
  std::uint32_t producer_epoch;
  std::uint32_t count;
  std::uint64_t next_sequence;
};
static_assert(sizeof(WindowFields) == 40 && sizeof(WindowBatch) == 16);

struct ProducerFields {
  ProducerId id;
  std::uint32_t epoch;
  std::uint32_t zeros = 0;
  Lsn last_lsn;
};
static_assert(sizeof(ProducerFields) == 24);

struct LogFields {
  Lsn next_lsn;
  Chain chain;
  Nanos last_leader_time;
  Day day;
  std::uint32_t zeros = 0;
  Epoch epoch;
  std::uint64_t day_batches;
  std::uint64_t day_records;
  std::uint64_t day_body_bytes;
  Offset offset_floor;
};
static_assert(sizeof(LogFields) == 72);

template <class Fields>
void append(std::vector<std::byte>& target, StateTag tag, const Fields& fields, Bytes more = {}) {
  std::size_t length = align_up(sizeof(Fields) + more.size(), 8);
  RowHead head{.tag = tag, .length = static_cast<std::uint32_t>(length)};
  std::size_t at = target.size();
  target.resize(at + sizeof(RowHead) + length);
  MutableBytes row = MutableBytes(target).subspan(at);
  store(row, 0, head);
  store(row, sizeof(RowHead), fields);
  if (!more.empty()) std::memcpy(row.data() + sizeof(RowHead) + sizeof(Fields), more.data(), more.size());
}

Result<> read_stream(StateRow& row, Bytes rest) {
  if (rest.size() < sizeof(StreamFields)) return fail(Error::corrupt);
  auto fields = load<StreamFields>(rest);
  Bytes name = rest.subspan(sizeof(StreamFields));
  if (fields.name_length > stream_name_bytes_max ||
      rest.size() != align_up(sizeof(StreamFields) + fields.name_length, 8) ||
      !all_zero(name.subspan(fields.name_length)))
    return fail(Error::corrupt);
  std::string_view text(reinterpret_cast<const char*>(name.data()), fields.name_length);
  if (!text.empty() && stream_id_of(text) != fields.id) return fail(Error::corrupt);
  row.stream = {fields.id, fields.next_offset, fields.next_id, fields.day, fields.first_kept, fields.begin, text};
  row.key = {StateTag::stream, fields.id.value, 0};
  return {};
}

Result<> read_window(StateRow& row, Bytes rest) {
  if (rest.size() < sizeof(WindowFields)) return fail(Error::corrupt);
  auto fields = load<WindowFields>(rest);
  if (fields.count > producer_window_max || fields.count > fields.next_sequence ||
      rest.size() != sizeof(WindowFields) + fields.count * sizeof(WindowBatch))
    return fail(Error::corrupt);
  WindowRow& window = row.window;
  window.producer_id = fields.producer_id;
  window.stream_id = fields.stream_id;
  window.last_lsn = fields.last_lsn;
  window.producer_epoch = fields.producer_epoch;
  window.count = fields.count;
  window.next_sequence = fields.next_sequence;
  for (std::uint32_t batch = 0; batch < fields.count; ++batch)
    window.batches[batch] = load<WindowBatch>(rest, sizeof(WindowFields) + batch * sizeof(WindowBatch));
  row.key = {StateTag::window, fields.producer_id.value, fields.stream_id.value};
  return {};
}

}  // namespace

void write_row(std::vector<std::byte>& target, const StreamRow& row) {
  MR_ASSERT(row.name.size() <= stream_name_bytes_max);
  StreamFields fields{
      row.id,         row.next_offset, row.next_id, row.day, static_cast<std::uint32_t>(row.name.size()),
      row.first_kept, row.begin};
  append(target, StateTag::stream, fields, bytes_of(row.name));
}

void write_row(std::vector<std::byte>& target, const WindowRow& row) {
  MR_ASSERT(row.count <= producer_window_max && row.count <= row.next_sequence);
  WindowFields fields{row.producer_id, row.stream_id, row.last_lsn, row.producer_epoch, row.count, row.next_sequence};
  append(target, StateTag::window, fields, as_bytes(row.batches.data(), row.count * sizeof(WindowBatch)));
}

void write_row(std::vector<std::byte>& target, const ProducerRow& row) {
  append(target, StateTag::producer, ProducerFields{.id = row.id, .epoch = row.epoch, .last_lsn = row.last_lsn});
}

void write_row(std::vector<std::byte>& target, const LogRow& row) {
  append(target, StateTag::log,
         LogFields{.next_lsn = row.next_lsn,
                   .chain = row.chain,
                   .last_leader_time = row.last_leader_time,
                   .day = row.day,
                   .epoch = row.epoch,
                   .day_batches = row.day_batches,
                   .day_records = row.day_records,
                   .day_body_bytes = row.day_body_bytes,
                   .offset_floor = row.offset_floor});
}

Result<> StateRowReader::read_fields(StateRow& row, Bytes rest) const {
  switch (row.key.tag) {
    case StateTag::stream: return read_stream(row, rest);
    case StateTag::window: return read_window(row, rest);
    case StateTag::producer: {
      if (rest.size() != sizeof(ProducerFields)) return fail(Error::corrupt);
      auto fields = load<ProducerFields>(rest);
      if (fields.zeros != 0) return fail(Error::corrupt);
      row.producer = {fields.id, fields.epoch, fields.last_lsn};
      row.key.first = fields.id.value;
      return {};
    }
    case StateTag::log: {
      if (rest.size() != sizeof(LogFields)) return fail(Error::corrupt);
      auto fields = load<LogFields>(rest);
      if (fields.zeros != 0) return fail(Error::corrupt);
      row.log = {fields.next_lsn,    fields.chain,       fields.last_leader_time, fields.day,         fields.epoch,
                 fields.day_batches, fields.day_records, fields.day_body_bytes,   fields.offset_floor};
      return {};
    }
  }
  return fail(Error::corrupt);
}

RowKey row_key(Bytes row) {
  RowKey key{.tag = load<StateTag>(row)};
  if (key.tag != StateTag::log) key.first = load<std::uint64_t>(row, 8);
  if (key.tag == StateTag::window) key.second = load<std::uint64_t>(row, 16);
  return key;
}

Result<bool> StateRowReader::next(StateRow& row) {
  if (rest_.empty()) return false;
  if (rest_.size() < sizeof(RowHead)) return fail(Error::corrupt);
  auto head = load<RowHead>(rest_);
  if (!all_zero(as_bytes(head.zeros, sizeof(head.zeros))) || !is_aligned(head.length, 8) ||
      head.length > rest_.size() - sizeof(RowHead))
    return fail(Error::corrupt);
  row = {};
  row.key.tag = head.tag;
  row.raw = rest_.first(sizeof(RowHead) + head.length);
  Result<> fields = read_fields(row, rest_.subspan(sizeof(RowHead), head.length));
  if (!fields) return fail(fields.error());
  if (row.key <= last_) return fail(Error::corrupt);
  last_ = row.key;
  rest_ = rest_.subspan(row.raw.size());
  return true;
}

}  // namespace millrace
