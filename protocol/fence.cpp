#include "protocol/fence.hpp"

namespace millrace::wire {

namespace {

constexpr std::uint16_t first_flag = 1;
constexpr std::uint16_t second_flag = 2;

std::uint16_t flags_of(bool first, bool second) {
  return static_cast<std::uint16_t>((first ? first_flag : 0) | (second ? second_flag : 0));
}

std::string_view text_of(Bytes body) { return {reinterpret_cast<const char*>(body.data()), body.size()}; }

}  // namespace

void encode(FrameOutput& output, const Fence& message) {
  FrameHeader header{.type = FrameType::fence, .request_id = message.request_id};
  header.flags = flags_of(message.ask_only, message.leads);
  header.words = {message.epoch.value, 0, 0, 0};
  put_frame(output, header, bytes_of(message.leader.substr(0, leader_text_max)));
}

void encode(FrameOutput& output, const Fenced& message) {
  FrameHeader header{.type = FrameType::fenced, .request_id = message.request_id};
  header.flags = flags_of(message.granted, false);
  header.words = {message.epoch.value, message.next.value, message.chain.value, message.durable.value};
  put_frame(output, header);
}

void encode(FrameOutput& output, const Promote& message) {
  FrameHeader header{.type = FrameType::promote, .request_id = message.request_id};
  header.flags = flags_of(message.ask_only, message.accept_loss);
  put_frame(output, header);
}

void encode(FrameOutput& output, const Promoted& message) {
  FrameHeader header{.type = FrameType::promoted, .request_id = message.request_id};
  header.flags = flags_of(message.leads, message.safe);
  header.words = {message.epoch.value, message.next.value, 0, 0};
  put_frame(output, header, bytes_of(message.text));
}

Result<Fence> decode_fence(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::fence, 1, first_flag | second_flag)) return fail(Error::bad_frame);
  if (frame.body.size() > leader_text_max) return fail(Error::bad_frame);
  return Fence{header.request_id, Epoch{header.words[0]}, (header.flags & first_flag) != 0,
               (header.flags & second_flag) != 0, text_of(frame.body)};
}

Result<Fenced> decode_fenced(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::fenced, 4, first_flag) || !frame.body.empty()) return fail(Error::bad_frame);
  const auto& words = header.words;
  return Fenced{header.request_id, (header.flags & first_flag) != 0, Epoch{words[0]}, Lsn{words[1]}, Chain{words[2]},
                Lsn{words[3]}};
}

Result<Promote> decode_promote(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::promote, 0, first_flag | second_flag) || !frame.body.empty())
    return fail(Error::bad_frame);
  return Promote{header.request_id, (header.flags & first_flag) != 0, (header.flags & second_flag) != 0};
}

Result<Promoted> decode_promoted(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (!shaped(header, FrameType::promoted, 2, first_flag | second_flag)) return fail(Error::bad_frame);
  return Promoted{header.request_id,
                  (header.flags & first_flag) != 0,
                  (header.flags & second_flag) != 0,
                  Epoch{header.words[0]},
                  Lsn{header.words[1]},
                  text_of(frame.body)};
}

}  // namespace millrace::wire
