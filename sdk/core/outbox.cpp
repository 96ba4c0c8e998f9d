#include "sdk/core/outbox.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

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
  std::size_t count = 0;
  for (auto piece = pieces_.begin(); piece != pieces_.end() && count < target.size(); ++piece, ++count)
    target[count] = count == 0 ? piece->bytes.subspan(front_sent_) : piece->bytes;
  return count;
}

void Outbox::sent(std::size_t count) {
  MR_ASSERT(count <= queued_ - sent_);
  sent_ += count;
  front_sent_ += count;
  while (!pieces_.empty() && front_sent_ >= pieces_.front().bytes.size()) {
    front_sent_ -= pieces_.front().bytes.size();
    pieces_.pop_front();
  }
}

void Outbox::clear() {
  pieces_.clear();
  front_sent_ = 0;
  queued_ = 0;
  sent_ = 0;
}

}  // namespace millrace
