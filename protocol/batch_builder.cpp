#include "protocol/batch_builder.hpp"

#include <algorithm>

#include "base/hash.hpp"

namespace millrace {

namespace {

// The body's fixed front: root offset, identifier, vtable for eight fields, table of eight offsets. Offsets in a flatbuffer
// point forward, so the table stands first and the payload right behind it; an absent field's vtable entry is zero.
constexpr std::uint32_t field_count = 8;
constexpr std::uint32_t vtable_at = 8;
constexpr std::uint32_t table_at = vtable_at + 4 + 2 * field_count;
constexpr std::uint32_t front_bytes = table_at + 4 + 4 * field_count;
static_assert(front_bytes == 64);

enum Field : std::uint32_t { ends, types, event_times, payload, key_ends, keys, header_ends, headers };

/// Where a vector's length stands so that its elements are aligned behind it.
constexpr std::uint64_t vector_at(std::uint64_t end, std::size_t element) {
  return align_up(end + 4, std::max<std::size_t>(element, 4)) - 4;
}

constexpr std::uint64_t vector_end(std::uint64_t end, std::uint64_t count, std::size_t element) {
  return vector_at(end, element) + 4 + count * element;
}

/// Writes vectors behind the payload and their offsets into the front.
class BodyWriter {
 public:
  BodyWriter(std::vector<std::byte>& buffer, std::uint64_t payload_bytes)
      : buffer_(buffer), end_(front_bytes + 4 + payload_bytes) {
    put<std::uint32_t>(0, table_at);
    std::memcpy(buffer_.data() + batch_header_bytes + 4, "MRBD", 4);
    put<std::uint16_t>(vtable_at, table_at - vtable_at);
    put<std::uint16_t>(vtable_at + 2, front_bytes - table_at);
    put<std::int32_t>(table_at, table_at - vtable_at);
    put(front_bytes, static_cast<std::uint32_t>(payload_bytes));
    point(Field::payload, front_bytes);
  }

  template <class T>
  void vector(Field field, const std::vector<T>& values) {
    std::uint64_t at = vector_at(end_, sizeof(T));
    end_ = vector_end(end_, values.size(), sizeof(T));
    buffer_.resize(batch_header_bytes + end_);
    put(at, static_cast<std::uint32_t>(values.size()));
    if (!values.empty())
      std::memcpy(buffer_.data() + batch_header_bytes + at + 4, values.data(), values.size() * sizeof(T));
    point(field, at);
  }

  std::uint64_t end() const { return end_; }

 private:
  template <class T>
  void put(std::uint64_t at, T value) {
    store(MutableBytes(buffer_), batch_header_bytes + at, value);
  }
  void point(Field field, std::uint64_t at) {
    std::uint32_t slot = 4 + 4 * field;
    put(vtable_at + 4 + 2 * field, static_cast<std::uint16_t>(slot));
    put(table_at + slot, static_cast<std::uint32_t>(at - table_at - slot));
  }

  std::vector<std::byte>& buffer_;
  std::uint64_t end_;
};

void append(std::vector<std::byte>& target, Bytes bytes) { target.insert(target.end(), bytes.begin(), bytes.end()); }

}  // namespace

BatchBuilder::BatchBuilder(BatchBuilderOptions options) : options_(options) {
  MR_ASSERT(options_.bytes_max <= batch_bytes_max && options_.records_max <= batch_records_max);
  begin();
}

void BatchBuilder::begin() {
  buffer_.clear();
  buffer_.resize(batch_header_bytes + front_bytes + 4);
  ends_.clear();
  types_.clear();
  event_times_.clear();
  key_ends_.clear();
  keys_.clear();
  header_ends_.clear();
  headers_.clear();
  sizes_ = {};
  body_bytes_ = 0;
}

std::uint64_t BatchBuilder::body_bytes_for(const Sizes& sizes) {
  std::uint64_t end = front_bytes + 4 + sizes.payload;
  end = vector_end(end, sizes.records, sizeof(std::uint32_t));
  if (sizes.types) end = vector_end(end, sizes.records, sizeof(std::uint16_t));
  if (sizes.times) end = vector_end(end, sizes.records, sizeof(std::int64_t));
  if (sizes.has_keys) end = vector_end(vector_end(end, sizes.records, 4), sizes.keys, 1);
  if (sizes.has_headers) end = vector_end(vector_end(end, sizes.records, 4), sizes.headers, 1);
  return end;
}

BatchBuilder::Sizes BatchBuilder::sizes_with(const RecordInput& record) const {
  Sizes with = sizes_;
  with.records += 1;
  with.payload += record.payload.size();
  with.keys += record.key.size();
  with.headers += record.headers.size();
  with.types |= record.type != 0;
  with.times |= !empty() && record.event_time != event_time_min_;
  with.has_keys = record.has_key;
  with.has_headers = record.has_headers;
  return with;
}

std::size_t BatchBuilder::bytes() const {
  return empty() ? 0 : align_up(batch_header_bytes + body_bytes_for(sizes_), batch_align);
}

bool BatchBuilder::add(const RecordInput& record) {
  MR_ASSERT(body_bytes_ == 0);  // begin() comes between finish() and add()
  if (!empty() && (record.has_key != sizes_.has_keys || record.has_headers != sizes_.has_headers)) return false;
  if (ends_.size() >= options_.records_max) return false;
  Sizes with = sizes_with(record);
  std::uint64_t bytes_max = empty() ? std::uint64_t{batch_bytes_max} : options_.bytes_max;
  if (align_up(batch_header_bytes + body_bytes_for(with), batch_align) > bytes_max) return false;

  event_time_min_ = empty() ? record.event_time : std::min(event_time_min_, record.event_time);
  event_time_max_ = empty() ? record.event_time : std::max(event_time_max_, record.event_time);
  sizes_ = with;
  append(buffer_, record.payload);
  ends_.push_back(static_cast<std::uint32_t>(with.payload));
  types_.push_back(record.type);
  event_times_.push_back(record.event_time);
  if (record.has_key) {
    append(keys_, record.key);
    key_ends_.push_back(static_cast<std::uint32_t>(with.keys));
  }
  if (record.has_headers) {
    append(headers_, record.headers);
    header_ends_.push_back(static_cast<std::uint32_t>(with.headers));
  }
  return true;
}

Bytes BatchBuilder::finish(BatchHeader& header) {
  MR_ASSERT(!empty() && body_bytes_ == 0);
  BodyWriter writer(buffer_, sizes_.payload);
  writer.vector(Field::ends, ends_);
  if (sizes_.types) writer.vector(Field::types, types_);
  if (sizes_.times) writer.vector(Field::event_times, event_times_);
  if (sizes_.has_keys) {
    writer.vector(Field::key_ends, key_ends_);
    writer.vector(Field::keys, keys_);
  }
  if (sizes_.has_headers) {
    writer.vector(Field::header_ends, header_ends_);
    writer.vector(Field::headers, headers_);
  }
  MR_ASSERT(writer.end() == body_bytes_for(sizes_));
  body_bytes_ = static_cast<std::uint32_t>(writer.end());
  buffer_.resize(batch_span(body_bytes_));

  header.kind = BatchKind::data;
  header.record_count = count();
  header.body_bytes = body_bytes_;
  header.raw_bytes = body_bytes_;
  header.event_time_min = event_time_min_;
  header.event_time_max = event_time_max_;
  header.body_hash = hash128(body());
  header.chain = 0;
  header.checksum = header_checksum(header);
  store(MutableBytes(buffer_), 0, header);
  return Bytes(buffer_);
}

}  // namespace millrace
