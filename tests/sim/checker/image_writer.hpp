// Writes a data directory byte by byte as the format pages say: what the checker's own tests damage on purpose, and what
// shows that server and checker agree on bytes neither of them wrote.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/checker/fields.hpp"
#include "tests/sim/checker/parsed_log.hpp"

namespace millrace::checker {

class ImageWriter {
 public:
  static constexpr std::uint64_t segment_bytes = 256 * 1024;

  using Buffer = std::vector<std::byte>;

  template <class T>
  static void put(Buffer& buffer, std::size_t at, T value) {
    if (buffer.size() < at + sizeof(T)) buffer.resize(at + sizeof(T));
    std::memcpy(buffer.data() + at, &value, sizeof(T));
  }

  void begin_segment(std::uint32_t day, std::uint32_t number) {
    path_ = "shard-00/" + day_name(day) + "/data" + std::string(5, '0') + std::to_string(number);
    Buffer& file = files[path_];
    file.assign(segment_bytes, std::byte{0});
    put(file, 0, magic("MRS1")), put(file, 4, std::uint16_t{1}), put(file, 6, std::uint16_t{1});
    put(file, 40, std::uint64_t{7}), put(file, 48, std::uint64_t{8});
    put(file, 56, ++segment_id_), put(file, 64, segment_id_ * 31);
    put(file, 76, day), put(file, 84, number), put(file, 88, lsn), put(file, 96, epoch);
    if (segment_id_ > 1)
      put(file, 104, segment_id_ - 1), put(file, 112, (segment_id_ - 1) * 31), put(file, 120, end_),
          put(file, 128, chain_);
    put(file, 136, std::uint64_t{1} << 20), put(file, 144, segment_bytes);
    put(file, 8, hash_without(Bytes(file).first(4096), {8}));
    chain_ = u64(file, 8);
    end_ = 4096;
    if (day != day_) ids_.clear();
    day_ = day;
    number_ = number;
  }

  /// One group of the batches made since the last one.
  void close_group() {
    Buffer& file = files[path_];
    Buffer group(128 + pending_.size());
    put(group, 0, magic("MRG1")), put(group, 4, pending_count_);
    put(group, 16, segment_id_), put(group, 24, segment_id_ * 31), put(group, 32, end_), put(group, 40, epoch);
    put(group, 48, pending_lsn_), put(group, 56, pending_chain_), put(group, 64, pending_lsn_);
    put(group, 72, static_cast<std::uint64_t>(group.size())), put(group, 80, chain_);
    put(group, 8, hash_without(Bytes(group).first(128), {8}));
    std::memcpy(group.data() + 128, pending_.data(), pending_.size());
    std::memcpy(file.data() + end_, group.data(), group.size());
    last_group = end_;
    end_ += up(group.size(), 4096);
    pending_.clear();
    pending_count_ = 0;
  }

  /// Leaves the pending batches in a tail slot instead.
  void close_slot() {
    Buffer& tail = files["shard-00/tail"];
    if (tail.empty()) tail.assign(64 * 1024, std::byte{0});
    Buffer slot(128 + pending_.size());
    put(slot, 0, magic("MRL1")), put(slot, 4, static_cast<std::uint32_t>(pending_.size())),
        put(slot, 16, ++slot_number_);
    put(slot, 24, segment_id_), put(slot, 32, segment_id_ * 31), put(slot, 40, end_),
        put(slot, 48, end_ + 128 + in_slots_);
    put(slot, 56, epoch), put(slot, 64, pending_lsn_), put(slot, 72, pending_chain_), put(slot, 80, pending_lsn_);
    std::memcpy(slot.data() + 128, pending_.data(), pending_.size());
    put(slot, 8, hash_without(slot, {8}));
    std::memcpy(tail.data() + 4096 * slot_number_, slot.data(), slot.size());
    in_slots_ += pending_.size();
    pending_.clear();
    pending_count_ = 0;
  }

  void add_batch(std::uint8_t kind, std::uint64_t stream, std::uint32_t count, const Buffer& body,
                 std::uint64_t producer, std::uint64_t sequence) {
    if (pending_count_ == 0) pending_lsn_ = lsn, pending_chain_ = chain_;
    Buffer batch(up(192 + body.size(), 16));
    put(batch, 0, magic("MRB1")), put(batch, 4, kind);
    XXH128_hash_t body_hash = XXH3_128bits(body.data(), body.size());
    put(batch, 16, body_hash.low64), put(batch, 24, body_hash.high64);
    put(batch, 40, lsn++), put(batch, 48, stream);
    if (kind == 0) {
      put(batch, 56, offsets_[stream]), put(batch, 64, ids_[stream]);
      offsets_[stream] += count, ids_[stream] += count;
    }
    put(batch, 72, count), put(batch, 76, static_cast<std::uint32_t>(body.size())), put(batch, 80, ++leader_time);
    put(batch, 104, producer), put(batch, 112, std::uint32_t{producer != 0}), put(batch, 116, day_),
        put(batch, 120, sequence);
    put(batch, 128, static_cast<std::uint64_t>(body.size()));
    if (damage_next_header) put(batch, 136, std::uint64_t{1}), damage_next_header = false;
    chain_ = hash_without(Bytes(batch).first(192), {8, 32}, chain_);
    put(batch, 32, chain_);
    put(batch, 8, hash_without(Bytes(batch).first(192), {8}));
    std::memcpy(batch.data() + 192, body.data(), body.size());
    pending_.insert(pending_.end(), batch.begin(), batch.end());
    ++pending_count_;
  }

  void add_stream(std::string_view name) {
    Buffer body;
    put(body, 0, std::uint32_t{1}), put(body, 4, static_cast<std::uint32_t>(8 + name.size())),
        put(body, 8, id_of(name));
    for (char c : name) put(body, body.size(), c);
    add_batch(1, 0, 0, body, 0, 0);
  }

  void add_records(std::string_view name, const std::vector<std::string>& payloads, std::uint64_t producer,
                   std::uint64_t sequence) {
    add_batch(0, id_of(name), static_cast<std::uint32_t>(payloads.size()), body_of(payloads), producer, sequence);
  }

  void add_seal() {
    Buffer body(48);
    put(body, 0, day_), put(body, 8, std::uint64_t{seal_batches});
    add_batch(4, 0, 0, body, 0, 0);
  }

  static std::uint64_t id_of(std::string_view name) {
    return hash(Bytes(reinterpret_cast<const std::byte*>(name.data()), name.size()));
  }
  static std::uint64_t hash_of(std::string_view text) { return id_of(text); }

  /// A flatbuffers table of `ends` and `payload`, laid out by hand.
  static Buffer body_of(const std::vector<std::string>& payloads) {
    Buffer body;
    auto count = static_cast<std::uint32_t>(payloads.size());
    put(body, 0, std::uint32_t{20});                                   // root table
    put(body, 4, std::uint16_t{12}), put(body, 6, std::uint16_t{12});  // vtable: its bytes, the table's bytes
    put(body, 8, std::uint16_t{4}), put(body, 10, std::uint16_t{0}), put(body, 12, std::uint16_t{0}),
        put(body, 14, std::uint16_t{8});
    put(body, 16, std::uint32_t{0});
    put(body, 20, std::int32_t{16}), put(body, 24, std::uint32_t{8}), put(body, 28, std::uint32_t{8 + 4 * count});
    put(body, 32, count);
    std::uint32_t end = 0;
    std::string payload;
    for (std::uint32_t i = 0; i < count; ++i) {
      payload += payloads[i];
      end += static_cast<std::uint32_t>(payloads[i].size());
      put(body, 36 + 4 * i, end);
    }
    put(body, 36 + 4 * count, end);
    for (char c : payload) put(body, body.size(), c);
    return body;
  }

  Image image() const {
    Image result;
    for (const auto& [path, bytes] : files) result[path] = bytes;
    return result;
  }
  Buffer& segment() { return files[path_]; }
  Buffer& tail() { return files["shard-00/tail"]; }
  std::uint64_t end() const { return end_; }

  std::map<std::string, Buffer> files;
  std::uint64_t lsn = 1;
  std::uint64_t epoch = 1;
  std::int64_t leader_time = 1'000'000;
  std::uint64_t last_group = 0;
  std::uint64_t seal_batches = 0;
  bool damage_next_header = false;

 private:
  static std::string day_name(std::uint32_t day) { return "2026-11-" + std::to_string(day - first_day + 21); }
  static constexpr std::uint32_t first_day = 20778;  // 2026-11-21

  std::string path_;
  std::uint64_t segment_id_ = 0, end_ = 0, chain_ = 0, in_slots_ = 0, slot_number_ = 0;
  std::uint32_t day_ = 0, number_ = 0;
  std::map<std::uint64_t, std::uint64_t> offsets_, ids_;
  Buffer pending_;
  std::uint32_t pending_count_ = 0;
  std::uint64_t pending_lsn_ = 0, pending_chain_ = 0;
};

}  // namespace millrace::checker
