#include "sdk/core/outbox.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

namespace {
constexpr std::size_t compact_pieces = 1024;
}

std::uint64_t Outbox::put_in_place(Bytes bytes) {
  MR_ASSERT(!bytes.empty());
  pieces_.push_back({bytes, {}});
  return queued_ += bytes.size();
}

std::uint64_t Outbox::put_copy(Bytes bytes) {
  MR_ASSERT(!bytes.empty());
  std::vector<std::byte> own(bytes.begin(), bytes.end());
  const Bytes view(own.data(), own.size());
  pieces_.push_back({view, std::move(own)});
  return queued_ += bytes.size();
}

std::size_t Outbox::pieces(std::span<Bytes> target) const {
  const std::size_t count = std::min(target.size(), pieces_.size() - front_);
  for (std::size_t i = 0; i < count; ++i) target[i] = pieces_[front_ + i].bytes;
  if (count > 0) target[0] = target[0].subspan(front_sent_);
  return count;
}

void Outbox::sent(std::size_t count) {
  MR_ASSERT(count <= queued_ - sent_);
  sent_ += count;
  front_sent_ += count;
  while (front_ < pieces_.size() && front_sent_ >= pieces_[front_].bytes.size()) {
    front_sent_ -= pieces_[front_].bytes.size();
    pieces_[front_].own = {};
    front_ += 1;
  }
  if (front_ == pieces_.size()) {
    pieces_.clear();
    front_ = 0;
  } else if (front_ >= compact_pieces && front_ > pieces_.size() / 2) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(front_));
    front_ = 0;
  }
}

void Outbox::clear() {
  pieces_.clear();
  front_ = 0;
  front_sent_ = 0;
  queued_ = 0;
  sent_ = 0;
}

}  // namespace millrace
