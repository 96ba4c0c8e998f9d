#include "protocol/handshake.hpp"

#include <algorithm>

#include "protocol/utf8.hpp"

namespace millrace::wire {

namespace {

struct HelloBody {
  std::uint16_t name_bytes;
  std::uint16_t identity_kind;
  std::uint32_t identity_bytes;
};
static_assert(sizeof(HelloBody) == 8);

struct WelcomeBody {
  std::uint64_t cluster_high;
  std::uint64_t cluster_low;
  std::uint64_t log_high;
  std::uint64_t log_low;
  std::uint32_t batch_bytes_max;
  std::uint32_t frame_bytes_max;
  std::uint32_t producer_window;
  std::uint32_t reads_max;
  std::uint64_t append_window;
  std::uint64_t read_credit_max;
  std::int64_t wall_time;
  std::int32_t day_offset_seconds;
  std::uint32_t text_bytes;
};
static_assert(sizeof(WelcomeBody) == 80);

void put(std::vector<std::byte>& body, Bytes piece) { body.insert(body.end(), piece.begin(), piece.end()); }

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

void encode(FrameOutput& output, const Hello& hello) {
  HelloBody head{static_cast<std::uint16_t>(hello.client_name.size()), static_cast<std::uint16_t>(hello.identity_kind),
                 static_cast<std::uint32_t>(hello.identity.size())};
  std::vector<std::byte> body;
  put(body, as_bytes(&head, sizeof(head)));
  put(body, bytes_of(hello.client_name));
  put(body, bytes_of(hello.identity));
  FrameHeader header{.type = FrameType::hello, .request_id = hello.request_id};
  header.words = {hello.oldest_version, hello.features, hello.shard.value, 0};
  put_frame(output, header, body);
}

Result<Hello> decode_hello(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (header.type != FrameType::hello || header.flags != 0 || header.words[3] != 0) return fail(Error::bad_frame);
  if (header.words[0] > protocol_version) return fail(Error::unsupported_version);
  if ((header.words[1] & ~protocol_features_known) != 0) return fail(Error::unsupported_version);
  if (header.words[2] > any_shard.value || frame.body.size() < sizeof(HelloBody)) return fail(Error::bad_frame);
  auto head = load<HelloBody>(frame.body);
  if (head.identity_kind != static_cast<std::uint16_t>(IdentityKind::none)) return fail(Error::unsupported_version);
  if (frame.body.size() != sizeof(HelloBody) + head.name_bytes + std::size_t{head.identity_bytes})
    return fail(Error::bad_frame);
  if (head.name_bytes > client_name_bytes_max || head.identity_bytes != 0) return fail(Error::invalid_argument);
  Hello hello;
  hello.request_id = header.request_id;
  hello.oldest_version = static_cast<std::uint32_t>(header.words[0]);
  hello.features = header.words[1];
  hello.shard = ShardIndex{static_cast<std::uint32_t>(header.words[2])};
  hello.client_name = text_of(frame.body.subspan(sizeof(HelloBody), head.name_bytes));
  if (!is_printable_utf8(hello.client_name)) return fail(Error::invalid_argument);
  return hello;
}

void encode(FrameOutput& output, const Welcome& welcome) {
  WelcomeBody head{.cluster_high = welcome.cluster_id.high,
                   .cluster_low = welcome.cluster_id.low,
                   .log_high = welcome.log_id.high,
                   .log_low = welcome.log_id.low,
                   .batch_bytes_max = welcome.batch_bytes_max,
                   .frame_bytes_max = welcome.frame_bytes_max,
                   .producer_window = welcome.producer_window,
                   .reads_max = welcome.reads_max,
                   .append_window = welcome.append_window,
                   .read_credit_max = welcome.read_credit_max,
                   .wall_time = welcome.wall_time,
                   .day_offset_seconds = welcome.day_offset_seconds,
                   .text_bytes = static_cast<std::uint32_t>(welcome.server.size())};
  std::vector<std::byte> body;
  put(body, as_bytes(&head, sizeof(head)));
  put(body, bytes_of(welcome.server));
  FrameHeader header{.type = FrameType::welcome, .request_id = welcome.request_id};
  header.words = {welcome.features, welcome.shard.value | std::uint64_t{welcome.shard_count} << 32,
                  welcome.append_granted, welcome.version};
  put_frame(output, header, body);
}

Result<Welcome> decode_welcome(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (header.type != FrameType::welcome || header.flags != 0) return fail(Error::bad_frame);
  if (header.words[3] != protocol_version) return fail(Error::unsupported_version);
  if ((header.words[0] & ~protocol_features_known) != 0) return fail(Error::unsupported_version);
  if (frame.body.size() < sizeof(WelcomeBody)) return fail(Error::bad_frame);
  auto head = load<WelcomeBody>(frame.body);
  if (frame.body.size() != sizeof(WelcomeBody) + std::size_t{head.text_bytes}) return fail(Error::bad_frame);
  Welcome welcome;
  welcome.request_id = header.request_id;
  welcome.version = static_cast<std::uint32_t>(header.words[3]);
  welcome.features = header.words[0];
  welcome.shard = ShardIndex{static_cast<std::uint32_t>(header.words[1])};
  welcome.shard_count = static_cast<std::uint32_t>(header.words[1] >> 32);
  welcome.append_granted = header.words[2];
  welcome.cluster_id = {head.cluster_high, head.cluster_low};
  welcome.log_id = {head.log_high, head.log_low};
  welcome.batch_bytes_max = head.batch_bytes_max;
  welcome.frame_bytes_max = head.frame_bytes_max;
  welcome.producer_window = head.producer_window;
  welcome.reads_max = head.reads_max;
  welcome.append_window = head.append_window;
  welcome.read_credit_max = head.read_credit_max;
  welcome.wall_time = head.wall_time;
  welcome.day_offset_seconds = head.day_offset_seconds;
  welcome.server = text_of(frame.body.subspan(sizeof(WelcomeBody)));
  bool sound = welcome.shard_count > 0 && welcome.shard.value < welcome.shard_count && welcome.producer_window > 0 &&
               welcome.batch_bytes_max > batch_header_bytes && welcome.append_window >= welcome.frame_bytes_max;
  if (!sound) return fail(Error::bad_frame);
  return welcome;
}

}  // namespace millrace::wire
