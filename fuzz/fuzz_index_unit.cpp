// Index units behind hashes that fit: parsing refuses them or hands out rows that lie inside, sorted, whose counts are the
// header's; what it accepts is written back as the same bytes.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/hash.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/index_unit.hpp"

namespace {

using namespace millrace;

std::vector<std::byte> written_again(const UnitView& view) {
  std::vector<std::byte> again;
  switch (view.header().kind) {
    case UnitKind::run:
      write_run(again, view.header(), view.run_entries(), view.stream_runs(), view.state_rows());
      break;
    case UnitKind::directory: write_directory(again, view.header(), view.directory_rows()); break;
    case UnitKind::day_table: write_day_table(again, view.header(), view.day_rows()); break;
  }
  return again;
}

void check(Bytes input) {
  UnitHeader header;
  if (input.size() < sizeof(header)) return;
  header = load<UnitHeader>(input);
  Bytes payload = input.subspan(sizeof(header));
  header.magic = unit_magic;
  header.version = 1;
  header.payload_bytes = payload.size();
  header.payload_hash = hash64(payload);
  header.checksum = 0;
  header.checksum = hash64(as_bytes(&header, sizeof(header)));
  AlignedMemory unit(unit_span(payload.size()));
  store(unit.bytes(), 0, header);
  std::ranges::copy(payload, unit.bytes().begin() + sizeof(header));
  Result<UnitView> view = UnitView::parse(unit.bytes());
  if (!view) return;
  if (header.kind == UnitKind::run) {
    std::uint64_t entries = 0;
    for (const StreamRun& run : view->stream_runs()) entries += run.entries;
    MR_ASSERT(entries == header.entries && view->run_entries().size() == entries);
  }
  std::vector<std::byte> again = written_again(*view);
  MR_ASSERT(std::ranges::equal(again, unit.bytes().first(unit_span(payload.size()))));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 64 * KiB) return 0;
  Bytes input = as_bytes(data, size);
  static_cast<void>(UnitView::parse(input.first(0)));
  check(input);
  return 0;
}
