// Segments prepared ahead: always zeros, always durable before they are used, never without bound, and a full disk is a state
// that passes.
#include "storage/segment_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "storage/names.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace {
namespace {

constexpr std::uint64_t segment_bytes = 1 * MiB;
constexpr std::uint32_t segments_kept = 2;
constexpr Day today{20'000};

class Load final : public PoolPressure {
 public:
  std::uint64_t appended_bytes() const override { return bytes; }
  bool given_up() const override { return gone; }
  std::uint64_t bytes = 0;
  bool gone = false;
};

struct Bench {
  Load load;
  std::unique_ptr<SegmentPool> pool;
  std::function<Task<>(Reactor&, Bench&)> work;
};

/// Makes the directories and the pool, lets `work` use it, stops it.
Task<> use_pool(Reactor& reactor, Bench& bench) {
  for (const char* path : {"shard", "shard/pool", "shard/2024-10-04"}) {
    auto making = Directory::make(reactor, path);
    (void)co_await making;
  }
  bench.pool = std::make_unique<SegmentPool>(reactor, SegmentPoolOptions{"shard", segment_bytes, segments_kept, false},
                                             bench.load);
  auto opening = bench.pool->open();
  auto opened = co_await opening;
  EXPECT_TRUE(opened);
  auto working = bench.work(reactor, bench);
  (void)co_await working;
  auto stopping = bench.pool->stop();
  (void)co_await stopping;
  bench.pool.reset();
  co_return Result<>{};
}

Task<> wait_ready(Reactor& reactor, SegmentPool& pool, std::size_t count) {
  for (int i = 0; i < 5000 && pool.ready() < count; ++i) {
    const Nanos again = reactor.now() + nanos_per_milli;
    co_await Sleep(reactor, again);
  }
  EXPECT_GE(pool.ready(), count);
  co_return Result<>{};
}

Task<> expect_zeros(File& file) {
  AlignedMemory memory(segment_bytes);
  auto reading = file.read_exact(0, memory.bytes());
  auto read = co_await reading;
  EXPECT_TRUE(read);
  EXPECT_TRUE(all_zero(memory.bytes()));
  auto asking = file.status();
  auto status = co_await asking;
  EXPECT_TRUE(status && status->size == segment_bytes);
  co_return Result<>{};
}

Task<> fill_with_ones(File& file) {
  AlignedMemory memory(segment_bytes);
  std::ranges::fill(memory.bytes(), std::byte{1});
  auto writing = file.write_exact(0, memory.bytes(), true);
  auto written = co_await writing;
  EXPECT_TRUE(written);
  co_return Result<>{};
}

/// Takes segments [first, end) of today and does with each what `look` says.
Task<> take(Bench& bench, std::uint32_t first, std::uint32_t end, Task<> (*look)(File& file)) {
  for (std::uint32_t number = first; number < end; ++number) {
    const SegmentKey key{today, number};
    auto taking = bench.pool->take(key);
    auto file = co_await taking;
    EXPECT_TRUE(file);
    if (!file) co_return fail(file.error());
    auto looking = look(*file);
    (void)co_await looking;
  }
  co_return Result<>{};
}

Task<> recycle(Bench& bench, std::uint32_t end) {
  for (std::uint32_t number = 0; number < end; ++number) {
    auto recycling = bench.pool->recycle(segment_path("shard", {today, number}));
    auto recycled = co_await recycling;
    EXPECT_TRUE(recycled);
  }
  co_return Result<>{};
}

class SegmentPoolTest : public testing::Test {
 protected:
  SegmentPoolTest() : world(5, sim::FaultPlan{}), node(world.add_node("node")) {}
  void run(std::function<Task<>(Reactor&, Bench&)> work) {
    Bench bench;
    bench.work = std::move(work);
    ASSERT_TRUE(sim::run_program(world, node, [&](Reactor& reactor, std::size_t) { return use_pool(reactor, bench); }));
  }
  std::size_t files(std::string_view part) {
    std::size_t count = 0;
    for (const auto& [path, bytes] : node.disk.image()) count += path.find(part) != std::string::npos;
    return count;
  }
  sim::SimWorld world;
  sim::SimNode& node;
};

Task<> take_two(Reactor& reactor, Bench& bench) {
  bench.pool->start();
  auto waiting = wait_ready(reactor, *bench.pool, segments_kept);
  (void)co_await waiting;
  const std::size_t ready = bench.pool->ready();
  auto taking = take(bench, 0, 2, expect_zeros);
  auto taken = co_await taking;
  if (!taken) co_return taken;
  EXPECT_GE(ready, segments_kept);
  auto again = wait_ready(reactor, *bench.pool, segments_kept);
  (void)co_await again;
  EXPECT_GE(bench.pool->prepared_bytes(), 4 * segment_bytes);
  co_return Result<>{};
}

TEST_F(SegmentPoolTest, KeepsAFewPreparedAndGivesZeros) {
  run(take_two);
  EXPECT_EQ(files("2024-10-04/data0000"), 2u);
}

Task<> give_up_the_first(Reactor&, Bench& bench) {
  bench.load.gone = true;
  auto preparing = bench.pool->prepare_first();
  auto prepared = co_await preparing;
  EXPECT_EQ(prepared ? Error{} : prepared.error(), Error::cancelled);
  EXPECT_EQ(bench.pool->ready(), 0u);
  bench.load.gone = false;
  auto again = bench.pool->prepare_first();
  auto done = co_await again;
  EXPECT_TRUE(done);
  co_return Result<>{};
}

TEST_F(SegmentPoolTest, TheFirstOneIsNotPreparedForNobody) {
  run(give_up_the_first);
  EXPECT_EQ(files(".tmp"), 0u) << "what it took goes back";
  EXPECT_EQ(files("pool/seg-"), 1u);
}

Task<> take_from_nothing(Reactor&, Bench& bench) {
  EXPECT_EQ(bench.pool->ready(), 0u);
  auto taking = take(bench, 0, 1, expect_zeros);
  co_return co_await taking;
}

TEST_F(SegmentPoolTest, AnEmptyPoolGivesAReservedFile) { run(take_from_nothing); }

Task<> use_and_recycle(Reactor& reactor, Bench& bench) {
  auto filling = take(bench, 0, 12, fill_with_ones);
  auto filled = co_await filling;
  if (!filled) co_return filled;
  auto recycling = recycle(bench, 12);
  (void)co_await recycling;
  bench.pool->start();
  auto waiting = wait_ready(reactor, *bench.pool, segments_kept + SegmentPool::recycled_max);
  (void)co_await waiting;
  EXPECT_EQ(bench.pool->ready(), segments_kept + SegmentPool::recycled_max) << "more than that go";
  auto taking = take(bench, 20, 24, expect_zeros);
  auto taken = co_await taking;
  if (!taken) co_return taken;
  co_return Result<>{};
}

TEST_F(SegmentPoolTest, RecycledSegmentsAreZeroedAnewAndBounded) { run(use_and_recycle); }

Task<> recycle_and_stop(Reactor&, Bench& bench) {
  auto filling = take(bench, 0, 1, fill_with_ones);
  auto filled = co_await filling;
  if (!filled) co_return filled;
  auto recycling = recycle(bench, 1);
  co_return co_await recycling;
}

// Nothing had zeroed the file when the process ended: it may not be given as it is.
TEST_F(SegmentPoolTest, AnUnfinishedFileIsZeroedAfterARestart) {
  run(recycle_and_stop);
  EXPECT_EQ(files(".tmp"), 1u);
  run(take_two);
  EXPECT_EQ(files(".tmp"), 0u);
}

Task<> full_disk(Reactor& reactor, Bench& bench, sim::SimNode& node) {
  const std::uint64_t all = node.disk.capacity_bytes;
  node.disk.capacity_bytes = node.disk.used_bytes() + 2 * MiB;  // less than a segment and the reserve
  bench.pool->start();
  const Nanos later = reactor.now() + 3 * nanos_per_second;
  co_await Sleep(reactor, later);
  EXPECT_TRUE(bench.pool->out_of_space());
  EXPECT_FALSE(bench.pool->can_supply());
  EXPECT_LE(bench.pool->free_bytes(), 2 * MiB);
  const SegmentKey key{today, 0};
  auto taking = bench.pool->take(key);
  auto file = co_await taking;
  EXPECT_TRUE(!file && file.error() == Error::no_space);
  node.disk.capacity_bytes = all;
  auto waiting = wait_ready(reactor, *bench.pool, segments_kept);
  (void)co_await waiting;
  EXPECT_FALSE(bench.pool->out_of_space()) << "the state passes by itself";
  co_return Result<>{};
}

TEST_F(SegmentPoolTest, AFullDiskIsAStateThatPasses) {
  run([this](Reactor& reactor, Bench& bench) { return full_disk(reactor, bench, node); });
}

Task<> other_size(Reactor& reactor, Bench& bench) {
  auto opening = File::open(reactor, "shard/pool/seg-00000000000000000000000000000001", open_write | open_create);
  auto file = co_await opening;
  EXPECT_TRUE(file);
  if (!file) co_return fail(file.error());
  auto sizing = file->truncate(2 * segment_bytes);
  (void)co_await sizing;
  auto again = bench.pool->open();
  auto opened = co_await again;
  EXPECT_TRUE(opened);
  EXPECT_EQ(bench.pool->ready(), 0u);
  co_return Result<>{};
}

TEST_F(SegmentPoolTest, FilesOfAnotherSegmentSizeGo) {
  run(other_size);
  EXPECT_EQ(files("pool/seg-00000000000000000000000000000001"), 0u);
}

}  // namespace
}  // namespace millrace
