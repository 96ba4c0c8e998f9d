#include "sdk/core/batch_ring.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

namespace millrace {

namespace {

// The word `reserved`: bit 63 closed, bits 24..44 records, bits 0..23 bytes.
constexpr std::uint64_t closed_bit = std::uint64_t{1} << 63;
constexpr std::uint64_t bytes_mask = (std::uint64_t{1} << 24) - 1;
constexpr std::uint64_t records_mask = (std::uint64_t{1} << 21) - 1;

constexpr std::uint32_t bytes_in(std::uint64_t word) { return static_cast<std::uint32_t>(word & bytes_mask); }
constexpr std::uint32_t records_in(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 24 & records_mask); }
constexpr std::uint64_t word_of(std::uint32_t records, std::uint64_t bytes) {
  return std::uint64_t{records} << 24 | bytes;
}

}  // namespace

BatchRing::BatchRing(BufferPool& pool, const BatchLimits& limits, BatchRingListener& listener)
    : pool_(pool), limits_(limits), listener_(listener), slots_(std::make_unique<Slot[]>(limits.batches)) {
  MR_ASSERT(limits.batches >= 1 && limits.records >= 1);
  MR_ASSERT(limits.bytes <= pool.shape().arena_bytes && limits.bytes <= bytes_mask);
  MR_ASSERT(limits.records <= pool.shape().records_max && limits.records <= records_mask);
  for (std::uint32_t i = 0; i < limits.batches; ++i) slots_[i].reserved.store(closed_bit, std::memory_order_relaxed);
}

BatchRing::~BatchRing() {
  for (std::uint32_t i = 0; i < limits_.batches; ++i)
    if (slots_[i].in_use.load()) pool_.give_back(slots_[i].buffer_number);
}

BatchRing::Outcome BatchRing::append(const Input& input, std::uint64_t& ticket) {
  const std::uint64_t size = std::uint64_t{input.payload.size()} + input.key.size() + input.headers.size();
  if (size > pool_.shape().arena_bytes) return Outcome::too_large;
  for (;;) {
    const std::uint64_t opened = opened_.load(std::memory_order_acquire);
    if (opened == 0) {
      if (!open_after(0)) return Outcome::no_room;
      continue;
    }
    Slot& open = slot(opened - 1);
    std::uint64_t before = open.reserved.load(std::memory_order_acquire);
    if (before & closed_bit) {
      if (!open_after(opened)) return Outcome::no_room;
      continue;
    }
    const bool fits = bytes_in(before) + size <= limits_.bytes && records_in(before) < limits_.records;
    if (!fits && records_in(before) > 0) {
      close(open, before);
      continue;
    }
    const std::uint64_t after = word_of(records_in(before) + 1, bytes_in(before) + size);
    // Seen open and unchanged, the slot is the batch being filled now, whatever happened to it between the two loads: a
    // place in it is a place in this ring.
    if (!open.reserved.compare_exchange_weak(before, after, std::memory_order_seq_cst)) continue;
    ticket = open.first_ticket.load(std::memory_order_relaxed) + records_in(before);
    copy(open, before, input);
    const bool full = records_in(after) == limits_.records || bytes_in(after) >= limits_.bytes;
    if (full) close(open, after);
    if (records_in(before) == 0 && !full) listener_.ring_has_work();
    return Outcome::accepted;
  }
}

void BatchRing::copy(Slot& target, std::uint64_t before, const Input& input) {
  std::byte* at = target.buffer.arena + bytes_in(before);
  const auto put = [&](Bytes bytes) {
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    at += bytes.size();
  };
  put(input.payload);
  put(input.key);
  put(input.headers);
  target.buffer.notes[records_in(before)] = {input.event_time,
                                             static_cast<std::uint32_t>(at - target.buffer.arena),
                                             static_cast<std::uint32_t>(input.key.size()),
                                             static_cast<std::uint32_t>(input.headers.size()),
                                             input.type,
                                             0};
  // Once this is added the batch may be sent and the slot begun anew, unless it is open: only its word is read behind.
  const std::uint32_t copied = target.copied.fetch_add(1, std::memory_order_seq_cst) + 1;
  const std::uint64_t now = target.reserved.load(std::memory_order_seq_cst);
  if ((now & closed_bit) && copied == records_in(now)) listener_.ring_has_work();
}

void BatchRing::close(Slot& target, std::uint64_t seen) {
  // Only the batch that was seen, with records in it: the slot may have been sent, released and begun anew meanwhile.
  MR_ASSERT(records_in(seen) > 0);
  if (target.reserved.compare_exchange_strong(seen, seen | closed_bit, std::memory_order_seq_cst))
    listener_.ring_has_work();
}

void BatchRing::close_open() {
  const std::uint64_t opened = opened_.load(std::memory_order_acquire);
  if (opened == 0) return;
  Slot& open = slot(opened - 1);
  std::uint64_t before = open.reserved.load(std::memory_order_acquire);
  while (!(before & closed_bit) && records_in(before) > 0)
    if (open.reserved.compare_exchange_weak(before, before | closed_bit, std::memory_order_seq_cst)) {
      listener_.ring_has_work();
      return;
    }
}

bool BatchRing::open_after(std::uint64_t seen) {
  while (opening_.test_and_set(std::memory_order_acquire)) opening_.wait(true, std::memory_order_relaxed);
  bool opened = true;
  if (opened_.load(std::memory_order_relaxed) == seen) {
    Slot& next = slot(seen);
    std::uint32_t number = BufferPool::none;
    if (!next.in_use.load(std::memory_order_acquire)) number = pool_.take();
    if (number == BufferPool::none) {
      opened = false;
    } else {
      const std::uint64_t first =
          seen == 0 ? 0 : slot(seen - 1).first_ticket.load() + records_in(slot(seen - 1).reserved.load());
      next.first_ticket.store(first, std::memory_order_relaxed);
      next.buffer_number = number;
      next.buffer = pool_.at(number);
      next.copied.store(0, std::memory_order_relaxed);
      next.in_use.store(true, std::memory_order_relaxed);
      next.reserved.store(0, std::memory_order_release);
      opened_.store(seen + 1, std::memory_order_release);
    }
  }
  opening_.clear(std::memory_order_release);
  opening_.notify_one();
  return opened;
}

std::uint64_t BatchRing::tickets() const {
  const std::uint64_t opened = opened_.load(std::memory_order_acquire);
  if (opened == 0) return 0;
  const Slot& last = slot(opened - 1);
  return last.first_ticket.load(std::memory_order_relaxed) + records_in(last.reserved.load(std::memory_order_acquire));
}

BatchRing::Readiness BatchRing::next() const {
  if (taken_ == opened_.load(std::memory_order_acquire)) return Readiness::nothing;
  const Slot& next = slot(taken_);
  const std::uint64_t word = next.reserved.load(std::memory_order_seq_cst);
  if (!(word & closed_bit)) return records_in(word) == 0 ? Readiness::nothing : Readiness::filling;
  return next.copied.load(std::memory_order_seq_cst) == records_in(word) ? Readiness::ready : Readiness::copying;
}

bool BatchRing::take(Taken& taken) {
  if (taken_ == opened_.load(std::memory_order_acquire)) return false;
  Slot& next = slot(taken_);
  std::uint64_t word = next.reserved.load(std::memory_order_acquire);
  if (!(word & closed_bit)) {
    if (records_in(word) == 0) return false;
    word = next.reserved.fetch_or(closed_bit, std::memory_order_seq_cst) | closed_bit;
  }
  if (next.copied.load(std::memory_order_seq_cst) != records_in(word)) return false;
  taken = {taken_, next.buffer, records_in(word), next.first_ticket.load(std::memory_order_relaxed)};
  taken_ += 1;
  return true;
}

void BatchRing::release(std::uint64_t number) {
  MR_ASSERT(number == released_ && released_ < taken_);
  Slot& done = slot(number);
  MR_ASSERT(done.in_use.load());
  pool_.give_back(done.buffer_number);
  done.buffer_number = BufferPool::none;
  released_ += 1;
  done.in_use.store(false, std::memory_order_release);
}

}  // namespace millrace
