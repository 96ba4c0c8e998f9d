// What a batch costs to verify and to walk, and a frame to parse.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "protocol/batch_builder.hpp"
#include "protocol/frame_parser.hpp"

namespace millrace {
namespace {

struct Batch {
  BatchHeader header;
  std::vector<std::byte> bytes;  // header and body

  explicit Batch(std::size_t record_bytes) {
    BatchBuilder builder;
    const std::string payload(record_bytes, 'x');
    RecordInput record;
    record.payload = bytes_of(payload);
    while (builder.add(record)) {
    }
    const Bytes whole = builder.finish(header);
    bytes.assign(whole.begin(), whole.end());
  }
  Bytes body() const { return Bytes(bytes).subspan(batch_header_bytes, header.body_bytes); }
};

/// Hash and structure of a body: what a server does with every append and a reader with every batch.
void verify_batch(benchmark::State& state) {
  const Batch batch(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    const auto view = BodyView::parse(batch.body(), batch.header);
    benchmark::DoNotOptimize(view.has_value());
  }
  state.SetItemsProcessed(state.iterations() * batch.header.record_count);
  state.SetBytesProcessed(state.iterations() * batch.header.body_bytes);
}
BENCHMARK(verify_batch)->Arg(200)->Arg(2'000);

void walk_batch(benchmark::State& state) {
  const Batch batch(static_cast<std::size_t>(state.range(0)));
  const auto view = BodyView::parse(batch.body(), batch.header);
  if (!view) return state.SkipWithError("the batch does not verify");
  for (auto _ : state)
    for (std::uint32_t i = 0; i < view->count(); ++i) benchmark::DoNotOptimize(view->payload(i));
  state.SetItemsProcessed(state.iterations() * view->count());
}
BENCHMARK(walk_batch)->Arg(200);

/// Small append frames that arrived together, as a loaded server sees them.
void parse_frames(benchmark::State& state) {
  const std::vector<std::byte> body(static_cast<std::size_t>(state.range(0)));
  constexpr int frames = 64;
  FrameOutput input;
  for (int i = 0; i < frames; ++i) {
    FrameHeader header;
    header.type = FrameType::append;
    header.request_id = static_cast<std::uint64_t>(i);
    put_frame(input, header, body);
  }
  HeapFrameMemory memory;
  FrameParser parser(memory);
  for (auto _ : state) {
    Bytes rest = input;
    while (!rest.empty()) benchmark::DoNotOptimize(parser.next(rest));
  }
  state.SetItemsProcessed(state.iterations() * frames);
}
BENCHMARK(parse_frames)->Arg(500)->Arg(65'536);

}  // namespace
}  // namespace millrace
