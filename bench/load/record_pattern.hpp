// What millrace-load writes into its records: enough to tell, reading back, which record of which producer of which run this is
// and that no byte of it has changed.
//
//   u64 run · u64 producer · u64 number · then noise, the same in all
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace millrace::load {

struct RecordName {
  std::uint64_t run = 0;
  std::uint64_t producer = 0;
  std::uint64_t number = 0;
  bool operator==(const RecordName&) const = default;
};
static_assert(sizeof(RecordName) == 24);

class RecordPattern {
 public:
  explicit RecordPattern(std::size_t record_bytes) : bytes_(record_bytes) {
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (std::byte& byte : bytes_) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<std::byte>(state >> 56);
    }
  }

  /// The bytes of the record; valid until the next call. Made in place: a record costs three stores here.
  std::span<const std::byte> make(const RecordName& name) {
    std::memcpy(bytes_.data(), &name, sizeof name);
    return bytes_;
  }

  /// Reads the name, and checks everything behind it.
  bool check(std::span<const std::byte> record, RecordName& name) const {
    if (record.size() != bytes_.size()) return false;
    std::memcpy(&name, record.data(), sizeof name);
    return std::memcmp(record.data() + sizeof name, bytes_.data() + sizeof name, bytes_.size() - sizeof name) == 0;
  }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace millrace::load
