// Messages: whatever a decoder accepts, its encoder writes again byte by byte, so nothing is read that is not meant; and one
// frame is at most one message.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "protocol/follow.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"
#include "protocol/ranges.hpp"

namespace {

using namespace millrace;
using namespace millrace::wire;

int accepted = 0;

template <class Message>
void round_trip(const Result<Message>& decoded, const FrameOutput& wire) {
  if (!decoded) return;
  accepted++;
  FrameOutput again;
  encode(again, *decoded);
  MR_ASSERT(again == wire);
}

void try_all(const Frame& frame, const FrameOutput& wire) {
  accepted = 0;
  round_trip(decode_open_stream(frame), wire);
  round_trip(decode_register_producer(frame), wire);
  round_trip(decode_append(frame), wire);
  round_trip(decode_read(frame), wire);
  round_trip(decode_read_credit(frame), wire);
  round_trip(decode_cancel_read(frame), wire);
  round_trip(decode_stat(frame), wire);
  round_trip(decode_ping(frame), wire);
  round_trip(decode_refused(frame), wire);
  round_trip(decode_stream_opened(frame), wire);
  round_trip(decode_producer_registered(frame), wire);
  round_trip(decode_read_begin(frame), wire);
  round_trip(decode_batches(frame), wire);
  round_trip(decode_notice(frame), wire);
  round_trip(decode_read_end(frame), wire);
  round_trip(decode_stat_text(frame), wire);
  round_trip(decode_pong(frame), wire);
  round_trip(decode_follow(frame), wire);
  round_trip(decode_durable(frame), wire);
  round_trip(decode_follow_begin(frame), wire);
  round_trip(decode_segment(frame), wire);
  round_trip(decode_placed(frame), wire);
  round_trip(decode_marks(frame), wire);
  round_trip(decode_range_asked(frame), wire);
  round_trip(decode_range_given(frame), wire);
  if (auto acks = decode_acks(frame)) {
    accepted++;
    std::vector<AckEntry> entries;
    for (std::size_t i = 0; i < acks->count(); i++) entries.push_back(acks->entry(i));
    if (frame.header.request_id == 0) {
      FrameOutput again;
      encode_acks(again, acks->granted, entries);
      MR_ASSERT(again == wire);
    }
  }
  if (auto hello = decode_hello(frame)) {
    accepted++;
    FrameOutput again;
    encode(again, *hello);
    MR_ASSERT(again == wire);
  }
  if (auto welcome = decode_welcome(frame)) {
    accepted++;
    MR_ASSERT(welcome->shard.value < welcome->shard_count);
  }
  MR_ASSERT(accepted <= 1);
}

}  // namespace

/// type, flags, then four words of which each takes one length byte and so many bytes, then the body.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = as_bytes(data, size);
  auto take = [&](std::size_t most) {
    Bytes piece = input.first(std::min(most, input.size()));
    input = input.subspan(piece.size());
    return piece;
  };
  auto number = [&](std::size_t bytes) {
    std::uint64_t value = 0;
    Bytes piece = take(bytes);
    std::ranges::copy(piece, reinterpret_cast<std::byte*>(&value));
    return value;
  };
  FrameHeader header;
  header.type = static_cast<FrameType>(number(1));
  header.flags = static_cast<std::uint16_t>(number(1));
  header.request_id = number(1);
  for (auto& word : header.words) word = number(number(1) % 9);
  if (input.size() > 64 * KiB) return 0;
  FrameOutput wire;
  put_frame(wire, header, input);
  auto sealed = read_frame_header(wire, frame_bytes_max);
  if (!sealed) return 0;
  try_all(Frame{*sealed, Bytes(wire).subspan(frame_header_bytes, input.size())}, wire);
  return 0;
}
