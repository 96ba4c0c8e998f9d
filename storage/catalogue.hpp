// The streams of a shard: names, next offsets and ids. A pure function of the log; memory is the only copy here.
//
// Streams are numbered in the order of their creation and never leave, so a number is a stable handle. A name may be
// declared before its stream exists: the first batch then creates it.
// Memory: one entry a stream, names in chunks; creating may allocate, everything else does not.
// Thread: the shard's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

inline constexpr std::size_t streams_max = 1u << 20;         // per shard, created
inline constexpr std::size_t declared_streams_max = 65'536;  // named, not created yet

struct Stream {
  StreamId id{};
  Offset next_offset{};
  RecordId next_id{};  // within `day`
  Day day{};           // of its last record
  Offset first_kept{};
  Offset begin{};         // where it was created
  std::string_view name;  // empty: known by its batches alone, its catalogue batch was lost
  bool created = false;   // a catalogue batch, or a row, says its name

  /// It is part of the log; a name that was only declared is not.
  bool exists() const { return created || next_offset != Offset{}; }
  /// Where it begins, or what a trim left.
  Offset first() const { return std::max(begin, first_kept); }

  std::uint32_t touched = 0;  // ordinal of the segment that changed it last (storage/tables)
  bool saved = false;         // its row for that segment was taken
};

class Catalogue {
 public:
  static constexpr std::uint32_t none = UINT32_MAX;

  Catalogue();
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;
  ~Catalogue();

  /// The stream's number, or none; also of declared ones.
  std::uint32_t find(StreamId id) const;
  Stream& at(std::uint32_t number) { return streams_[number]; }
  const Stream& at(std::uint32_t number) const { return streams_[number]; }
  /// Created and declared ones.
  std::size_t size() const { return streams_.size(); }
  std::size_t created() const { return created_; }

  /// Makes a name known. Errors: invalid_argument (empty, too long, not UTF-8, control characters), name_collision, too_large
  /// (streams_max), retry_later (declared_streams_max).
  Result<std::uint32_t> declare(std::string_view name);
  /// The stream exists from now on.
  void create(std::uint32_t number);
  /// A stream as a row or catalogue batch has it; replaces what is known. Never refuses: the log says so.
  std::uint32_t put(StreamId id, std::string_view name);

  /// A stream whose catalogue batch was lost to damage: known by what its batches say, until somebody names it again.
  std::uint32_t put_nameless(StreamId id);

  static Result<> check_name(std::string_view name);

 private:
  std::uint32_t add(StreamId id, std::string_view name);
  std::string_view keep_name(std::string_view name);
  void grow();

  std::vector<Stream> streams_;
  std::vector<std::uint32_t> slots_;  // open addressing over the id; none = free
  std::vector<std::unique_ptr<char[]>> chunks_;
  std::size_t chunk_used_ = 0;
  std::size_t chunk_size_ = 0;
  std::size_t created_ = 0;
};

}  // namespace millrace
