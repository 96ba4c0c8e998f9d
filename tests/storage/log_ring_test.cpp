// Groups stand in a ring of memory, and the tail cache refers to them where they lie: what it holds while the ring comes round.
#include "reactor/random.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/storage/log_fixture.hpp"

namespace millrace {
namespace {

using namespace log_test;

/// Every batch that the tail cache holds is the one it says, whole. Returns how many.
std::uint64_t check_tail(Log& log) {
  const TailCache& tail = log.view().tail();
  for (Lsn lsn = tail.first(); lsn < tail.end(); lsn = lsn.next()) {
    const auto* entry = tail.find(lsn);
    const auto header = load<BatchHeader>(entry->bytes);
    if (header.lsn == lsn.value && header.first_offset == entry->first_offset.value &&
        hash128(entry->bytes.subspan(batch_header_bytes, header.body_bytes)) == header.body_hash)
      continue;
    ADD_FAILURE() << "batch " << lsn.value << " of " << tail.first().value << " to " << tail.end().value
                  << " is not what stands in memory";
    return 0;
  }
  return tail.end().value - tail.first().value;
}

/// All records of the stream, in order, as a reader gets them at once.
Task<std::uint64_t> read_all(Log& log, StreamId stream, std::uint64_t records) {
  ReadRequest request;
  request.stream = stream;
  Reader reader(log.view(), request);
  std::vector<std::byte> target(1 * MiB);
  std::uint64_t next = 0;
  while (true) {
    auto reading = reader.next(target);
    auto chunk = co_await reading;
    if (!chunk) co_return fail(chunk.error());
    for (std::size_t at = 0; at < chunk->bytes;) {
      const auto header = load<BatchHeader>(target, at);
      EXPECT_EQ(header.stream_id, stream.value);
      EXPECT_EQ(header.first_offset, next);
      if (header.stream_id != stream.value || header.first_offset != next) co_return next;
      next += header.record_count;
      at += batch_span(header.body_bytes);
    }
    if (next >= records || chunk->notice == ReadNotice::caught_up) co_return next;
  }
}

/// A thin stream among fat ones, several times the ring: after each step the cache is true, and a reader gets every record.
Task<> append_rounds(Reactor& reactor, Life& life) {
  auto thin = life.log->declare_stream("thin");
  auto fat = life.log->declare_stream("fat");
  if (!thin || !fat) co_return fail(Error::internal);
  Random random(3);
  std::uint64_t records = 0, appended = 0, held = 0;
  for (int step = 0; appended < 100 * MiB; ++step) {
    const bool small = step % 5 == 0;
    auto body = body_of(static_cast<std::uint64_t>(step), small ? 100 : 1000 + random.next() % 200'000);
    auto at = life.log->append(header_of({.stream = small ? *thin : *fat}, body), body);
    if (!at && at.error().error == Error::retry_later) {
      const Nanos again = reactor.now() + nanos_per_milli;
      co_await Sleep(reactor, again);
      --step;
      continue;
    }
    if (!at) co_return fail(at.error().error);
    records += small;
    appended += body.size();
    if (step % 20 != 0) continue;
    while (life.log->watermarks().durable <= at->lsn) {
      const Nanos again = reactor.now() + nanos_per_milli;
      co_await Sleep(reactor, again);
    }
    held += check_tail(*life.log);
    if (testing::Test::HasFailure()) co_return Result<>{};
    if (step % 100 != 0) continue;
    auto reading = read_all(*life.log, *thin, records);
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    EXPECT_EQ(*read, records) << "step " << step;
    if (testing::Test::HasFailure()) co_return Result<>{};
  }
  EXPECT_GT(held, 1000U) << "the cache held next to nothing";
  co_return Result<>{};
}

TEST_F(LogTest, TheTailCacheHoldsWhatItSaysWhileTheRingComesRound) {
  Life life;
  life.work = append_rounds;
  run(life);
}

}  // namespace
}  // namespace millrace
