#include "bench/load/load.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "bench/load/process_cpu.hpp"

namespace millrace::load {

namespace {

using Clock = std::chrono::steady_clock;

std::int64_t now_ns() { return std::chrono::nanoseconds(Clock::now().time_since_epoch()).count(); }

void sleep_until(std::int64_t when) {
  std::this_thread::sleep_until(Clock::time_point(std::chrono::nanoseconds(when)));
}

constexpr std::int64_t second = 1'000'000'000;
/// How long a request that found no room waits before it looks again.
constexpr std::int64_t look_again = 50'000;
constexpr std::chrono::seconds rest_timeout{60};

}  // namespace

Load::Load(Client& client, const Options& options, std::uint64_t run) : client_(client), options_(options), run_(run) {
  for (std::uint32_t i = 0; i < options.connections; ++i)
    lanes_.push_back(std::make_unique<Lane>(options.record_bytes));
}

Load::~Load() { stopped_.store(true); }

std::string Load::stream_name(std::uint32_t stream) const {
  return options_.streams == 1 ? options_.stream : options_.stream + "/" + std::to_string(stream);
}

std::optional<Problem> Load::prepare() {
  const std::uint32_t count = std::max(options_.streams, options_.connections);
  sources_.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    sources_.push_back(std::make_unique<Source>());
    Source& source = *sources_.back();
    // The client deals its connections out in turn, beginning with the first.
    source.lane = i % options_.connections;
    lanes_[source.lane]->sources.push_back(i);
    ProducerOptions options;
    options.stream = stream_name(stream_of(i));
    options.batch_bytes = options_.batch_bytes();
    options.batch_records = options_.batch_records;
    options.in_flight = options_.in_flight;
    options.queued = 2;
    // A request goes out when it is whole, unless batches are to form by themselves.
    options.linger = options_.spread ? std::chrono::microseconds(0) : std::chrono::microseconds(10 * second / 1000);
    options.wait_until_ready = false;
    options.on_commit = [this, i](const Commit& commit) { committed(i, commit); };
    auto producer = client_.producer(options);
    if (!producer) return producer.problem();
    source.producer = *std::move(producer);
  }
  for (const auto& source : sources_)
    while (source->producer.id() == 0) {
      if (source->producer.problem().code != ErrorCode::none) return source->producer.problem();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  return std::nullopt;
}

bool Load::begin_request(Lane& lane, std::int64_t intended) {
  const std::uint32_t index = lane.sources[lane.next];
  Source& source = *sources_[index];
  if (source.requests - source.commits.load(std::memory_order_acquire) >= times_kept) return false;
  const std::uint32_t records = options_.spread ? 1 : options_.batch_records;
  const std::uint64_t first = source.number;
  const std::size_t turn = lane.next;
  // All is written down before the last record is appended: from then on the answer may be there.
  source.intended[source.requests % times_kept] = intended;
  source.requests += 1;
  source.number += records;
  lane.under_way.fetch_add(1, std::memory_order_relaxed);
  lane.next = turn + 1 == lane.sources.size() ? 0 : turn + 1;
  Record record;
  record.event_time = static_cast<std::int64_t>(run_);
  for (std::uint32_t i = 0; i < records; ++i) {
    record.payload = lane.pattern.make({run_, index, first + i});
    if (source.producer.try_append(record) == AppendStatus::accepted) continue;
    // Only a batch's first record can be refused, as the others stand in its memory: nothing has begun.
    source.requests -= 1;
    source.number = first;
    lane.under_way.fetch_sub(1, std::memory_order_relaxed);
    lane.next = turn;
    return false;
  }
  return true;
}

void Load::refill(Lane& lane) {
  while (!stopped_.load(std::memory_order_relaxed) &&
         lane.under_way.load(std::memory_order_relaxed) < options_.in_flight)
    if (!begin_request(lane, now_ns())) return;
}

void Load::committed(std::uint32_t index, const Commit& commit) {
  Source& source = *sources_[index];
  Lane& lane = *lanes_[source.lane];
  // With spread, the SDK decides what is a request: one time a record was kept.
  const std::uint64_t requests = options_.spread ? commit.count : 1;
  const std::uint64_t done = source.commits.load(std::memory_order_relaxed);
  const bool counted = commit.acknowledged_at >= count_from_ && commit.acknowledged_at < count_until_;
  if (commit.error != ErrorCode::none) {
    failed_.store(true, std::memory_order_relaxed);
    results_.errors += 1;
    if (results_.first_error.empty()) results_.first_error = name_of(commit.error);
  } else {
    results_.records_in_all += commit.count;
    if (options_.verify) source.acknowledged.push_back({commit.first_ticket, commit.first_offset, commit.count});
    if (counted) {
      results_.records += commit.count;
      results_.requests += 1;
      for (std::uint64_t i = 0; i < requests; ++i)
        results_.latency.add(commit.acknowledged_at - source.intended[(done + i) % times_kept]);
    }
  }
  source.commits.store(done + requests, std::memory_order_release);
  lane.under_way.fetch_sub(static_cast<std::uint32_t>(requests), std::memory_order_relaxed);
  if (commit.error == ErrorCode::none && options_.rate <= 0) refill(lane);
}

void Load::feed(std::int64_t begin, std::int64_t end) {
  ::prctl(PR_SET_TIMERSLACK, 1);  // wake when it is time, not up to 50 us later
  const double records_each = options_.spread ? 1 : options_.batch_records;
  const double interval = records_each / options_.rate * 1e9;
  double due = static_cast<double>(begin);
  bool waits = false;  // the request that is due found no room before
  for (std::size_t turn = 0; due < static_cast<double>(end);) {
    const std::int64_t now = now_ns();
    if (static_cast<double>(now) < due) {
      sleep_until(static_cast<std::int64_t>(due));
      continue;
    }
    bool begun = false;
    for (std::size_t tried = 0; tried < lanes_.size() && !begun; ++tried, ++turn)
      begun = begin_request(*lanes_[turn % lanes_.size()], static_cast<std::int64_t>(due));
    if (begun) {
      due += interval;
      waits = false;
      continue;
    }
    if (!waits) late_.fetch_add(1, std::memory_order_relaxed);
    waits = true;
    if (failed_.load(std::memory_order_relaxed) || now > end) {
      // What was due and never sent has no latency; it is told apart, so that it does not vanish from the figures.
      unsent_.store(static_cast<std::uint64_t>(std::ceil((static_cast<double>(end) - due) / interval)));
      return;
    }
    sleep_until(now + look_again);
  }
}

void Load::wait_for_rest() {
  const auto deadline = Clock::now() + rest_timeout;
  for (const auto& lane : lanes_)
    while (lane->under_way.load() > 0 && Clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

Results Load::run() {
  const std::int64_t begin = now_ns();
  count_from_ = begin + static_cast<std::int64_t>(options_.warmup_seconds * 1e9);
  count_until_ = count_from_ + static_cast<std::int64_t>(options_.seconds * 1e9);
  std::thread feeder;
  if (options_.rate > 0) feeder = std::thread([&] { feed(begin, count_until_); });
  else
    // One request a connection; what follows is made where its answer arrives.
    for (const auto& lane : lanes_) begin_request(*lane, now_ns());
  sleep_until(count_from_);
  const auto server_before = process_cpu_seconds(options_.server_pid);
  const double client_before = own_cpu_seconds();
  sleep_until(count_until_);
  const auto server_after = process_cpu_seconds(options_.server_pid);
  const double client_after = own_cpu_seconds();
  stopped_.store(true);
  if (feeder.joinable()) feeder.join();
  wait_for_rest();
  Results results = results_;
  results.seconds = options_.seconds;
  results.late = late_.load();
  results.unsent = unsent_.load();
  if (server_before && server_after) results.server_cpu_seconds = *server_after - *server_before;
  results.client_cpu_seconds = client_after - client_before;
  for (const auto& lane : lanes_) {
    if (lane->under_way.load() == 0) continue;
    results.errors += 1;
    if (results.first_error.empty()) results.first_error = "requests without an answer";
  }
  return results;
}

}  // namespace millrace::load
