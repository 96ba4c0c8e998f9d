// Bytes from the network: whatever arrives, in whatever pieces, the parser hands out the same frames, believes no header
// that does not verify, takes no memory beyond a claim within the limit, and gives all of it back.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/frame_parser.hpp"

namespace {

using namespace millrace;

constexpr std::size_t limit = 256 * KiB;

class CheckedMemory final : public FrameMemory {
 public:
  ~CheckedMemory() { MR_ASSERT(out_.empty()); }
  MutableBytes take(std::size_t bytes) override {
    MR_ASSERT(bytes <= limit);
    MutableBytes memory = heap_.take(bytes);
    out_[memory.data()] = memory.size();
    return memory;
  }
  void give_back(MutableBytes memory) override {
    MR_ASSERT(out_.erase(memory.data()) == 1);
    heap_.give_back(memory);
  }

 private:
  HeapFrameMemory heap_;
  std::map<std::byte*, std::size_t> out_;
};

struct Outcome {
  std::vector<std::string> frames;
  int error = 0;
  bool operator==(const Outcome&) const = default;
};

void take_all(FrameParser& parser, Bytes input, Outcome& outcome) {
  while (outcome.error == 0) {
    auto frame = parser.next(input);
    if (!frame) {
      outcome.error = static_cast<int>(frame.error());
      MR_ASSERT(!parser.next(input));
      return;
    }
    if (!*frame) {
      MR_ASSERT(input.empty());
      return;
    }
    const FrameHeader& header = (*frame)->header;
    MR_ASSERT(header.checksum == frame_checksum(header) && header.magic == frame_magic && header.reserved == 0);
    MR_ASSERT((*frame)->body.size() == header.body_bytes && frame_span(header.body_bytes) <= limit);
    MR_ASSERT(is_aligned(reinterpret_cast<std::uintptr_t>((*frame)->body.data()), 16) || (*frame)->body.empty());
    std::string seen(reinterpret_cast<const char*>(&header), sizeof(header));
    seen.append(reinterpret_cast<const char*>((*frame)->body.data()), (*frame)->body.size());
    outcome.frames.push_back(std::move(seen));
  }
}

/// The input as a script: raw bytes, sealed headers with arbitrary fields, sound frames.
std::vector<std::byte> wire_bytes(Bytes script) {
  std::vector<std::byte> wire;
  auto take = [&](std::size_t most) {
    Bytes piece = script.first(std::min(most, script.size()));
    script = script.subspan(piece.size());
    return piece;
  };
  while (!script.empty() && wire.size() < 2 * limit) {
    auto command = static_cast<std::uint8_t>(take(1)[0]);
    Bytes piece = take(command / 4);
    if (command % 4 == 0) {
      wire.insert(wire.end(), piece.begin(), piece.end());
      continue;
    }
    FrameHeader header{.type = static_cast<FrameType>(1 + command % 9)};
    if (command % 4 == 1) {
      std::copy_n(piece.begin(), std::min(piece.size(), sizeof(header)), reinterpret_cast<std::byte*>(&header));
      std::vector<std::byte> sealed(frame_header_bytes);
      write_frame_header(sealed, header);
      wire.insert(wire.end(), sealed.begin(), sealed.end());
      continue;
    }
    header.request_id = wire.size();
    put_frame(wire, header, piece);
  }
  return wire;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Bytes input = as_bytes(data, size);
  auto step = 1 + static_cast<std::size_t>(input[0]);
  std::vector<std::byte> wire = wire_bytes(input.subspan(1));
  CheckedMemory memory;
  Outcome whole, pieces;
  {
    FrameParser parser(memory, limit);
    take_all(parser, wire, whole);
  }
  {
    FrameParser parser(memory, limit);
    for (std::size_t at = 0; at < wire.size(); at += step) {
      // A copy of its own, so that reading past a piece shows.
      std::vector<std::byte> piece(wire.begin() + static_cast<std::ptrdiff_t>(at),
                                   wire.begin() + static_cast<std::ptrdiff_t>(std::min(at + step, wire.size())));
      take_all(parser, piece, pieces);
    }
  }
  MR_ASSERT(whole == pieces);
  return 0;
}
