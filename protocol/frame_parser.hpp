// Bytes as they arrive, in pieces of any size, become frames. A frame that lies whole and aligned in the input is handed
// out in place; one that is split is assembled once in memory of a FrameMemory. A header's hash is checked before its
// length is believed, so no lie about a length allocates anything.
//
// Thread: the owner's. After an error the parser stays failed: the connection ends.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "protocol/frame.hpp"

namespace millrace {

/// Where split bodies are assembled. The owner charges it to its budget.
class FrameMemory {
 public:
  /// At least `bytes`, 16-byte aligned; empty = none now (back-pressure: try again after something was given back).
  virtual MutableBytes take(std::size_t bytes) = 0;
  /// Exactly what take() returned.
  virtual void give_back(MutableBytes memory) = 0;

 protected:
  ~FrameMemory() = default;
};

/// FrameMemory from the heap, without a budget: for clients, tools and tests.
class HeapFrameMemory final : public FrameMemory {
 public:
  MutableBytes take(std::size_t bytes) override;
  void give_back(MutableBytes memory) override;
};

class FrameParser {
 public:
  /// `bytes_max` bounds a whole frame until set_bytes_max().
  explicit FrameParser(FrameMemory& memory, std::size_t bytes_max = frame_bytes_max);
  ~FrameParser();
  FrameParser(const FrameParser&) = delete;
  FrameParser& operator=(const FrameParser&) = delete;

  /// Takes the next frame from the front of `input` and moves `input` behind what it used. Nothing = more bytes are
  /// needed and `input` is used up. The frame is valid until the next call, and no longer than the input's bytes.
  /// would_block = no memory for the body now: call again with the rest of `input` later. Other errors are final:
  /// bad_frame, unsupported_version, too_large.
  Result<std::optional<Frame>> next(Bytes& input);

  /// For input that can be kept until it is whole: nothing = the next frame is not whole yet and `input` is as it was, unless it
  /// will be longer than `held_max` bytes, which are all that can be held; such a frame is assembled as by next().
  Result<std::optional<Frame>> next_held(Bytes& input, std::size_t held_max);

  /// While a body is being assembled: where its missing bytes go, so that a receive can put them there without a copy. Empty
  /// when the next bytes must come through next(). Call received() with what arrived, then next() with empty input.
  MutableBytes missing();
  void received(std::size_t bytes);

  void set_bytes_max(std::size_t bytes_max) { bytes_max_ = bytes_max; }
  /// True between frames: the stream may end here.
  bool idle() const { return filled_ == 0; }

 private:
  Result<std::optional<Frame>> whole(const FrameHeader& header, Bytes& input);
  Result<std::optional<Frame>> assemble(Bytes& input);
  Result<std::optional<Frame>> refuse(Error error);
  void release();

  FrameMemory& memory_;
  std::size_t bytes_max_;

  std::optional<Error> failed_;
  FrameHeader header_{};                                         // known once filled_ >= 64
  alignas(16) std::byte header_bytes_[frame_header_bytes] = {};  // the header as it arrives
  std::size_t filled_ = 0;                                       // bytes of the current frame so far, header included
  MutableBytes body_;                                            // memory for body and padding
  bool handed_out_ = false;                                      // body_ belongs to the frame returned last
};

}  // namespace millrace
