#include "protocol/frame_parser.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace millrace {

namespace {

/// What begins otherwise is no frame: whoever speaks another protocol is told so before 64 bytes of it are there.
bool may_be_frame(Bytes front) {
  const std::uint32_t magic = frame_magic;
  return front.empty() || std::memcmp(front.data(), &magic, std::min(front.size(), sizeof magic)) == 0;
}

}  // namespace

MutableBytes HeapFrameMemory::take(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{frame_align}));
  return {memory, bytes};
}

void HeapFrameMemory::give_back(MutableBytes memory) {
  ::operator delete(memory.data(), std::align_val_t{frame_align});
}

FrameParser::FrameParser(FrameMemory& memory, std::size_t bytes_max) : memory_(memory), bytes_max_(bytes_max) {}

FrameParser::~FrameParser() { release(); }

void FrameParser::release() {
  if (!body_.empty()) memory_.give_back(body_);
  body_ = {};
  handed_out_ = false;
}

Result<std::optional<Frame>> FrameParser::refuse(Error error) {
  failed_ = error;
  release();
  return fail(error);
}

Result<std::optional<Frame>> FrameParser::next(Bytes& input) {
  if (failed_) return fail(*failed_);
  if (handed_out_) release();
  if (filled_ > 0 || input.size() < frame_header_bytes) return assemble(input);
  auto header = read_frame_header(input, bytes_max_);
  if (!header) return refuse(header.error());
  return whole(*header, input);
}

Result<std::optional<Frame>> FrameParser::next_held(Bytes& input, std::size_t held_max) {
  if (failed_) return fail(*failed_);
  if (handed_out_) release();
  if (filled_ > 0) return assemble(input);
  if (input.size() < frame_header_bytes)
    return may_be_frame(input) ? Result<std::optional<Frame>>(std::nullopt) : refuse(Error::bad_frame);
  auto header = read_frame_header(input, bytes_max_);
  if (!header) return refuse(header.error());
  std::size_t span = frame_span(header->body_bytes);
  if (input.size() < span && span <= held_max) return std::optional<Frame>();
  return whole(*header, input);
}

/// Nothing of this frame was kept so far, and its header lies in the input.
Result<std::optional<Frame>> FrameParser::whole(const FrameHeader& header, Bytes& input) {
  std::size_t span = frame_span(header.body_bytes);
  Bytes body = input.subspan(frame_header_bytes);
  bool aligned = is_aligned(reinterpret_cast<std::uintptr_t>(body.data()), frame_align) || header.body_bytes == 0;
  if (input.size() < span || !aligned) return assemble(input);
  if (!all_zero(body.subspan(header.body_bytes, span - frame_header_bytes - header.body_bytes)))
    return refuse(Error::bad_frame);
  input = input.subspan(span);
  return std::optional<Frame>(Frame{header, body.first(header.body_bytes)});
}

Result<std::optional<Frame>> FrameParser::assemble(Bytes& input) {
  if (filled_ < frame_header_bytes) {
    std::size_t piece = std::min(frame_header_bytes - filled_, input.size());
    std::copy_n(input.data(), piece, header_bytes_ + filled_);
    filled_ += piece;
    input = input.subspan(piece);
    if (!may_be_frame(as_bytes(header_bytes_, filled_))) return refuse(Error::bad_frame);
    if (filled_ < frame_header_bytes) return std::optional<Frame>();
    auto header = read_frame_header(as_bytes(header_bytes_, frame_header_bytes), bytes_max_);
    if (!header) return refuse(header.error());
    header_ = *header;
  }
  std::size_t span = frame_span(header_.body_bytes);
  std::size_t body_span = span - frame_header_bytes;
  if (body_span > 0 && body_.empty()) {
    body_ = memory_.take(body_span);
    if (body_.empty()) return fail(Error::would_block);
    MR_ASSERT(body_.size() >= body_span);
  }
  std::size_t piece = std::min(span - filled_, input.size());
  if (piece > 0) std::memcpy(body_.data() + (filled_ - frame_header_bytes), input.data(), piece);
  filled_ += piece;
  input = input.subspan(piece);
  if (filled_ < span) return std::optional<Frame>();
  filled_ = 0;
  Bytes body = body_;
  if (!all_zero(body.subspan(header_.body_bytes, body_span - header_.body_bytes))) return refuse(Error::bad_frame);
  handed_out_ = true;
  return std::optional<Frame>(Frame{header_, body.first(header_.body_bytes)});
}

MutableBytes FrameParser::missing() {
  if (failed_ || handed_out_ || body_.empty()) return {};
  return body_.subspan(filled_ - frame_header_bytes, frame_span(header_.body_bytes) - filled_);
}

void FrameParser::received(std::size_t bytes) {
  MR_ASSERT(bytes <= missing().size());
  filled_ += bytes;
}

}  // namespace millrace
