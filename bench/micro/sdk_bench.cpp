// What one record and one batch cost in the SDK, without a socket.
#include <benchmark/benchmark.h>

#include <string>

#include "sdk/core/batch_ring.hpp"
#include "sdk/core/body_packer.hpp"

namespace millrace {
namespace {

struct Quiet final : BatchRingListener {
  void ring_has_work() override {}
};

constexpr std::uint32_t batch_bytes = 64 * KiB;

/// A record into the ring, batches taken and released as they fill: what append() costs an application.
void append(benchmark::State& state) {
  const auto record_bytes = static_cast<std::size_t>(state.range(0));
  BufferPool pool(16 * MiB, BufferShape::of(batch_bytes, 4096));
  Quiet quiet;
  BatchRing ring(pool, {batch_bytes, 4096, 32}, quiet);
  const std::string payload(record_bytes, 'x');
  BatchRing::Taken taken;
  std::uint64_t ticket = 0;
  for (auto _ : state) {
    if (ring.append({0, 1, bytes_of(payload), {}, {}}, ticket) == BatchRing::Outcome::accepted) continue;
    while (ring.next() == BatchRing::Readiness::ready && ring.take(taken)) ring.release(taken.number);
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(record_bytes));
}
BENCHMARK(append)->Arg(20)->Arg(200)->Arg(2'000);

/// A full batch into its body, in place, and its hash: what the I/O thread computes for each.
void pack_and_hash(benchmark::State& state) {
  const auto record_bytes = static_cast<std::size_t>(state.range(0));
  BufferPool pool(1, BufferShape::of(batch_bytes, 4096));
  Quiet quiet;
  BatchRing ring(pool, {batch_bytes, 4096, 2}, quiet);
  const std::string payload(record_bytes, 'x');
  std::uint64_t ticket = 0;
  for (std::size_t i = 0; i < batch_bytes / record_bytes; ++i)
    if (ring.append({0, 1, bytes_of(payload), {}, {}}, ticket) != BatchRing::Outcome::accepted) break;
  BatchRing::Taken taken;
  if (!ring.take(taken)) return state.SkipWithError("nothing to take");
  PackScratch scratch;
  for (auto _ : state) {
    const PackedBody packed = pack_body(taken.buffer, taken.records, scratch);
    benchmark::DoNotOptimize(hash128(packed.body));
  }
  state.SetItemsProcessed(state.iterations() * taken.records);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(taken.records) *
                          static_cast<std::int64_t>(record_bytes));
}
BENCHMARK(pack_and_hash)->Arg(20)->Arg(200)->Arg(2'000);

}  // namespace
}  // namespace millrace
