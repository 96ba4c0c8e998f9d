// Bodies of batches: whatever stands behind a hash that fits, parsing refuses it or hands out slices that lie inside it, one
// behind the other, as many as the header says; and what the builder packs is read back.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "protocol/batch_builder.hpp"

namespace {

using namespace millrace;

bool inside(Bytes part, Bytes whole) {
  return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void any_body(Bytes input) {
  if (input.size() < 4) return;
  BatchHeader header;
  header.stream_id = 1;
  header.record_count = load<std::uint16_t>(input);
  header.event_time_max = load<std::uint16_t>(input, 2) % 2 == 0 ? 0 : INT64_MAX;
  std::vector<std::byte> body(input.begin() + 4, input.end());
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.body_hash = hash128(body);
  Result<BodyView> view = BodyView::parse(body, header);
  if (!view) return;
  MR_ASSERT(view->count() == header.record_count && view->count() > 0);
  const std::byte* end = nullptr;
  for (std::uint32_t record = 0; record < view->count(); ++record) {
    Bytes payload = view->payload(record);
    MR_ASSERT(inside(payload, body) && (end == nullptr || payload.data() == end));
    end = payload.data() + payload.size();
    MR_ASSERT(view->event_time(record) >= header.event_time_min && view->event_time(record) <= header.event_time_max);
    static_cast<void>(view->type(record));
    if (view->has_keys()) MR_ASSERT(inside(view->key(record), body));
    if (view->has_headers()) MR_ASSERT(inside(view->headers(record), body));
  }
}

void any_header(Bytes input) {
  BatchHeader header;
  if (input.size() < sizeof(header)) return;
  header = load<BatchHeader>(input);
  header.magic = batch_magic;
  header.checksum = header_checksum(header);
  Result<BatchHeader> read = read_batch_header(as_bytes(&header, sizeof(header)));
  if (!read) return;
  MR_ASSERT(batch_span(read->body_bytes) <= batch_bytes_max && read->record_count <= batch_records_max);
  MR_ASSERT(std::memcmp(&*read, &header, sizeof(header)) == 0);
}

void any_records(Bytes input) {
  BatchBuilder builder({.bytes_max = 32 * KiB});
  std::vector<RecordInput> records;
  bool keyed = !input.empty() && std::to_integer<unsigned>(input[0]) % 2 == 1;
  for (std::size_t at = 1; at + 3 <= input.size();) {
    std::size_t length = std::min<std::size_t>(std::to_integer<std::size_t>(input[at]), input.size() - at - 3);
    RecordInput record{.payload = input.subspan(at + 3, length), .key = {}, .headers = {}};
    record.type = std::to_integer<std::uint16_t>(input[at + 1]);
    record.event_time = std::to_integer<std::int64_t>(input[at + 2]) - 100;
    record.has_key = record.has_headers = keyed;
    if (keyed) record.key = record.payload.first(record.payload.size() / 2);
    if (!builder.add(record)) break;
    records.push_back(record);
    at += 3 + length;
  }
  if (records.empty()) return;
  std::size_t bytes = builder.bytes();
  BatchHeader header;
  header.stream_id = 1;
  Bytes batch = builder.finish(header);
  MR_ASSERT(batch.size() == bytes && read_batch_header(batch));
  Result<BodyView> view = BodyView::parse(builder.body(), header);
  MR_ASSERT(view && view->count() == records.size());
  for (std::uint32_t i = 0; i < view->count(); ++i) {
    MR_ASSERT(std::ranges::equal(view->payload(i), records[i].payload));
    MR_ASSERT(view->type(i) == records[i].type && view->event_time(i) == records[i].event_time);
    MR_ASSERT(view->has_keys() == keyed && (!keyed || std::ranges::equal(view->key(i), records[i].key)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 64 * KiB) return 0;
  Bytes input = as_bytes(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0: any_body(input); break;
    case 1: any_header(input); break;
    default: any_records(input); break;
  }
  return 0;
}
