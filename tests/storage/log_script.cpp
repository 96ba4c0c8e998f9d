#include "tests/storage/log_script.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/storage/log_lives.hpp"
#include "tests/storage/mini_log.hpp"

namespace millrace::test {

namespace {
constexpr std::uint64_t stream_count = 3;
constexpr std::array<std::uint32_t, 6> body_sizes{100, 3000, 40'000, 200, 150'000, 700};
constexpr std::uint32_t large_body = 7'000'000;  // three of them close a segment
constexpr Nanos patience = 20 * nanos_per_second;

Task<> pause(Reactor& reactor, Nanos length) {
  const Nanos again = reactor.now() + length;
  co_await Sleep(reactor, again);
  co_return Result<>{};
}

std::vector<std::byte> body_of(std::uint64_t number) {
  const std::uint64_t in_life = number % 24;
  const bool large = in_life == 17 || in_life == 19 || in_life == 21;
  std::vector<std::byte> body(large ? large_body : body_sizes[number % body_sizes.size()]);
  for (std::size_t at = 0; at + 8 <= body.size(); at += 8) store(body, at, (number + 1) * 0x9e3779b97f4a7c15 + at);
  return body;
}

/// Appends one batch, waiting while the log asks for patience. Ends in failure when the log takes no more.
Task<> append_one(Reactor& reactor, Log& log, ScriptBook& book, std::uint64_t number) {
  const auto body = body_of(number);
  const Nanos until = reactor.now() + patience;
  while (reactor.now() < until) {
    auto stream = log.declare_stream("stream " + std::to_string(number % stream_count));
    if (stream) {
      BatchHeader header;
      header.stream_id = stream->value;
      header.record_count = static_cast<std::uint32_t>(1 + number % 4);
      header.body_bytes = static_cast<std::uint32_t>(body.size());
      header.raw_bytes = body.size();
      header.body_hash = hash128(body);
      auto placed = log.append(header, body);
      if (placed) {
        book.appended(*placed, *stream, header.body_hash);
        co_return Result<>{};
      }
      if (next_step(placed.error().error) != NextStep::retry) co_return fail(placed.error().error);
    }
    if (log.condition() == LogCondition::closed) co_return fail(Error::closed);
    auto waiting = pause(reactor, 2 * nanos_per_milli);
    auto waited = co_await waiting;
    static_cast<void>(waited);
  }
  co_return fail(Error::retry_later);
}

Task<> append_all(Reactor& reactor, Log& log, ScriptLife& life) {
  std::uint64_t first = 0;
  for (const auto& [stream, sent] : life.book->streams) first += sent.size();
  for (int i = 0; i < life.batches; ++i) {
    auto appending = append_one(reactor, log, *life.book, first + static_cast<std::uint64_t>(i));
    auto appended = co_await appending;
    if (!appended) co_return appended;
    // Some follow at once and share a group; some find the log idle.
    if (i % 3 == 0) continue;
    auto waiting = pause(reactor, i % 5 == 0 ? 12 * nanos_per_milli : nanos_per_milli / 2);
    auto waited = co_await waiting;
    static_cast<void>(waited);
  }
  auto waiting = pause(reactor, 20 * nanos_per_milli);
  auto waited = co_await waiting;
  co_return waited;
}

Task<> check_all(Log& log, ScriptBook& book) {
  for (const auto& [id, sent] : book.streams) {
    ReadRequest request;
    const StreamId stream{id};
    request.stream = stream;
    std::vector<BatchHeader> found;
    if (log.find_stream(stream)) {
      auto reading = read_to_end(log.view(), request, 8 * MiB);
      auto back = co_await reading;
      if (!back) co_return fail(back.error());
      if (!back->ended) book.wrong.push_back("reading ended with " + std::string(error_name(back->ended.error())));
      for (const std::string& notice : back->notices)
        if (!notice.starts_with("day")) book.wrong.push_back("a reader was told: " + notice);
      found = std::move(back->headers);
    }
    book.check(stream, found);
  }
  co_return Result<>{};
}

}  // namespace

void ScriptBook::appended(const AppendPosition& at, StreamId stream, const Hash128& body_hash) {
  auto& sent = streams[stream.value];
  waiting_.push_back({at.lsn, stream.value, sent.size()});
  sent.push_back({body_hash, at.first_offset.value, false});
}

void ScriptBook::log_durable(Lsn until) {
  auto done = std::partition(waiting_.begin(), waiting_.end(), [&](const Waiting& at) { return !(at.lsn < until); });
  for (auto at = done; at != waiting_.end(); ++at) {
    streams[at->stream][at->index].durable = true;
    ++durable;
  }
  waiting_.erase(done, waiting_.end());
}

void ScriptBook::log_failed() {
  ++failures;
  waiting_.clear();
}

void ScriptBook::check(StreamId stream, const std::vector<BatchHeader>& found) {
  const auto& sent = streams[stream.value];
  const std::string name = "stream " + std::to_string(stream.value) + ": ";
  std::size_t next = 0;
  for (const BatchHeader& header : found) {
    std::size_t at = next;
    while (at < sent.size() && !(sent[at].body_hash == header.body_hash)) ++at;
    if (at == sent.size()) return wrong.push_back(name + "a batch nobody appended, again, or out of order");
    for (std::size_t gone = next; gone < at; ++gone)
      if (sent[gone].durable) return wrong.push_back(name + "durable batch " + std::to_string(gone) + " is gone");
    if (sent[at].durable && sent[at].offset != header.first_offset)
      return wrong.push_back(name + "batch " + std::to_string(at) + " stands at another offset");
    next = at + 1;
  }
  for (std::size_t gone = next; gone < sent.size(); ++gone)
    if (sent[gone].durable) return wrong.push_back(name + "durable batch " + std::to_string(gone) + " is gone");
}

LogOptions script_options() {
  LogOptions options;
  options.directory = "data/shard-00";
  options.node_meta_path = "data/node.meta";
  options.segment_bytes = 16 * MiB;
  options.memory_bytes = 64 * MiB;
  options.tail_bytes = 128 * KiB;
  return options;
}

Task<> live_script(Reactor& reactor, ScriptLife& life) {
  auto opening = open_in_data(reactor, life.options, life.report);
  auto opened = co_await opening;
  if (!opened) co_return Result<>{};
  life.opened = true;
  const std::unique_ptr<Log> log = std::move(*opened);
  life.book->log_failed();  // what an earlier life left undecided stays so
  log->add_listener(*life.book);
  if (life.check) {
    auto checking = check_all(*log, *life.book);
    auto checked = co_await checking;
    if (!checked) life.book->wrong.push_back("reading: " + std::string(error_name(checked.error())));
  }
  auto appending = append_all(reactor, *log, life);
  auto appended = co_await appending;
  static_cast<void>(appended);
  auto stopping = log->stop();
  auto stopped = co_await stopping;
  log->remove_listener(*life.book);
  life.ended = stopped.has_value();
  co_return Result<>{};
}

ScriptWorld::ScriptWorld(std::uint64_t seed) : world(seed, sim::FaultPlan::quiet()), node(world.add_node("server")) {
  const Nanos left = nanos_per_day - world.wall_now(node) % nanos_per_day;
  node.wall_offset += left - 60 * nanos_per_milli;
}

sim::SimProcess& ScriptWorld::start(ScriptLife& life) {
  return world.start(node, 1, sim::CoroutineProgram::factory([&life](Reactor& reactor, std::size_t) {
                       return live_script(reactor, life);
                     }));
}

bool ScriptWorld::run(ScriptLife& life) {
  sim::SimProcess& process = start(life);
  return world.run_until([&] { return !process.running(); }, 600 * nanos_per_second);
}

}  // namespace millrace::test
