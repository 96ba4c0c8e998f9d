// Recovery of a segment and a tail. The input is a script: what a log did, when the power failed, and which bytes were damaged
// after that. Nothing is ever visited that was not appended, in order; without damage nothing durable is missing and nothing is
// refused; pieces of any size give the same answer; doing what the verdict asks for gives the same batches again.
#include <algorithm>
#include <cstdint>

#include "tests/storage/log_model.hpp"

namespace {

using namespace millrace;
using namespace millrace::test;

class Script {
 public:
  explicit Script(Bytes bytes) : bytes_(bytes) {}
  bool at_end() const { return at_ == bytes_.size(); }
  std::size_t next() { return at_end() ? 0 : std::to_integer<std::size_t>(bytes_[at_++]); }
  std::size_t next16() {
    std::size_t high = next();
    return high << 8 | next();
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
};

void live(LogModel& model, Script& script) {
  while (!script.at_end()) {
    switch (script.next() % 8) {
      case 0: model.append(script.next()); break;
      case 1: model.append(script.next() * 32); break;
      case 2: model.flush_to_tail(); break;
      case 3: model.flush_to_segment(); break;
      case 4: model.record_durable_end(); break;
      case 5: {
        std::size_t which = script.next();
        if (which < model.in_flight() && !model.flying()[which].done) model.complete(which);
        break;
      }
      case 6: model.complete_all(); break;
      default: return;
    }
  }
}

/// Damages the image; true when a byte really changed.
bool damage(Image& image, Script& script) {
  Image before = image;
  while (!script.at_end()) {
    std::size_t what = script.next(), at = script.next16() * 4;
    std::vector<std::byte>& file = what % 4 == 3 ? image.tail : image.segment;
    if (at >= file.size()) continue;
    if (what % 4 == 0) {
      std::size_t begin = align_down(at, sector);
      std::fill_n(file.begin() + static_cast<long>(begin), sector, std::byte{0});
    } else {
      file[at] ^= static_cast<std::byte>(script.next());
    }
  }
  return image != before;
}

void check_visited(const LogModel& model, const Recovered& found) {
  MR_ASSERT(found.in_order);
  for (const auto& [lsn, bytes] : found.batches) {
    auto known = model.batches().find(lsn);
    MR_ASSERT(known != model.batches().end() && known->second == bytes);
  }
  MR_ASSERT(found.batches.empty() || found.verdict.next_lsn.value > found.batches.rbegin()->first);
}

void check_closing(const LogModel& model, Image image, const Recovered& found) {
  const Verdict& verdict = found.verdict;
  if (verdict.refused) return;
  apply_whole(writes_of(verdict, model.led().back().last.next()), image);
  RecoveryInput input = model.input(image);
  if (verdict.damaged) {
    if (!verdict.begun) return;
    input.tail = {};
    input.expected_end = SegmentEnd{verdict.segment_id, verdict.content_end, verdict.chain, verdict.next_lsn};
  }
  Recovered later(input, image.segment);
  MR_ASSERT(later.batches == found.batches && later.verdict.next_lsn == verdict.next_lsn);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4 * KiB) return 0;
  Script script(as_bytes(data, size));
  LogModel model(1 + script.next(), {.file_bytes = 96 * KiB, .ring_bytes = 16 * KiB, .in_flight_max = 64 * KiB});
  live(model, script);
  Image image = model.crash(static_cast<double>(script.next()) / 255);
  bool damaged = damage(image, script);
  Recovered found(model.input(image), image.segment);
  check_visited(model, found);
  if (!damaged) {
    MR_ASSERT(!found.verdict.refused && !found.verdict.damaged);
    MR_ASSERT(found.verdict.next_lsn >= model.durable());
    MR_ASSERT(found.batches.size() + 1 == found.verdict.next_lsn.value);
  }
  Recovered pieces(model.input(image), image.segment, block_bytes);
  MR_ASSERT(pieces.batches == found.batches && pieces.verdict.row == found.verdict.row &&
            pieces.verdict.next_lsn == found.verdict.next_lsn && pieces.verdict.cut_end == found.verdict.cut_end);
  check_closing(model, std::move(image), found);
  return 0;
}
