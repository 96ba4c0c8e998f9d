#include "storage/catalogue.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "storage/control_batches.hpp"

namespace millrace {

namespace {

constexpr std::size_t slots_at_first = 1024;
constexpr std::size_t chunk_bytes = 64 * KiB;

// Length of the UTF-8 sequence at `at`, 0 when it is none (overlong forms and surrogates are none).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  auto follows = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(at);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(at + 1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (!follows(at + 1) || !follows(at + 2)) return 0;
    if (first == 0xe0 && byte(at + 1) < 0xa0) return 0;
    if (first == 0xed && byte(at + 1) >= 0xa0) return 0;
    return 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (!follows(at + 1) || !follows(at + 2) || !follows(at + 3)) return 0;
    if (first == 0xf0 && byte(at + 1) < 0x90) return 0;
    if (first == 0xf4 && byte(at + 1) >= 0x90) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

Catalogue::Catalogue() : slots_(slots_at_first, none) {}
Catalogue::~Catalogue() = default;

Result<> Catalogue::check_name(std::string_view name) {
  if (name.empty() || name.size() > stream_name_bytes_max) return fail(Error::invalid_argument);
  for (std::size_t at = 0; at < name.size();) {
    const auto first = static_cast<unsigned char>(name[at]);
    if (first < 0x20 || first == 0x7f) return fail(Error::invalid_argument);
    const std::size_t length = utf8_length(name, at);
    if (length == 0) return fail(Error::invalid_argument);
    at += length;
  }
  return {};
}

std::uint32_t Catalogue::find(StreamId id) const {
  const std::size_t mask = slots_.size() - 1;
  // Ids are hashes already: their low bits spread.
  for (std::size_t slot = id.value & mask;; slot = (slot + 1) & mask) {
    if (slots_[slot] == none) return none;
    if (streams_[slots_[slot]].id == id) return slots_[slot];
  }
}

Result<std::uint32_t> Catalogue::declare(std::string_view name) {
  Result<> checked = check_name(name);
  if (!checked) return fail(checked.error());
  const StreamId id = stream_id_of(name);
  if (id == StreamId{}) return fail(Error::name_collision);
  const std::uint32_t known = find(id);
  if (known != none) {
    if (streams_[known].name.empty()) streams_[known].name = keep_name(name);
    if (streams_[known].name != name) return fail(Error::name_collision);
    return known;
  }
  if (created_ >= streams_max) return fail(Error::too_large);
  if (streams_.size() - created_ >= declared_streams_max) return fail(Error::retry_later);
  return add(id, name);
}

void Catalogue::create(std::uint32_t number) {
  if (streams_[number].created) return;
  streams_[number].created = true;
  ++created_;
}

std::uint32_t Catalogue::put(StreamId id, std::string_view name) {
  std::uint32_t number = find(id);
  if (number == none) number = add(id, name);
  if (streams_[number].name.empty()) streams_[number].name = keep_name(name);
  create(number);
  return number;
}

std::uint32_t Catalogue::put_nameless(StreamId id) {
  const std::uint32_t number = find(id);
  return number == none ? add(id, {}) : number;
}

std::uint32_t Catalogue::add(StreamId id, std::string_view name) {
  if ((streams_.size() + 1) * 2 > slots_.size()) grow();
  const auto number = static_cast<std::uint32_t>(streams_.size());
  Stream stream;
  stream.id = id;
  stream.name = keep_name(name);
  streams_.push_back(stream);
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = id.value & mask;
  while (slots_[slot] != none) slot = (slot + 1) & mask;
  slots_[slot] = number;
  return number;
}

std::string_view Catalogue::keep_name(std::string_view name) {
  if (name.empty()) return {};
  if (chunk_used_ + name.size() > chunk_size_) {
    chunk_size_ = std::max(chunk_bytes, name.size());
    chunks_.push_back(std::make_unique<char[]>(chunk_size_));
    chunk_used_ = 0;
  }
  char* target = chunks_.back().get() + chunk_used_;
  std::memcpy(target, name.data(), name.size());
  chunk_used_ += name.size();
  return {target, name.size()};
}

void Catalogue::grow() {
  std::vector<std::uint32_t> bigger(slots_.size() * 2, none);
  const std::size_t mask = bigger.size() - 1;
  for (std::uint32_t number = 0; number < streams_.size(); ++number) {
    std::size_t slot = streams_[number].id.value & mask;
    while (bigger[slot] != none) slot = (slot + 1) & mask;
    bigger[slot] = number;
  }
  slots_ = std::move(bigger);
}

}  // namespace millrace
