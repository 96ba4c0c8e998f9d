// One producer on one session, without a clock or a thread: takes batches from its ring, gives each the next sequence, sends
// as many as may be in flight and credit allows, and sends again, the same bytes in the same order, whatever has no answer
// when a connection is lost or the server could not. Results are delivered in order, exactly once a batch.
//
// The life of a producer: open the stream (again after each reconnect: it is cheap, and creates it where needed), register once
// (that fences an older holder of the same id), then append. `fenced`, `unknown_producer` and every other refusal are final, as
// is a wait longer than `retry` without any progress: all batches end with the error, and so does every later one.
//
// Thread: the I/O thread's, except ring().append and what the ring's own header says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "sdk/core/batch_ring.hpp"
#include "sdk/core/body_packer.hpp"
#include "sdk/core/session.hpp"

namespace millrace {

/// What became of one batch.
struct BatchResult {
  std::optional<Error> error;  // nothing: durable; duplicate: durable too, but the server no longer knows where
  std::uint64_t detail = 0;
  std::uint64_t first_ticket = 0;
  std::uint32_t records = 0;
  Offset first_offset{};
  RecordId first_id{};
  Lsn lsn{};
  Day day{};
  wire::Level level = wire::Level::none;
  bool repeat = false;
  Nanos sent_at = 0;  // the first time
  Nanos answered_at = 0;
};

class ProducerListener {
 public:
  virtual void producer_ready(ProducerId id, std::uint32_t epoch) = 0;
  virtual void producer_result(const BatchResult& result) = 0;
  /// After the results of all batches that were in it.
  virtual void producer_failed(Error error, std::uint64_t detail) = 0;
  /// deadline() may be earlier than it was: whoever keeps timers asks again.
  virtual void producer_timer() {}

 protected:
  ~ProducerListener() = default;
};

struct ProducerSettings {
  std::string stream;
  ProducerId id{};               // 0 = the server chooses
  std::uint32_t in_flight = 16;  // 1..64
  Nanos linger = 0;
  Nanos retry = 30'000'000'000;   // without progress
  Nanos backoff_min = 5'000'000;  // after a refusal that asks to come again without saying when; doubles
  Nanos backoff_max = 500'000'000;
};

class ProducerCore final : public SessionUser {
 public:
  ProducerCore(Session& session, BatchRing& ring, const ProducerSettings& settings, ProducerListener& listener);
  ~ProducerCore();
  ProducerCore(const ProducerCore&) = delete;
  ProducerCore& operator=(const ProducerCore&) = delete;

  /// Joins the session; the listener hears of what follows. Once.
  void start(Nanos now);
  /// The ring has work, or time has passed. Cheap when there is nothing to do.
  void advance(Nanos now);
  Nanos deadline() const;
  /// Ends everything that has no answer with `error`; final.
  void fail(Error error, std::uint64_t detail, Nanos now);

  bool failed() const { return state_ == State::failed; }
  ProducerId id() const { return id_; }
  std::uint32_t epoch() const { return epoch_; }
  std::uint32_t in_flight() const { return unanswered_; }

  void session_up(Nanos now) override;
  void session_down(Error error, bool final, Nanos now) override;
  void session_answer(const Frame& frame, std::uint32_t token, Nanos now) override;
  void session_ack(const wire::AckEntry& entry, std::uint32_t token, Nanos now) override;
  void session_credit(Nanos now) override;

 private:
  enum class State : std::uint8_t { idle, waiting, opening, ready, failed };
  enum class Fate : std::uint8_t { unsent, sent, refused, answered };
  struct Entry {
    BatchRing::Taken taken;
    Bytes frame;
    Fate fate = Fate::unsent;
    std::uint64_t end_position = 0;  // in the session's outbox, once sent
    BatchResult result;
  };

  Entry& entry(std::uint64_t sequence) { return entries_[sequence % entries_.size()]; }
  void pump(Nanos now);
  bool take_next(Nanos now);
  void stamp(Entry& target, std::uint64_t sequence);
  bool send_next(Nanos now);
  void hold(Error error, std::uint64_t detail);
  void end_hold(Nanos now);
  void deliver(Nanos now);
  void drain_ring(Error error, std::uint64_t detail);
  void retry_opening(Error error, std::uint64_t detail, Nanos now);
  Nanos wait_after(Error error, std::uint64_t detail);
  void request_opening();
  /// Something waits for the server, so that time without progress counts.
  bool pending() const;
  void note_pending(Nanos now);

  Session& session_;
  BatchRing& ring_;
  const ProducerSettings settings_;
  ProducerListener& listener_;

  State state_ = State::idle;
  std::uint32_t number_ = 0;  // on the session
  ProducerId id_;
  std::uint32_t epoch_ = 0;  // 0 = not registered yet
  StreamId stream_{};

  // Sequences: front_ .. taken_ are in entries_; next_ is where sending goes on.
  std::vector<Entry> entries_;
  std::uint64_t front_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t taken_ = 0;
  std::uint32_t unanswered_ = 0;  // entries sent on this connection without an answer

  bool holding_ = false;  // something was refused: nothing is sent until all is answered and resume_at_
  std::optional<Nanos> resume_at_;
  Nanos backoff_next_;
  Nanos linger_until_ = no_deadline;
  Nanos progress_at_ = 0;
  bool was_pending_ = false;
  Error last_error_ = Error::timed_out;
  std::uint64_t last_detail_ = 0;
  PackScratch scratch_;
};

}  // namespace millrace
