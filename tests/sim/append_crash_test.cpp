// The smallest store there is, on the real Reactor: numbered blocks appended with durable writes and counted as
// acknowledged when they complete. After any crash every acknowledged block must be there. The same program with one
// deliberate bug must be caught within a few seeds: proof that the simulator can fail a program.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>

#include "base/hash.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace::sim {
namespace {

enum class Bug { none, acknowledge_before_sync, no_directory_sync, reuse_buffer, ignore_short_write, retry_sync };

struct alignas(block_bytes) Block {
  std::array<std::byte, block_bytes> bytes;
};

struct Store {
  Bug bug = Bug::none;
  std::uint64_t acknowledged = 0;  // blocks 0..acknowledged-1 were promised; lives outside, as a client does
  std::uint64_t found = 0;         // the valid blocks the last recovery saw
  std::uint64_t lost = 0;
  std::uint64_t appended = 0;
};

void fill(Block& block, std::uint64_t number) {
  block.bytes.fill(static_cast<std::byte>(number * 37 + 1));
  store(block.bytes, 8, number);
  store(block.bytes, 0, hash64(Bytes(block.bytes).subspan(8)));
}
bool valid(const Block& block, std::uint64_t number) {
  return load<std::uint64_t>(block.bytes, 8) == number &&
         load<std::uint64_t>(block.bytes, 0) == hash64(Bytes(block.bytes).subspan(8));
}

constexpr const char* root_path = "";
constexpr const char* log_path = "log";

Task<std::uint32_t> open_path(Reactor&, const char* path, std::uint16_t flags) {
  Operation open;
  open.code = OperationCode::open_file;
  open.path = path;
  open.open_flags = flags;
  auto opened = co_await Io(open);
  co_return opened;
}

Task<> sync_one(Reactor&, std::uint32_t descriptor, Bug bug) {
  Operation sync;
  sync.code = OperationCode::sync;
  sync.descriptor = static_cast<std::int32_t>(descriptor);
  auto done = co_await Io(sync);
  if (!done && bug == Bug::retry_sync) done = co_await Io(sync);
  if (!done) co_return fail(done.error());
  co_return Result<>{};
}

Task<> sync_directory(Reactor& reactor) {
  auto directory = co_await open_path(reactor, root_path, open_read | open_directory);
  if (!directory) co_return fail(directory.error());
  auto synced = co_await sync_one(reactor, *directory, Bug::none);
  co_return synced;
}

/// Counts the valid blocks from the start; a read error is tried again, a short read goes on.
Task<> recover(Reactor&, std::uint32_t descriptor, Store& store) {
  auto block = std::make_unique<Block>();
  Operation read;
  store.found = 0;
  for (;;) {
    std::uint32_t have = 0;
    while (have < block_bytes) {
      read = Operation{};
      read.code = OperationCode::read;
      read.descriptor = static_cast<std::int32_t>(descriptor);
      read.offset = store.found * block_bytes + have;
      read.data = block->bytes.data() + have;
      read.length = block_bytes - have;
      auto got = co_await Io(read);
      if (!got) continue;
      if (*got == 0) break;
      have += *got;
    }
    if (have < block_bytes || !valid(*block, store.found)) break;
    ++store.found;
  }
  if (store.found < store.acknowledged) store.lost += store.acknowledged - store.found;
  co_return Result<>{};
}

Task<> append_one(Reactor& reactor, std::uint32_t descriptor, Store& store, Block& block, std::uint64_t number) {
  fill(block, number);
  Operation write;
  for (std::uint32_t done = 0; done < block_bytes;) {
    write = Operation{};
    write.code = OperationCode::write;
    write.descriptor = static_cast<std::int32_t>(descriptor);
    write.offset = number * block_bytes + done;
    write.data = block.bytes.data() + done;
    write.length = block_bytes - done;
    write.durable = store.bug != Bug::acknowledge_before_sync && store.bug != Bug::retry_sync;
    auto wrote = co_await Io(write);
    if (!wrote && wrote.error() == Error::would_block) continue;
    if (!wrote) co_return fail(wrote.error());
    done += store.bug == Bug::ignore_short_write ? static_cast<std::uint32_t>(block_bytes) : *wrote;
  }
  if (store.bug == Bug::retry_sync) {
    auto synced = co_await sync_one(reactor, descriptor, store.bug);
    if (!synced) co_return fail(synced.error());
  }
  co_return Result<>{};
}

/// Two blocks in flight that share one buffer: the second fills it while the first is being written.
Task<> append_sharing(Reactor& reactor, std::uint32_t descriptor, Store& store, Block& block, std::uint64_t number) {
  fill(block, number);
  Operation write;
  write.code = OperationCode::write;
  write.descriptor = static_cast<std::int32_t>(descriptor);
  write.offset = number * block_bytes;
  write.data = block.bytes.data();
  write.length = block_bytes;
  write.durable = true;
  bool done = false;
  write.context = &done;
  write.on_complete = [](Operation& self, const Completion&) { *static_cast<bool*>(self.context) = true; };
  reactor.submit(write);
  co_await Yield{};
  fill(block, number + 1);
  while (!done) co_await Sleep(reactor, reactor.now() + 10'000);
  (void)store;
  co_return Result<>{};
}

Task<> run_store(Reactor& reactor, Store& store) {
  auto opened = co_await open_path(reactor, log_path, open_read | open_write | open_direct);
  if (!opened) opened = co_await open_path(reactor, log_path, open_read | open_write | open_create | open_direct);
  if (!opened) co_return fail(opened.error());
  if (store.bug != Bug::no_directory_sync) {
    // Always: an earlier life may have created the file and died before this.
    auto named = co_await sync_directory(reactor);
    if (!named) co_return named;
  }
  // What a kill left in flight becomes durable before it is believed.
  auto synced = co_await sync_one(reactor, *opened, Bug::none);
  if (!synced) co_return synced;
  auto recovering = recover(reactor, *opened, store);
  auto recovered = co_await recovering;
  if (!recovered) co_return recovered;
  auto block = std::make_unique<Block>();
  for (std::uint64_t number = store.found;; ++number) {
    auto appending = store.bug == Bug::reuse_buffer ? append_sharing(reactor, *opened, store, *block, number)
                                                    : append_one(reactor, *opened, store, *block, number);
    auto appended = co_await appending;
    if (!appended) co_return appended;
    store.acknowledged = number + 1;
    ++store.appended;
  }
}

struct Trial {
  Store store;
  std::uint64_t hash = 0;
  std::uint64_t crashes = 0;
};

/// Some seconds of appending on one node with `rounds` crashes, half of them power cuts, then a last recovery.
Trial run_trial(std::uint64_t seed, Bug bug, FaultPlan plan) {
  Trial trial;
  trial.store.bug = bug;
  SimWorld world(seed, plan);
  SimNode& node = world.add_node("node");
  Random random = world.stream("trial");
  SimProcess* process = nullptr;
  auto body = CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return run_store(reactor, trial.store); });
  for (int round = 0; round < 12; ++round) {
    process = &world.start(node, 1, body);
    world.run_for(static_cast<Nanos>(1'000'000 + random.below(20'000'000)));
    ++trial.crashes;
    if (random.below(2) == 0) world.kill(*process);
    else world.power_cut(node, static_cast<CutProfile>(random.below(cut_profiles)));
  }
  world.faults().set_calm(true);
  process = &world.start(node, 1, body);
  world.run_for(200'000'000);
  trial.hash = world.trace_hash();
  return trial;
}

FaultPlan honest_faults() {
  FaultPlan plan;
  plan[FaultClass::short_read] = 100'000;
  plan[FaultClass::short_write] = 100'000;
  plan[FaultClass::interrupted] = 50'000;
  plan[FaultClass::again] = 50'000;
  plan[FaultClass::read_error_once] = 10'000;
  plan[FaultClass::write_error_once] = 5'000;
  plan[FaultClass::failed_sync] = 20'000;
  plan[FaultClass::reordered] = 100'000;
  plan[FaultClass::slow_disk] = 1'000;
  plan[FaultClass::no_space] = 2'000;
  return plan;
}

TEST(AppendCrash, a_correct_store_never_loses_an_acknowledged_block) {
  std::uint64_t appended = 0;
  std::uint64_t crashes = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    Trial trial = run_trial(seed, Bug::none, honest_faults());
    ASSERT_EQ(trial.store.lost, 0U) << "seed " << seed;
    appended += trial.store.appended;
    crashes += trial.crashes;
  }
  EXPECT_GT(appended, 10'000U);
  EXPECT_EQ(crashes, 150U * 12);
}

TEST(AppendCrash, the_same_seed_twice_is_the_same_trace) {
  for (std::uint64_t seed : {1U, 7U, 23U}) {
    EXPECT_EQ(run_trial(seed, Bug::none, honest_faults()).hash, run_trial(seed, Bug::none, honest_faults()).hash)
        << seed;
    EXPECT_NE(run_trial(seed, Bug::none, honest_faults()).hash, run_trial(seed + 1, Bug::none, honest_faults()).hash)
        << seed;
  }
}

/// The first seed at which the bug shows, or nothing within 30.
std::optional<std::uint64_t> caught_at(Bug bug) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed)
    if (run_trial(seed, bug, honest_faults()).store.lost > 0) return seed;
  return std::nullopt;
}

TEST(AppendCrash, acknowledging_before_the_sync_is_caught) { EXPECT_TRUE(caught_at(Bug::acknowledge_before_sync)); }
TEST(AppendCrash, a_missing_directory_sync_is_caught) { EXPECT_TRUE(caught_at(Bug::no_directory_sync)); }
TEST(AppendCrash, a_buffer_reused_in_flight_is_caught) { EXPECT_TRUE(caught_at(Bug::reuse_buffer)); }
TEST(AppendCrash, an_ignored_short_write_is_caught) { EXPECT_TRUE(caught_at(Bug::ignore_short_write)); }
TEST(AppendCrash, a_sync_retried_for_success_is_caught) { EXPECT_TRUE(caught_at(Bug::retry_sync)); }

TEST(AppendCrash, without_power_cuts_acknowledging_early_survives) {
  // Why kill -9 proves restart and not flush: the page cache outlives the process.
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Store store;
    store.bug = Bug::acknowledge_before_sync;
    SimWorld world(seed, FaultPlan::quiet());
    SimNode& node = world.add_node("node");
    for (int round = 0; round < 10; ++round) {
      SimProcess& process = world.start(
          node, 1, CoroutineProgram::factory([&](Reactor& reactor, std::size_t) { return run_store(reactor, store); }));
      world.run_for(3'000'000);
      world.kill(process);
    }
    EXPECT_GT(store.appended, 0U);
    EXPECT_EQ(store.lost, 0U);
  }
}

}  // namespace
}  // namespace millrace::sim
