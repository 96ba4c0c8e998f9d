// Consumer: reads the records of one stream in order, from anywhere, to anywhere, or follows its end.
//
// Every batch arrives with the header and hash its producer gave it, and is verified before its first record is handed
// out. After a lost connection the consumer goes on at the next offset by itself: no gap, no duplicate. Only durable
// records are ever seen.
//
// Threads: one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "millrace/error.hpp"
#include "millrace/record.hpp"

namespace millrace {

/// A place in a stream, in the words of the command line:
/// earliest | latest | offset:N | time:RFC3339 | day:YYYY-MM-DD[:ID]
struct Place {
  enum class Kind : std::uint8_t { earliest, latest, offset, time, day };
  Kind kind = Kind::earliest;
  std::uint64_t offset = 0;  // offset
  std::int64_t time = 0;     // time: ns since 1970, compared with the leader time
  std::uint32_t day = 0;     // day: days since 1970
  std::uint64_t id = 0;      // day: the number within it

  static Place earliest() { return {}; }
  static Place latest() { return {Kind::latest}; }
  static Place at_offset(std::uint64_t offset) { return {Kind::offset, offset}; }
  static Place at_time(std::int64_t nanoseconds) { return {Kind::time, 0, nanoseconds}; }
  static Place at_day(std::uint32_t day, std::uint64_t id = 0) { return {Kind::day, 0, 0, day, id}; }
  /// Refuses, with the forms named, what is none of them.
  static Expected<Place> parse(std::string_view text);
};

struct ConsumerOptions {
  std::string stream{};
  Place from{};
  std::optional<Place> until{};                // the first place not read; without it the end at the time of asking
  bool follow = false;                         // wait for more at the end (until `until`, when given)
  std::optional<std::uint16_t> type{};         // only records of this type
  std::uint64_t count = 0;                     // stop after so many records; 0 = no such limit
  std::size_t credit_bytes = 8 * 1024 * 1024;  // bytes the server may have under way to us
};

enum class ReadEvent : std::uint8_t {
  record,        // `record` holds one
  end,           // everything asked for has been read
  timed_out,     // nothing within the timeout; call again
  data_loss,     // [loss_first, loss_end) was durable and is gone; reading goes on behind it
  day_finished,  // `day` is complete: no record of it will follow
  failed,        // `problem` says why; final
};

struct ReadResult {
  ReadEvent event = ReadEvent::end;
  ReadRecord record{};
  std::uint64_t loss_first = 0;
  std::uint64_t loss_end = 0;
  std::uint32_t day = 0;
  Problem problem{ErrorCode::none};
};

class ConsumerImpl;

class Consumer {
 public:
  Consumer();
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) noexcept;
  ~Consumer();

  /// The next thing to know. The result, and the record's views, are valid until the next call.
  const ReadResult& next(std::chrono::nanoseconds timeout = std::chrono::seconds(60));
  /// The offset the next record will have at least; where a new consumer would go on.
  std::uint64_t next_offset() const;

  /// Made by Client::consumer.
  explicit Consumer(std::shared_ptr<ConsumerImpl> impl);

 private:
  std::shared_ptr<ConsumerImpl> impl_;
};

}  // namespace millrace
