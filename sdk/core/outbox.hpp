// What a connection has still to write, in order: small frames copied, batches in place. The owner of a batch's memory keeps
// it still until sent() has passed its end; positions count the bytes of one connection from 0.
//
// Thread: the owner's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"

namespace millrace {

class Outbox {
 public:
  /// Queues bytes that stay where they are; returns the position of their end.
  std::uint64_t put_in_place(Bytes bytes);
  /// Queues a copy.
  std::uint64_t put_copy(Bytes bytes);

  /// Fills `target` with the next pieces to write and returns how many.
  std::size_t pieces(std::span<Bytes> target) const;
  /// The first `count` bytes of the pieces were written.
  void sent(std::size_t count);
  void clear();

  bool empty() const { return front_ == pieces_.size(); }
  std::uint64_t queued_position() const { return queued_; }
  std::uint64_t sent_position() const { return sent_; }

 private:
  struct Piece {
    Bytes bytes;
    std::vector<std::byte> own;  // empty when the bytes are somebody else's
  };

  std::vector<Piece> pieces_;  // from front_ on; cleared when all is sent, so that a steady flow allocates nothing
  std::size_t front_ = 0;
  std::size_t front_sent_ = 0;  // of the first piece
  std::uint64_t queued_ = 0;
  std::uint64_t sent_ = 0;
};

}  // namespace millrace
