// One reader of one stream on one session, without a clock or a thread: asks, keeps the read's byte credit, verifies every
// batch that arrives, and after a lost connection asks again from the next offset, so that nobody above sees a gap or a
// repeat. What it hands out are whole verified batches in order; whoever takes them clips records to what was asked for.
//
// Thread: the I/O thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "sdk/core/session.hpp"

namespace millrace {

struct ReadBatch {
  BatchHeader header;
  BodyView body;  // into the event's bytes
};

struct ReadEventCore {
  enum class Kind : std::uint8_t {
    batches,       // whole batches, verified; records before `first` are not wanted
    day_finished,  // `first` is the day
    data_loss,     // [first, next) is gone
    end,           // everything asked for has been read
    failed,        // `error`, `detail`; final
  };
  Kind kind = Kind::end;
  std::vector<std::byte> bytes{};
  std::vector<ReadBatch> batches{};  // in `bytes`, which may move but not change
  std::uint64_t first = 0;
  std::uint64_t next = 0;
  Error error{};
  std::uint64_t detail = 0;
};

struct ConsumerSettings {
  std::string stream;
  wire::Position from = wire::Position::earliest();
  wire::Position until{};
  bool follow = false;
  std::optional<std::uint16_t> type{};
  std::uint64_t credit_bytes = 8 * MiB;
  Nanos retry = 30'000'000'000;  // without a connection or an answer; 0 = one try
  Nanos backoff = 20'000'000;    // after a refusal that asks to come again without saying when
};

class ConsumerListener {
 public:
  virtual void consumer_event(ReadEventCore&& event) = 0;
  /// deadline() may be earlier than it was: whoever keeps timers asks again.
  virtual void consumer_timer() {}

 protected:
  ~ConsumerListener() = default;
};

class ConsumerCore final : public SessionUser {
 public:
  ConsumerCore(Session& session, const ConsumerSettings& settings, ConsumerListener& listener);
  ~ConsumerCore();
  ConsumerCore(const ConsumerCore&) = delete;
  ConsumerCore& operator=(const ConsumerCore&) = delete;

  void start(Nanos now);
  void advance(Nanos now);
  Nanos deadline() const;
  /// `bytes` of events handed out before are no longer held: the server may send as much again.
  void consumed(std::uint64_t bytes);

  /// True once end or failed has been handed out.
  bool done() const { return state_ == State::done; }
  std::uint64_t next_offset() const { return next_; }

  void session_up(Nanos now) override;
  void session_down(Error error, bool final, Nanos now) override;
  void session_answer(const Frame& frame, std::uint32_t token, Nanos now) override;
  void session_ack(const wire::AckEntry& entry, std::uint32_t token, Nanos now) override;
  void session_credit(Nanos now) override;

 private:
  enum class State : std::uint8_t { idle, waiting, asked, reading, done };

  void ask();
  void handle_begin(const Frame& frame, Nanos now);
  void handle_batches(const Frame& frame, Nanos now);
  void handle_notice(const Frame& frame, Nanos now);
  void handle_end(Error error, std::uint64_t detail, Nanos now);
  bool verify(const wire::Batches& message, ReadEventCore& event) const;
  void distrust(Nanos now);
  void finish(ReadEventCore&& event);
  std::uint64_t grant() const;

  Session& session_;
  const ConsumerSettings settings_;
  ConsumerListener& listener_;

  State state_ = State::idle;
  std::uint32_t number_ = 0;
  std::uint32_t read_ = 0;  // token of the read under way; answers to older ones are dropped
  StreamId stream_{};

  bool begun_ = false;                      // `next_` is known
  std::uint64_t next_ = 0;                  // the next offset wanted
  std::optional<std::uint64_t> stop_at_{};  // an `until` that has become an offset
  std::uint64_t held_ = 0;                  // bytes handed out and not consumed
  std::uint64_t received_ = 0;              // bytes of the read under way
  std::uint64_t granted_ = 0;               // to the read under way

  std::optional<std::uint64_t> distrusted_{};  // offset at which a batch did not verify before
  std::optional<Nanos> resume_at_;
  Nanos progress_at_ = 0;
  Error last_error_ = Error::timed_out;
};

}  // namespace millrace
