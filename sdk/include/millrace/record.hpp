// Records as an application writes and reads them. Views only: nothing here owns memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace millrace {

using ByteView = std::span<const std::byte>;

inline ByteView view_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view text_view(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// One record to append. The bytes are copied during append(); they may be anything, also nothing.
struct Record {
  std::uint16_t type = 0;
  std::int64_t event_time = 0;  // ns since 1970; 0 = the moment of append()
  ByteView payload{};
  ByteView key{};      // optional
  ByteView headers{};  // optional, opaque to Millrace

  Record() = default;
  explicit Record(std::string_view text, std::uint16_t record_type = 0, std::int64_t time = 0)
      : type(record_type), event_time(time), payload(view_of(text)) {}
  explicit Record(ByteView bytes, std::uint16_t record_type = 0, std::int64_t time = 0)
      : type(record_type), event_time(time), payload(bytes) {}
};

/// One record read back. The views are valid until the next call to the consumer that gave it.
struct ReadRecord {
  std::string_view stream{};
  std::uint64_t offset = 0;      // dense number in the stream, from 0
  std::uint32_t day = 0;         // days since 1970-01-01 in the log's own offset
  std::uint64_t id = 0;          // number within the stream's day, from 0
  std::uint64_t lsn = 0;         // the batch it came in
  std::int64_t leader_time = 0;  // ns since 1970, given by the server, never falls within a shard
  std::int64_t event_time = 0;   // ns since 1970, given by the producer
  std::uint16_t type = 0;
  ByteView payload{};
  ByteView key{};
  ByteView headers{};
};

/// "2026-11-21"
std::string day_text(std::uint32_t day);
/// "2026-11-21T07:19:25.123456789Z"
std::string time_text(std::int64_t nanoseconds);

}  // namespace millrace
