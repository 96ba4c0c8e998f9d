// Frames as tests of protocol/ need them.
#pragma once

#include <map>
#include <vector>

#include "protocol/frame.hpp"
#include "protocol/frame_parser.hpp"

namespace millrace {

/// The header as bytes, with the checksum it should have and everything else as it stands.
inline std::vector<std::byte> sealed(const FrameHeader& header) {
  std::vector<std::byte> bytes(frame_header_bytes);
  write_frame_header(bytes, header);
  return bytes;
}

/// The one frame in `bytes`, which outlive it.
inline Frame frame_in(const FrameOutput& bytes) {
  auto header = read_frame_header(bytes, frame_bytes_max);
  MR_ASSERT(header.has_value());
  MR_ASSERT(bytes.size() == frame_span(header->body_bytes));
  return Frame{*header, Bytes(bytes).subspan(frame_header_bytes, header->body_bytes)};
}

/// Counts what is out, checks what comes back, and can be empty.
class CountingMemory final : public FrameMemory {
 public:
  ~CountingMemory() { MR_ASSERT(out.empty()); }
  MutableBytes take(std::size_t bytes) override {
    if (refusals > 0) {
      refusals--;
      return {};
    }
    takes++;
    largest = std::max(largest, bytes);
    MutableBytes memory = heap.take(bytes);
    out[memory.data()] = memory.size();
    return memory;
  }
  void give_back(MutableBytes memory) override {
    MR_ASSERT(out.at(memory.data()) == memory.size());
    out.erase(memory.data());
    heap.give_back(memory);
  }

  HeapFrameMemory heap;
  std::map<std::byte*, std::size_t> out;
  int takes = 0;
  int refusals = 0;
  std::size_t largest = 0;
};

}  // namespace millrace
