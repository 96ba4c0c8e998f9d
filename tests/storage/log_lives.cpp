#include "tests/storage/log_lives.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "storage/group.hpp"

namespace millrace::test {

LogOptions small_log_options() {
  LogOptions options;
  options.directory = "data/shard-00";
  options.node_meta_path = "data/node.meta";
  options.segment_bytes = 16 * MiB;
  options.memory_bytes = 64 * MiB;
  return options;
}

Task<std::unique_ptr<Log>> open_in_data(Reactor& reactor, LogOptions options, OpeningReport& report) {
  auto making = Directory::make(reactor, "data");
  auto made = co_await making;
  if (!made && made.error() != Error::already_exists) co_return fail(made.error());
  auto naming = Directory::sync(reactor, "");
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  auto opening = Log::open(reactor, std::move(options), report);
  co_return co_await opening;
}

Task<> live_once(Reactor& reactor, LogLife& life) {
  auto opening = open_in_data(reactor, life.options, life.report);
  auto opened = co_await opening;
  if (!opened) {
    life.trouble = std::string(error_name(opened.error())) + ": " + life.report.diagnosis;
    co_return Result<>{};
  }
  life.log = std::move(*opened);
  if (life.work) {
    auto working = life.work(reactor, life);
    auto worked = co_await working;
    if (!worked) life.trouble = error_name(worked.error());
  }
  if (life.stop) {
    auto stopping = life.log->stop();
    auto stopped = co_await stopping;
    EXPECT_TRUE(stopped);
  }
  life.ended = true;
  life.log.reset();
  co_return Result<>{};
}

void run_life(sim::SimWorld& world, sim::SimNode& node, LogLife& life) {
  const bool ended = sim::run_program(
      world, node, [&life](Reactor& reactor, std::size_t) { return live_once(reactor, life); },
      3600 * nanos_per_second);
  ASSERT_TRUE(ended) << life.report.step;
  ASSERT_EQ(life.trouble, "");
}

Task<> append_batches(Reactor& reactor, Log& log, std::uint64_t batches, std::uint32_t body_bytes,
                      std::uint64_t streams, std::map<StreamId, std::uint64_t>& sequences) {
  std::vector<std::byte> body(body_bytes);
  Lsn last{};
  for (std::uint64_t i = 0; i < batches;) {
    auto stream = log.declare_stream("stream " + std::to_string(i % streams));
    if (!stream) co_return fail(stream.error());
    for (std::size_t at = 0; at < body.size(); at += 512) body[at] = static_cast<std::byte>(i + at / 512);
    BatchHeader header;
    header.stream_id = stream->value;
    header.record_count = static_cast<std::uint32_t>(1 + i % 3);
    header.body_bytes = body_bytes;
    header.raw_bytes = body_bytes;
    header.body_hash = hash128(body);
    header.producer_sequence = sequences[*stream];
    auto placed = log.append(header, body);
    if (placed) {
      ++sequences[*stream];
      last = placed->lsn;
      ++i;
      continue;
    }
    if (next_step(placed.error().error) != NextStep::retry) co_return fail(placed.error().error);
    const Nanos again = reactor.now() + nanos_per_milli / 2;
    co_await Sleep(reactor, again);
  }
  while (!(last < log.watermarks().durable)) {
    const Nanos again = reactor.now() + nanos_per_milli / 2;
    co_await Sleep(reactor, again);
  }
  co_return Result<>{};
}

Task<> wait_indexed(Reactor& reactor, Log& log) {
  while (log.view().runs_behind() > 0 || log.view().writing()) {
    const Nanos again = reactor.now() + nanos_per_milli;
    co_await Sleep(reactor, again);
  }
  co_return Result<>{};
}

Task<std::map<std::uint64_t, std::vector<std::uint64_t>>> read_all_streams(Log& log) {
  std::map<std::uint64_t, std::vector<std::uint64_t>> all;
  std::vector<StreamId> streams;
  // A few at a time, as whoever must not stop the log does.
  for (std::size_t from = 0;;) {
    from = log.visit_streams(from, 3, [&](const StreamInfo& info) { streams.push_back(info.id); });
    if (from == 0) break;
  }
  for (const StreamId stream : streams) {
    ReadRequest request;
    request.stream = stream;
    auto reading = read_to_end(log.view(), request, 256 * KiB);
    auto back = co_await reading;
    if (!back->ended) co_return fail(back->ended.error());
    for (const std::string& notice : back->notices) EXPECT_TRUE(notice.starts_with("day")) << notice;
    for (const BatchHeader& header : back->headers) all[stream.value].push_back(header.lsn);
  }
  co_return std::move(all);
}

std::uint64_t last_batch_in(sim::SimNode& node, const std::string& path, std::uint64_t end) {
  const std::vector<std::byte> bytes = node.disk.find(path)->file.content(false);
  std::uint64_t found = 0;
  end = std::min(end, bytes.size());
  for (std::uint64_t at = block_bytes; at + block_bytes <= end;) {
    auto group = read_group_header(Bytes(bytes).subspan(at, block_bytes), at);
    if (!group) break;
    for (std::uint64_t batch = at + group_header_bytes; batch < std::min(at + group->length, end);) {
      found = batch;
      batch += batch_span(read_batch_header(Bytes(bytes).subspan(batch))->body_bytes);
    }
    at += group_span(*group);
  }
  return found;
}

void flip_bit(sim::SimNode& node, const std::string& path, std::uint64_t position) {
  auto& file = node.disk.find(path)->file;
  std::vector<std::byte> sector(512);
  const std::uint64_t begin = position / 512 * 512;
  file.read(begin, sector, false);
  sector[position - begin] ^= std::byte{1};
  file.write(node.disk.next_stamp(), begin, sector, true);
}

}  // namespace millrace::test
