// Turns the records that stand in a buffer's arena into a batch's body, in place: the payloads stay where append() put
// them; the flatbuffer's table and vectors of ends, types and times are written right-aligned before them, those of keys and
// headers behind. The result is the body of protocol/batch.fbs, as any flatbuffer reader sees it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "protocol/batch.hpp"
#include "sdk/core/buffer_pool.hpp"

namespace millrace {

/// Most bytes of frame header, message fields and batch header before a body.
inline constexpr std::size_t request_front_max = 512;

/// Most bytes of the body before the first payload byte, and behind the last one without keys and headers themselves.
constexpr std::size_t body_front_max(std::uint32_t records) { return 112 + std::size_t{14} * records; }
constexpr std::size_t body_back_max(std::uint32_t records) { return 64 + std::size_t{8} * records; }

/// So many records' vectors leave most of a largest batch to payloads: no client packs more.
inline constexpr std::uint32_t client_batch_records_max = 128 * 1024;

/// Bytes of payload, keys and headers that are left of a largest batch of at most so many records, on any server.
constexpr std::size_t arena_bytes_max(std::uint32_t records) {
  const std::size_t around = request_front_max + body_front_max(records) + body_back_max(records) + batch_align;
  return (batch_bytes_max - around) / buffer_align * buffer_align;
}

struct PackedBody {
  MutableBytes body;  // inside the buffer; front at a multiple of 16
  std::uint32_t record_count = 0;
  std::int64_t event_time_min = 0;
  std::int64_t event_time_max = 0;
};

/// Memory that packing keys and headers needs; kept between calls.
struct PackScratch {
  std::vector<std::byte> keys;
  std::vector<std::byte> headers;
  std::vector<std::uint32_t> payload_ends;
};

/// Packs the first `records` (at least one). The arena's payloads move only when the batch has keys or headers.
PackedBody pack_body(const BatchBuffer& buffer, std::uint32_t records, PackScratch& scratch);

}  // namespace millrace
