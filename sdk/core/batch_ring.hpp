// Where application threads and the I/O thread meet: a ring of batches of one producer. Any number of threads append to
// the batch that is being filled; the I/O thread takes batches in order, and gives each back when it has been answered.
//
// append() is one compare-exchange to reserve a place, a copy, and one addition that says the copy is done: no lock, no
// system call, no allocation. Beginning a new batch takes a spin lock, once a batch. A batch is closed either by the append
// that does not fit any more or by the I/O thread, which may close it at any moment.
//
// Threads: append, close_open from any; begin_take to release from the I/O thread alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.hpp"
#include "sdk/core/buffer_pool.hpp"

namespace millrace {

/// Told when a batch has got its first record, or is ready to be sent. Any thread.
class BatchRingListener {
 public:
  virtual void ring_has_work() = 0;

 protected:
  ~BatchRingListener() = default;
};

struct BatchLimits {
  // Payload, key and header bytes that close a batch; at most the pool's arena. A larger record that fits the arena is a batch of its own.
  std::uint32_t bytes = 0;
  std::uint32_t records = 0;  // records that close a batch; at most the pool's
  std::uint32_t batches = 0;  // filling, waiting and in flight together
};

class BatchRing {
 public:
  struct Input {
    std::uint16_t type = 0;
    std::int64_t event_time = 0;
    Bytes payload{};
    Bytes key{};
    Bytes headers{};
  };
  enum class Outcome : std::uint8_t { accepted, no_room, too_large };

  BatchRing(BufferPool& pool, const BatchLimits& limits, BatchRingListener& listener);
  ~BatchRing();
  BatchRing(const BatchRing&) = delete;
  BatchRing& operator=(const BatchRing&) = delete;

  /// Copies the record in. `ticket` receives its number in this ring, from 0.
  Outcome append(const Input& input, std::uint64_t& ticket);
  /// Closes what is being filled, so that it goes out without waiting for more.
  void close_open();
  /// Tickets given out so far.
  std::uint64_t tickets() const;

  struct Taken {
    std::uint64_t number = 0;  // of the batch in this ring, from 0
    BatchBuffer buffer{};
    std::uint32_t records = 0;
    std::uint64_t first_ticket = 0;
  };
  enum class Readiness : std::uint8_t {
    nothing,  // no record waits
    filling,  // records wait in a batch that still has room
    copying,  // closed, and an append has still to finish its copy: it will call the listener
    ready,
  };
  /// How the next batch stands. I/O thread.
  Readiness next() const;
  /// Takes the next batch, closing it if it is still filling. False when its records are still being copied, or none waits.
  bool take(Taken& taken);
  /// Gives the oldest taken batch's memory back; `number` says which for the assertion.
  void release(std::uint64_t number);

  const BatchLimits& limits() const { return limits_; }

 private:
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> reserved;   // closed bit, records, bytes
    std::atomic<std::uint32_t> copied{0};  // records whose copy is done
    std::atomic<bool> in_use{false};       // from its opening to its release
    std::uint32_t buffer_number = BufferPool::none;
    BatchBuffer buffer{};
    std::atomic<std::uint64_t> first_ticket{0};
  };

  Slot& slot(std::uint64_t number) { return slots_[number % limits_.batches]; }
  const Slot& slot(std::uint64_t number) const { return slots_[number % limits_.batches]; }
  /// Begins the batch after `seen`, unless another thread has; false when there is no room.
  bool open_after(std::uint64_t seen);
  void close(Slot& slot, std::uint64_t seen);
  void copy(Slot& slot, std::uint64_t before, const Input& input);

  BufferPool& pool_;
  const BatchLimits limits_;
  BatchRingListener& listener_;
  std::unique_ptr<Slot[]> slots_;

  alignas(64) std::atomic<std::uint64_t> opened_{0};  // batches begun so far; the last of them may be filling
  std::atomic_flag opening_ = ATOMIC_FLAG_INIT;
  alignas(64) std::uint64_t taken_ = 0;
  std::uint64_t released_ = 0;
};

}  // namespace millrace
