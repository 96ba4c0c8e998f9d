#include "reactor/send_queue.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace millrace {

void SendQueue::append(Bytes copied) {
  if (copied.empty()) return;
  filling_.insert(filling_.end(), copied.begin(), copied.end());
  bytes_ += copied.size();
  if (!empty() && pieces_.back().owned == nullptr) pieces_.back().left += copied.size();
  else pieces_.push_back({nullptr, copied.size()});
}

void SendQueue::append(OwnedSend& owned) {
  MR_ASSERT(!owned.bytes.empty() && owned.done != nullptr);
  bytes_ += owned.bytes.size();
  pieces_.push_back({&owned, owned.bytes.size()});
}

Bytes SendQueue::front() {
  MR_ASSERT(!empty());
  const Piece& piece = pieces_[first_];
  if (piece.owned != nullptr) return piece.owned->bytes.last(piece.left);
  if (leaving_at_ == leaving_.size()) {
    leaving_.clear();
    leaving_at_ = 0;
    std::swap(leaving_, filling_);
  }
  return Bytes(leaving_).subspan(leaving_at_, std::min(piece.left, leaving_.size() - leaving_at_));
}

OwnedSend* SendQueue::consume(std::size_t count) {
  Piece& piece = pieces_[first_];
  MR_ASSERT(!empty() && count <= piece.left && count <= bytes_);
  OwnedSend* owned = piece.owned;
  if (owned == nullptr) leaving_at_ += count;
  MR_ASSERT(leaving_at_ <= leaving_.size());
  piece.left -= count;
  bytes_ -= count;
  if (piece.left > 0) return nullptr;
  pop();
  return owned;
}

OwnedSend* SendQueue::drop_first() {
  MR_ASSERT(!empty());
  OwnedSend* owned = pieces_[first_].owned;
  bytes_ -= pieces_[first_].left;
  pop();
  return owned;
}

void SendQueue::pop() {
  ++first_;
  if (!empty()) {
    if (first_ < 64) return;
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
    return;
  }
  pieces_.clear();
  first_ = 0;
  leaving_at_ = 0;
  leaving_.clear();
  filling_.clear();
  if (leaving_.capacity() > kept_bytes_max) std::vector<std::byte>().swap(leaving_);
  if (filling_.capacity() > kept_bytes_max) std::vector<std::byte>().swap(filling_);
}

}  // namespace millrace
