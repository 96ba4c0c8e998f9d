// What the clients of a run did and were told, for the checker, and what their applications saw, for the ledger. The
// history is tapped from the bytes on the wire, in both directions, so that it holds what was really sent and answered.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "protocol/frame_parser.hpp"
#include "protocol/messages.hpp"
#include "tests/sim/checker/checker.hpp"

namespace millrace::sim {

class HistoryRecorder {
 public:
  /// A number for a new connection.
  std::uint64_t connection();
  /// Bytes a client handed to its socket, and bytes it was given. `damage` = damaging faults so far.
  void sent(std::uint64_t connection, Bytes bytes);
  void received(std::uint64_t connection, Bytes bytes, std::uint64_t damage);
  void closed(std::uint64_t connection);

  /// The world's clock, for the times of the history.
  std::function<std::int64_t()> now;
  /// Called when a client has been told that its batch is durable.
  std::function<void()> on_acknowledged;

  std::uint64_t reader() { return ++last_reader_; }
  void read(std::uint64_t reader, StreamId stream, const BatchHeader& header, std::uint32_t index, Bytes payload);
  void lost(StreamId stream, std::uint64_t first, std::uint64_t next);
  /// A reader was told that retention took these.
  void cut_away(StreamId stream, std::uint64_t first, std::uint64_t next);

  checker::History& history() { return history_; }
  std::uint64_t acknowledged() const { return acknowledged_; }  // batches
  std::uint64_t refused() const { return refused_; }

 private:
  struct Tap {
    HeapFrameMemory memory;
    FrameParser sent{memory};
    FrameParser received{memory};
    std::map<std::uint64_t, std::size_t> requests;  // request id -> attempt
    std::uint32_t shard = 0;
  };
  void note_append(Tap& tap, const Frame& frame);
  void note_answer(std::uint64_t connection, Tap& tap, const Frame& frame, std::uint64_t damage);

  using Key = std::tuple<std::uint64_t, std::uint32_t, std::uint64_t, std::uint64_t>;
  checker::History history_;
  std::map<Key, std::size_t> attempts_;
  std::map<std::uint64_t, std::unique_ptr<Tap>> taps_;
  std::uint64_t last_connection_ = 0;
  std::uint64_t last_reader_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t refused_ = 0;
};

/// The application's own books, independent of everything below it: every record says who appended it as its how-manieth,
/// and proves its bytes. In the end each acknowledged record stands where the answer said, once, in the order of appending.
class Ledger {
 public:
  static constexpr std::size_t record_bytes_min = 24;

  /// A producer's life; `stream` is where it appends.
  std::uint64_t begin_life(const std::string& stream);
  /// The bytes of record `ticket` of `life`.
  static std::vector<std::byte> record(std::uint64_t life, std::uint64_t ticket, std::size_t bytes);
  void appended(std::uint64_t life) { ++lives_[life - 1].appended; }
  void acknowledged(std::uint64_t life, std::uint64_t first_ticket, std::uint32_t records, std::uint64_t first_offset);

  /// A reader of `stream` was given this record; nothing, or what is wrong with it by itself.
  std::optional<std::string> seen(const std::string& stream, std::uint64_t offset, Bytes payload);
  /// A reader was told that [first, next) of the stream is gone.
  void told_lost(const std::string& stream, std::uint64_t first, std::uint64_t next);
  /// The stream was read from its beginning to its end: judges it. Broken promises, each with its number.
  std::vector<std::string> judge(const std::string& stream, std::uint64_t first, std::uint64_t next,
                                 bool damaged) const;

  std::uint64_t records_appended() const;
  std::uint64_t records_acknowledged() const { return records_acknowledged_; }
  std::uint64_t records_seen() const { return records_seen_; }

 private:
  struct Acknowledged {
    std::uint64_t first_ticket;
    std::uint32_t records;
    std::uint64_t first_offset;
  };
  struct Life {
    std::string stream;
    std::uint64_t appended = 0;
    std::vector<Acknowledged> acknowledged;
  };
  struct Place {
    std::uint64_t life;
    std::uint64_t ticket;
  };
  struct Loss {
    std::uint64_t first;
    std::uint64_t next;
  };
  std::uint64_t not_told_lost(const std::string& stream, std::uint64_t first, std::uint64_t next) const;

  std::vector<Life> lives_;
  std::map<std::string, std::map<std::uint64_t, Place>> streams_;
  std::map<std::string, std::vector<Loss>> losses_;
  std::uint64_t records_acknowledged_ = 0;
  std::uint64_t records_seen_ = 0;
};

}  // namespace millrace::sim
