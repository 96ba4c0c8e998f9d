#include "cli/record_output.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace millrace::cli {

namespace {
constexpr std::size_t flush_bytes = 256 * 1024;
}

std::string base64(ByteView bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const auto at = [&](std::size_t k) { return k < left ? std::to_integer<unsigned>(bytes[i + k]) : 0u; };
    const unsigned three = at(0) << 16 | at(1) << 8 | at(2);
    text += digits[three >> 18 & 63];
    text += digits[three >> 12 & 63];
    text += left > 1 ? digits[three >> 6 & 63] : '=';
    text += left > 2 ? digits[three & 63] : '=';
  }
  return text;
}

bool is_text(ByteView bytes) {
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
  for (std::size_t i = 0; i < bytes.size();) {
    const unsigned first = at(i);
    const std::size_t length = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    if (length == 0 || bytes.size() - i < length) return false;
    unsigned code = length == 1 ? first : first & (0x7fu >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if (at(i + k) >> 6 != 2) return false;
      code = code << 6 | (at(i + k) & 63);
    }
    static constexpr unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += length;
  }
  return true;
}

bool RecordOutput::put(const ReadRecord& record) {
  if (format_ == Format::raw) put_raw(record.payload);
  else put_json(record);
  return buffer_.size() < flush_bytes || flush();
}

void RecordOutput::put_raw(ByteView payload) {
  if (delimiter_ == Delimiter::len32) {
    const auto length = static_cast<std::uint32_t>(payload.size());
    buffer_.append(reinterpret_cast<const char*>(&length), sizeof length);
  }
  buffer_.append(text_view(payload));
  if (delimiter_ == Delimiter::newline) buffer_ += '\n';
}

void RecordOutput::put_json(const ReadRecord& record) {
  nlohmann::ordered_json json;
  json["stream"] = record.stream;
  json["offset"] = record.offset;
  json["day"] = day_text(record.day);
  json["id"] = record.id;
  json["lsn"] = record.lsn;
  json["time"] = time_text(record.leader_time);
  json["event_time"] = time_text(record.event_time);
  json["type"] = record.type;
  const auto bytes = [&](const char* name, const char* base64_name, ByteView value) {
    if (is_text(value)) json[name] = text_view(value);
    else json[base64_name] = base64(value);
  };
  if (!record.key.empty()) bytes("key", "key_base64", record.key);
  if (!record.headers.empty()) bytes("headers", "headers_base64", record.headers);
  bytes("payload", "payload_base64", record.payload);
  buffer_ += json.dump();
  buffer_ += '\n';
}

bool RecordOutput::flush() {
  std::size_t written = 0;
  while (written < buffer_.size() && error_.empty()) {
    const ssize_t wrote = ::write(descriptor_, buffer_.data() + written, buffer_.size() - written);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) error_ = std::string("cannot write the output: ") + std::strerror(errno);
    else written += static_cast<std::size_t>(wrote);
  }
  buffer_.clear();
  return error_.empty();
}

}  // namespace millrace::cli
