// Producer: appends records to one stream and tells when they are durable.
//
//   append() copies the record into the batch being filled: no lock, no system call, no allocation while there is room.
//   The client's I/O thread sends a batch when it is full (bytes or count), when its linger is over, or at once when
//   linger is zero and fewer than `in_flight` batches wait for their acknowledgement.
//
// Exactly once: every batch carries this producer's id, epoch and a dense sequence. After a lost connection, a restart of
// the server, or an unknown outcome the same bytes are sent again with the same sequence, in order, and the server answers a
// repeat with the position of the first copy. Tickets number the records of a producer from 0 in the order of its batches;
// a batch is acknowledged, or fails, as a whole.
//
// Threads: append(), try_append() and flush() from any thread. Callbacks run on the client's I/O thread: do not block
// there; try_append() is allowed there and is the fastest way to keep a pipeline full.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "millrace/error.hpp"
#include "millrace/record.hpp"

namespace millrace {

/// What an acknowledged record survives: `local` = durable on the server's own disk; `quorum` = on followers too.
enum class Level : std::uint8_t { local = 1, quorum = 2 };

/// What became of one batch: `count` records with tickets from `first_ticket` stand at offsets from `first_offset`.
struct Commit {
  ErrorCode error = ErrorCode::none;
  std::uint64_t detail = 0;  // as Problem::detail
  std::uint64_t first_ticket = 0;
  std::uint32_t count = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t first_id = 0;
  std::uint64_t lsn = 0;
  std::uint32_t day = 0;
  Level level = Level::local;
  bool repeat = false;       // an earlier copy had already been stored; its offset and lsn are told, id and day are 0
  std::int64_t sent_at = 0;  // steady clock, ns: when the batch was first handed to the socket
  std::int64_t acknowledged_at = 0;
};

/// Where one record stands. Of a repeat (a copy that had been stored before) only offset and lsn are known: its day is 0.
struct Position {
  std::uint64_t offset = 0;
  std::uint64_t id = 0;
  std::uint64_t lsn = 0;
  std::uint32_t day = 0;
  Level level = Level::local;
};

struct ProducerOptions {
  std::string stream{};
  std::size_t batch_bytes = 64 * 1024;   // payload bytes that close a batch; at most the client's batch_bytes_max
  std::uint32_t batch_records = 65'536;  // records that close a batch; 1 = every record its own request
  std::chrono::microseconds linger{0};   // how long a batch that is not full may wait for more
  std::uint32_t in_flight = 16;          // batches sent and not yet acknowledged, 1..64
  std::uint32_t queued = 16;             // batches filled or filling beyond those; append refuses when all are in use
  std::uint64_t id = 0;                  // 0 = a new random identity; the same id again fences the older holder
  bool wait_until_ready = true;          // false: registered behind the caller's back; records are kept until then
  std::function<void(const Commit&)> on_commit{};
};

/// What append says at once.
enum class AppendStatus : std::uint8_t {
  accepted,
  no_room,    // every batch this producer or client may hold is in use; try again when one is acknowledged
  too_large,  // this record can never fit a batch
  failed,     // the producer has failed (problem() says why) or is closed
};

class ProducerImpl;

class Producer {
 public:
  /// An empty handle; only assign to it.
  Producer();
  Producer(Producer&&) noexcept;
  Producer& operator=(Producer&&) noexcept;
  /// Closes. What is not acknowledged by then ends as `cancelled`: flush() first. Not from a callback.
  ~Producer();

  /// Copies the record or refuses, at once. `ticket`, when given, receives the record's ticket.
  AppendStatus try_append(const Record& record, std::uint64_t* ticket = nullptr);
  /// Waits for room up to `timeout`. Not from a callback.
  AppendStatus append(const Record& record, std::chrono::nanoseconds timeout = std::chrono::seconds(60),
                      std::uint64_t* ticket = nullptr);
  /// append() with a future of the record's position. Allocates: for records that matter one by one.
  std::future<Expected<Position>> append_future(const Record& record,
                                                std::chrono::nanoseconds timeout = std::chrono::seconds(60));

  /// Sends what lingers, without waiting for the answer.
  void push();
  /// push(), then waits until everything appended before has been acknowledged or has failed. `timed_out` when it has not
  /// within `timeout`; the producer's problem when it failed.
  Expected<std::monostate> flush(std::chrono::nanoseconds timeout = std::chrono::seconds(60));

  /// Why this producer failed; code none while it works. `fenced` and `unknown_producer` are final.
  Problem problem() const;
  /// This producer's identity, to hand on.
  std::uint64_t id() const;
  const std::string& stream() const;

  /// Made by Client::producer.
  explicit Producer(std::shared_ptr<ProducerImpl> impl);

 private:
  std::shared_ptr<ProducerImpl> impl_;
};

}  // namespace millrace
