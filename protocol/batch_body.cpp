#include "protocol/batch.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "protocol/batch_generated.h"
#pragma GCC diagnostic pop

namespace millrace {

namespace {

/// Strictest alignment of a vector's elements; the verifier checks positions only against the body's own start.
constexpr std::size_t body_align = 8;

const std::byte* bytes_at(const flatbuffers::Vector<std::uint8_t>* vector) {
  return vector == nullptr ? nullptr : reinterpret_cast<const std::byte*>(vector->Data());
}

std::size_t size_of(const flatbuffers::Vector<std::uint8_t>* vector) { return vector == nullptr ? 0 : vector->size(); }

template <class T>
const T* data_of(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? nullptr : reinterpret_cast<const T*>(vector->Data());
}

/// `ends` has one entry a record, never falls, and its last entry is all of `bytes`.
bool ends_fit(const flatbuffers::Vector<std::uint32_t>* ends, std::uint32_t count, std::size_t bytes) {
  if (ends->size() != count) return false;
  const std::uint32_t* end = data_of(ends);
  bool falls = false;
  for (std::uint32_t record = 1; record < count; ++record) falls |= end[record] < end[record - 1];
  return !falls && end[count - 1] == bytes;
}

/// Optional pair of an end vector and a blob: both or none, and then they fit.
bool pair_fits(const flatbuffers::Vector<std::uint32_t>* ends, const flatbuffers::Vector<std::uint8_t>* blob,
               std::uint32_t count) {
  if (ends == nullptr) return blob == nullptr;
  return ends_fit(ends, count, size_of(blob));
}

bool times_fit(const flatbuffers::Vector<std::int64_t>* times, const BatchHeader& header) {
  if (times == nullptr) return header.event_time_min == header.event_time_max;
  if (times->size() != header.record_count) return false;
  const std::int64_t* time = data_of(times);
  bool outside = false;
  for (std::uint32_t record = 0; record < header.record_count; ++record)
    outside |= time[record] < header.event_time_min || time[record] > header.event_time_max;
  return !outside;
}

Bytes slice(const std::byte* blob, const std::uint32_t* ends, std::uint32_t record) {
  std::uint32_t begin = record == 0 ? 0 : ends[record - 1];
  return {blob + begin, ends[record] - begin};
}

}  // namespace

Result<BodyView> BodyView::parse(Bytes body, const BatchHeader& header) {
  if (header.kind != BatchKind::data || header.record_count == 0) return fail(Error::bad_body);
  if (!is_aligned(reinterpret_cast<std::uintptr_t>(body.data()), body_align)) return fail(Error::bad_body);
  if (body.size() != header.body_bytes || hash128(body) != header.body_hash) return fail(Error::bad_body);

  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
  if (!fbs::VerifyBodyBuffer(verifier)) return fail(Error::bad_body);
  const fbs::Body* root = fbs::GetBody(body.data());
  if (root->ends() == nullptr) return fail(Error::bad_body);

  std::uint32_t count = header.record_count;
  bool fits = ends_fit(root->ends(), count, size_of(root->payload())) &&
              (root->types() == nullptr || root->types()->size() == count) && times_fit(root->event_times(), header) &&
              pair_fits(root->key_ends(), root->keys(), count) &&
              pair_fits(root->header_ends(), root->headers(), count);
  if (!fits) return fail(Error::bad_body);

  BodyView view;
  view.count_ = count;
  view.ends_ = data_of(root->ends());
  view.types_ = data_of(root->types());
  view.event_times_ = data_of(root->event_times());
  view.payload_ = bytes_at(root->payload());
  view.key_ends_ = data_of(root->key_ends());
  view.keys_ = bytes_at(root->keys());
  view.header_ends_ = data_of(root->header_ends());
  view.headers_ = bytes_at(root->headers());
  view.event_time_min_ = header.event_time_min;
  return view;
}

Bytes BodyView::payload(std::uint32_t record) const {
  MR_ASSERT(record < count_);
  return slice(payload_, ends_, record);
}

std::uint16_t BodyView::type(std::uint32_t record) const {
  MR_ASSERT(record < count_);
  return types_ == nullptr ? std::uint16_t{0} : types_[record];
}

Nanos BodyView::event_time(std::uint32_t record) const {
  MR_ASSERT(record < count_);
  return event_times_ == nullptr ? event_time_min_ : event_times_[record];
}

Bytes BodyView::key(std::uint32_t record) const {
  MR_ASSERT(record < count_ && has_keys());
  return slice(keys_, key_ends_, record);
}

Bytes BodyView::headers(std::uint32_t record) const {
  MR_ASSERT(record < count_ && has_headers());
  return slice(headers_, header_ends_, record);
}

}  // namespace millrace
