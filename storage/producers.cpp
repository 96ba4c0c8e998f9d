#include "storage/producers.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

namespace {
constexpr std::size_t window_capacity_first = 4;
constexpr std::size_t window_capacity_step = 4;  // 4, 16, 64
}  // namespace

Producers::Producers() = default;

DedupeVerdict Producers::check(ProducerId id, std::uint32_t epoch, StreamId stream, std::uint64_t sequence) const {
  DedupeVerdict verdict;
  auto refuse = [&](Error error, std::uint64_t detail) {
    verdict.kind = DedupeVerdict::Kind::refused;
    verdict.error = error;
    verdict.detail = detail;
    return verdict;
  };
  auto found = producers_by_id_.find(id);
  if (found == producers_by_id_.end()) return refuse(Error::unknown_producer, 0);
  verdict.producer = found->second;
  const KnownProducer& producer = producers_[found->second];
  if (epoch < producer.epoch) return refuse(Error::fenced, producer.epoch);
  if (epoch > producer.epoch) return refuse(Error::unknown_producer, producer.epoch);
  auto at = windows_by_key_.find({id, stream});
  std::uint64_t expected = 0;
  const Window* window = nullptr;
  if (at != windows_by_key_.end()) {
    verdict.window = at->second;
    window = &windows_[at->second];
    if (window->epoch == epoch) expected = window->next_sequence;
    else window = nullptr;
  } else if (window_count() >= windows_max && oldest_ == newest_) {
    return refuse(Error::too_large, windows_max);  // one producer on too many streams
  }
  if (sequence == expected) return verdict;
  if (sequence > expected) return refuse(Error::out_of_order, expected);
  if (window == nullptr || sequence + window->count < window->next_sequence) return refuse(Error::duplicate, 0);
  verdict.kind = DedupeVerdict::Kind::repeat;
  verdict.first_copy = window->batches[sequence % window->batches.size()];
  return verdict;
}

std::uint32_t Producers::stored(ProducerId id, std::uint32_t epoch, StreamId stream, std::uint64_t sequence,
                                WindowBatch batch) {
  const std::uint32_t producer = find_or_add_producer(id);
  producers_[producer].epoch = std::max(producers_[producer].epoch, epoch);
  use(producer, batch.lsn);
  const std::uint32_t number = find_or_add_window(producer, stream);
  Window& window = windows_[number];
  if (window.epoch != epoch || window.next_sequence != sequence) {
    window.epoch = epoch;
    window.next_sequence = sequence;
    window.count = 0;
  }
  remember(window, batch);
  return number;
}

void Producers::remember(Window& window, WindowBatch batch) {
  if (window.count == window.batches.size() && window.batches.size() < producer_window_max) {
    const std::size_t capacity =
        window.batches.empty() ? window_capacity_first : window.batches.size() * window_capacity_step;
    std::vector<WindowBatch> bigger(capacity);
    for (std::uint64_t sequence = window.next_sequence - window.count; sequence < window.next_sequence; ++sequence)
      bigger[sequence % capacity] = window.batches[sequence % window.batches.size()];
    window.batches = std::move(bigger);
  }
  window.batches[window.next_sequence % window.batches.size()] = batch;
  ++window.next_sequence;
  window.count = std::min<std::uint32_t>(window.count + 1, static_cast<std::uint32_t>(window.batches.size()));
  window.last_lsn = batch.lsn;
}

std::uint32_t Producers::set_epoch(ProducerId id, std::uint32_t epoch, Lsn lsn) {
  const std::uint32_t producer = find_or_add_producer(id);
  producers_[producer].epoch = std::max(producers_[producer].epoch, epoch);
  use(producer, lsn);
  return producer;
}

std::uint32_t Producers::epoch(ProducerId id) const {
  auto found = producers_by_id_.find(id);
  return found == producers_by_id_.end() ? 0 : producers_[found->second].epoch;
}

std::uint32_t Producers::find(ProducerId id) const {
  auto found = producers_by_id_.find(id);
  return found == producers_by_id_.end() ? none : found->second;
}

std::uint32_t Producers::find(ProducerId id, StreamId stream) const {
  auto found = windows_by_key_.find({id, stream});
  return found == windows_by_key_.end() ? none : found->second;
}

std::uint32_t Producers::find_or_add_producer(ProducerId id) {
  auto found = producers_by_id_.find(id);
  if (found != producers_by_id_.end()) return found->second;
  if (producers_by_id_.size() >= producers_max && !loading_) evict(oldest_);
  std::uint32_t number = 0;
  if (!free_producers_.empty()) {
    number = free_producers_.back();
    free_producers_.pop_back();
  } else {
    number = static_cast<std::uint32_t>(producers_.size());
    producers_.emplace_back();
  }
  producers_[number] = KnownProducer{};
  producers_[number].id = id;
  producers_[number].known = true;
  producers_by_id_.emplace(id, number);
  link_newest(number);
  return number;
}

std::uint32_t Producers::find_or_add_window(std::uint32_t producer, StreamId stream) {
  const Key key{producers_[producer].id, stream};
  auto found = windows_by_key_.find(key);
  if (found != windows_by_key_.end()) return found->second;
  while (windows_by_key_.size() >= windows_max && !loading_ && evict_oldest_but(producer)) {
  }
  std::uint32_t number = 0;
  if (!free_windows_.empty()) {
    number = free_windows_.back();
    free_windows_.pop_back();
  } else {
    number = static_cast<std::uint32_t>(windows_.size());
    windows_.emplace_back();
  }
  Window& window = windows_[number];
  window = Window{};
  window.producer = key.producer;
  window.stream = stream;
  window.known = true;
  window.epoch = producers_[producer].epoch;
  window.next_of_producer = producers_[producer].first_window;
  producers_[producer].first_window = number;
  windows_by_key_.emplace(key, number);
  return number;
}

void Producers::use(std::uint32_t producer, Lsn lsn) {
  producers_[producer].last_lsn = lsn;
  if (newest_ == producer) return;
  unlink(producer);
  link_newest(producer);
}

void Producers::link_newest(std::uint32_t producer) {
  producers_[producer].older = newest_;
  producers_[producer].newer = none;
  if (newest_ != none) producers_[newest_].newer = producer;
  newest_ = producer;
  if (oldest_ == none) oldest_ = producer;
}

void Producers::unlink(std::uint32_t producer) {
  const std::uint32_t older = producers_[producer].older;
  const std::uint32_t newer = producers_[producer].newer;
  if (older != none) producers_[older].newer = newer;
  else oldest_ = newer;
  if (newer != none) producers_[newer].older = older;
  else newest_ = older;
}

void Producers::evict(std::uint32_t producer) {
  MR_ASSERT(producer != none);
  unlink(producer);
  for (std::uint32_t number = producers_[producer].first_window; number != none;) {
    const std::uint32_t next = windows_[number].next_of_producer;
    windows_by_key_.erase({windows_[number].producer, windows_[number].stream});
    windows_[number] = Window{};
    free_windows_.push_back(number);
    number = next;
  }
  producers_by_id_.erase(producers_[producer].id);
  producers_[producer] = KnownProducer{};
  free_producers_.push_back(producer);
}

bool Producers::evict_oldest_but(std::uint32_t producer) {
  if (oldest_ == producer) {
    // It was just used, so it is the oldest only when it is alone.
    return false;
  }
  evict(oldest_);
  return true;
}

std::uint32_t Producers::put(const ProducerRow& row) {
  loading_ = true;
  const std::uint32_t number = find_or_add_producer(row.id);
  producers_[number].epoch = std::max(producers_[number].epoch, row.epoch);
  producers_[number].last_lsn = std::max(producers_[number].last_lsn, row.last_lsn);
  return number;
}

std::uint32_t Producers::put(const WindowRow& row) {
  loading_ = true;
  const std::uint32_t producer = find_or_add_producer(row.producer_id);
  const std::uint32_t number = find_or_add_window(producer, row.stream_id);
  Window& window = windows_[number];
  window.epoch = row.producer_epoch;
  window.next_sequence = row.next_sequence - row.count;
  window.count = 0;
  for (std::uint32_t i = 0; i < row.count; ++i) remember(window, row.batches[i]);
  window.next_sequence = row.next_sequence;
  window.last_lsn = row.last_lsn;
  producers_[producer].last_lsn = std::max(producers_[producer].last_lsn, row.last_lsn);
  return number;
}

void Producers::finish_rows() {
  std::vector<std::uint32_t> order;
  order.reserve(producers_by_id_.size());
  for (const auto& [id, number] : producers_by_id_) order.push_back(number);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const KnownProducer& left = producers_[a];
    const KnownProducer& right = producers_[b];
    return left.last_lsn != right.last_lsn ? left.last_lsn < right.last_lsn : left.id < right.id;
  });
  oldest_ = newest_ = none;
  for (std::uint32_t number : order) link_newest(number);
  loading_ = false;
  while (producers_by_id_.size() > producers_max) evict(oldest_);
  while (windows_by_key_.size() > windows_max && evict_oldest_but(newest_)) {
  }
}

WindowRow Producers::row(const Window& window) const {
  WindowRow row;
  row.producer_id = window.producer;
  row.stream_id = window.stream;
  row.last_lsn = window.last_lsn;
  row.producer_epoch = window.epoch;
  row.count = window.count;
  row.next_sequence = window.next_sequence;
  for (std::uint32_t i = 0; i < window.count; ++i)
    row.batches[i] = window.batches[(window.next_sequence - window.count + i) % window.batches.size()];
  return row;
}

void Producers::write_window_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const {
  std::vector<const Window*> windows;
  for (std::size_t number = begin; number < end; ++number)
    if (windows_[number].known) windows.push_back(&windows_[number]);
  std::sort(windows.begin(), windows.end(), [](auto* a, auto* b) {
    return a->producer != b->producer ? a->producer < b->producer : a->stream < b->stream;
  });
  for (const Window* window : windows) write_row(rows, row(*window));
}

void Producers::write_producer_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const {
  std::vector<const KnownProducer*> producers;
  for (std::size_t number = begin; number < end; ++number)
    if (producers_[number].known) producers.push_back(&producers_[number]);
  std::sort(producers.begin(), producers.end(), [](auto* a, auto* b) { return a->id < b->id; });
  for (const KnownProducer* producer : producers)
    write_row(rows, ProducerRow{producer->id, producer->epoch, producer->last_lsn});
}

}  // namespace millrace
