// Packs records into a batch: header and body in one aligned piece of memory, ready to be sent or stored.
//
//   BatchBuilder builder(options);
//   while (builder.add(record)) …            false: it does not fit any more; finish, then add it again
//   Bytes batch = builder.finish(header);    header, body, zeros to 16; valid until the next begin() or add()
//   builder.begin();
//
// The body is the flatbuffer of batch.fbs, laid out by hand so that a payload is copied once and nothing is allocated after
// the buffers have grown to the batches in use. Vectors that say nothing (all types 0, all event times equal, no keys, no
// headers) are left out. Pure; one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"

namespace millrace {

struct RecordInput {
  Bytes payload;
  std::uint16_t type = 0;
  Nanos event_time = 0;
  bool has_key = false;  // all records of a batch or none: the first one decides, add() refuses others
  bool has_headers = false;
  Bytes key;
  Bytes headers;
};

struct BatchBuilderOptions {
  std::uint32_t bytes_max = 64 * KiB;  // header, body and padding; at most batch_bytes_max
  std::uint32_t records_max = batch_records_max;
};

class BatchBuilder {
 public:
  explicit BatchBuilder(BatchBuilderOptions options = {});

  /// Forgets the records, keeps the memory.
  void begin();

  /// True when it was taken. False when the batch would pass bytes_max or records_max, or the record's keys and headers are
  /// not as the first one's. An empty batch takes a record over bytes_max as long as it is within batch_bytes_max.
  bool add(const RecordInput& record);

  bool empty() const { return ends_.empty(); }
  std::uint32_t count() const { return static_cast<std::uint32_t>(ends_.size()); }
  /// Exact length of header and body as finish() would give them now, padding included; 0 when empty.
  std::size_t bytes() const;

  /// Completes the batch. `header` brings stream and producer fields; record count, times, lengths, hash
  /// and checksum are set here, with the chain zero as an append wants it. At least one record.
  Bytes finish(BatchHeader& header);
  /// The body within what finish() returned.
  Bytes body() const { return Bytes(buffer_).subspan(batch_header_bytes, body_bytes_); }

 private:
  struct Sizes {
    std::uint64_t records = 0, payload = 0, keys = 0, headers = 0;
    bool types = false, times = false, has_keys = false, has_headers = false;
  };
  static std::uint64_t body_bytes_for(const Sizes& sizes);
  Sizes sizes_with(const RecordInput& record) const;

  BatchBuilderOptions options_;

  std::vector<std::byte> buffer_;  // batch header, fixed front of the body, payload; the vectors follow at finish()
  std::vector<std::uint32_t> ends_;
  std::vector<std::uint16_t> types_;
  std::vector<std::int64_t> event_times_;
  std::vector<std::uint32_t> key_ends_;
  std::vector<std::byte> keys_;
  std::vector<std::uint32_t> header_ends_;
  std::vector<std::byte> headers_;
  Sizes sizes_;
  Nanos event_time_min_ = 0;
  Nanos event_time_max_ = 0;
  std::uint32_t body_bytes_ = 0;  // set by finish()
};

}  // namespace millrace
