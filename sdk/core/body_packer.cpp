#include "sdk/core/body_packer.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

namespace millrace {

namespace {

// The body's front, at fixed places: root offset, file identifier, vtable, table. Field order is that of batch.fbs.
constexpr std::uint32_t vtable_at = 8;
constexpr std::uint32_t table_at = 28;
constexpr std::uint32_t fields = 8;
constexpr std::uint32_t front_end = table_at + 4 + 4 * fields;
enum Field : std::uint32_t { ends, types, event_times, payload, key_ends, keys, header_ends, headers };

struct FrontWriter {
  std::byte* body;

  void begin() {
    std::memset(body, 0, front_end);
    put(0, table_at);
    std::memcpy(body + 4, "MRBD", 4);
    put16(vtable_at, 4 + 2 * fields);
    put16(vtable_at + 2, 4 + 4 * fields);
    put(table_at, table_at - vtable_at);
  }
  /// The vector's length stands at `at`, its elements behind it.
  void field(Field which, std::uint32_t at, std::uint32_t length) {
    const std::uint32_t slot = 4 + 4 * which;
    put16(vtable_at + 4 + 2 * which, static_cast<std::uint16_t>(slot));
    put(table_at + slot, at - (table_at + slot));
    put(at, length);
  }
  void put(std::uint32_t at, std::uint32_t value) { std::memcpy(body + at, &value, 4); }
  void put16(std::uint32_t at, std::uint16_t value) { std::memcpy(body + at, &value, 2); }
};

struct Survey {
  std::int64_t time_min;
  std::int64_t time_max;
  bool types = false;
  bool keys = false;
  bool headers = false;
};

Survey survey(const RecordNote* notes, std::uint32_t records) {
  Survey s{notes[0].event_time, notes[0].event_time};
  std::uint32_t any_type = 0;
  std::uint32_t any_key = 0;
  std::uint32_t any_header = 0;
  for (std::uint32_t i = 0; i < records; ++i) {
    s.time_min = std::min(s.time_min, notes[i].event_time);
    s.time_max = std::max(s.time_max, notes[i].event_time);
    any_type |= notes[i].type;
    any_key |= notes[i].key_bytes;
    any_header |= notes[i].header_bytes;
  }
  s.types = any_type != 0;
  s.keys = any_key != 0;
  s.headers = any_header != 0;
  return s;
}

/// Takes keys and headers out of the arena, closing the gaps they leave between payloads.
void separate(const BatchBuffer& buffer, std::uint32_t records, PackScratch& scratch) {
  scratch.keys.clear();
  scratch.headers.clear();
  scratch.payload_ends.resize(records);
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  for (std::uint32_t i = 0; i < records; ++i) {
    const RecordNote& note = buffer.notes[i];
    const std::uint32_t bytes = note.end - from - note.key_bytes - note.header_bytes;
    const std::byte* key = buffer.arena + from + bytes;
    scratch.keys.insert(scratch.keys.end(), key, key + note.key_bytes);
    scratch.headers.insert(scratch.headers.end(), key + note.key_bytes, key + note.key_bytes + note.header_bytes);
    std::memmove(buffer.arena + to, buffer.arena + from, bytes);
    to += bytes;
    from = note.end;
    scratch.payload_ends[i] = to;
  }
}

/// Writes a vector of running ends and one of the bytes they divide at `at`; returns where it ended, aligned to 4.
template <class LengthOf>
std::uint32_t put_divided(FrontWriter& front, Field ends_field, Field bytes_field, std::uint32_t at,
                          std::uint32_t records, Bytes bytes, LengthOf length_of) {
  front.field(ends_field, at, records);
  at += 4;
  std::uint32_t end = 0;
  for (std::uint32_t i = 0; i < records; ++i, at += 4) front.put(at, end += length_of(i));
  front.field(bytes_field, at, static_cast<std::uint32_t>(bytes.size()));
  at += 4;
  if (!bytes.empty()) std::memcpy(front.body + at, bytes.data(), bytes.size());
  const auto stop = static_cast<std::uint32_t>(at + bytes.size());
  const auto aligned = static_cast<std::uint32_t>(align_up(stop, 4));
  std::memset(front.body + stop, 0, aligned - stop);
  return aligned;
}

}  // namespace

PackedBody pack_body(const BatchBuffer& buffer, std::uint32_t records, PackScratch& scratch) {
  MR_ASSERT(records > 0);
  const Survey seen = survey(buffer.notes, records);
  const bool times = seen.time_min != seen.time_max;
  const bool divided = seen.keys || seen.headers;
  if (divided) separate(buffer, records, scratch);
  const std::uint32_t payload_bytes = divided ? scratch.payload_ends.back() : buffer.notes[records - 1].end;

  // Elements of times must stand at a multiple of 8, so their length stands 4 before one.
  const std::uint32_t times_at = front_end + 4;
  const std::uint32_t ends_at = times ? times_at + 4 + 8 * records : front_end;
  const std::uint32_t types_at = ends_at + 4 + 4 * records;
  const std::uint32_t types_end = seen.types ? types_at + 4 + 2 * records : types_at;
  const auto payload_at =
      static_cast<std::uint32_t>(align_up(types_end + 4, 16));  // of its bytes; the length before them

  FrontWriter front{buffer.arena - payload_at};
  std::byte* body = front.body;
  front.begin();
  front.put(front_end, 0);
  if (times) {
    front.field(event_times, times_at, records);
    for (std::uint32_t i = 0; i < records; ++i)
      std::memcpy(body + times_at + 4 + 8 * i, &buffer.notes[i].event_time, 8);
  }
  front.field(ends, ends_at, records);
  if (divided) std::memcpy(body + ends_at + 4, scratch.payload_ends.data(), std::size_t{4} * records);
  else
    for (std::uint32_t i = 0; i < records; ++i) std::memcpy(body + ends_at + 4 + 4 * i, &buffer.notes[i].end, 4);
  if (seen.types) {
    front.field(types, types_at, records);
    for (std::uint32_t i = 0; i < records; ++i) std::memcpy(body + types_at + 4 + 2 * i, &buffer.notes[i].type, 2);
  }
  std::memset(body + types_end, 0, payload_at - types_end);
  front.field(payload, payload_at - 4, payload_bytes);

  std::uint32_t end = payload_at + payload_bytes;
  if (divided) {
    const auto aligned = static_cast<std::uint32_t>(align_up(end, 4));
    std::memset(body + end, 0, aligned - end);
    end = aligned;
  }
  if (seen.keys)
    end = put_divided(front, key_ends, keys, end, records, bytes_of(scratch.keys),
                      [&](std::uint32_t i) { return buffer.notes[i].key_bytes; });
  if (seen.headers)
    end = put_divided(front, header_ends, headers, end, records, bytes_of(scratch.headers),
                      [&](std::uint32_t i) { return buffer.notes[i].header_bytes; });
  return {{body, end}, records, seen.time_min, seen.time_max};
}

}  // namespace millrace
