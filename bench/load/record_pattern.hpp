// What millrace-load writes into its records: enough to tell, reading back, which record of which producer of which run this is
// and that no byte of it has changed.
//
//   u64 run · u64 producer · u64 number · then a stretch of fixed noise that depends on the number
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
  explicit RecordPattern(std::size_t record_bytes) : record_bytes_(record_bytes), noise_(record_bytes + phases) {
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (std::byte& byte : noise_) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<std::byte>(state >> 56);
    }
  }

  /// The bytes of the record; valid until the next call. Where the name stands is overwritten in place, so that a record
  /// costs three stores here.
  std::span<const std::byte> make(const RecordName& name) {
    std::byte* at = noise_.data() + name.number % phases;
    // The noise under the last name comes back first.
    if (under_ != nullptr) std::memcpy(under_, saved_, sizeof saved_);
    std::memcpy(saved_, at, sizeof saved_);
    under_ = at;
    std::memcpy(at, &name, sizeof name);
    return {at, record_bytes_};
  }

  /// Reads the name, and checks everything behind it.
  bool check(std::span<const std::byte> record, RecordName& name) const {
    if (record.size() != record_bytes_) return false;
    std::memcpy(&name, record.data(), sizeof name);
    const std::byte* noise = noise_.data() + name.number % phases + sizeof name;
    return std::memcmp(record.data() + sizeof name, noise, record_bytes_ - sizeof name) == 0;
  }

 private:
  static constexpr std::size_t phases = 61;

  const std::size_t record_bytes_;
  std::vector<std::byte> noise_;
  std::byte* under_ = nullptr;
  std::byte saved_[sizeof(RecordName)] = {};
};

}  // namespace millrace::load
