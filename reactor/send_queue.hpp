// Bytes on their way out of one connection, in order: copied ones, merged into as few pieces as possible, and memory
// that belongs to somebody else.
#pragma once

#include <cstddef>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

/// Somebody's bytes, left alone by their owner until `done` is called.
struct OwnedSend {
  Bytes bytes;
  void (*done)(OwnedSend& self, Result<> result) = nullptr;
  void* context = nullptr;
};

class SendQueue {
 public:
  /// Memory an empty queue keeps; more is given back when it drains.
  static constexpr std::size_t kept_bytes_max = 64 * KiB;

  bool empty() const { return first_ == pieces_.size(); }
  /// Not sent yet.
  std::size_t bytes() const { return bytes_; }

  void append(Bytes copied);
  void append(OwnedSend& owned);
  /// The bytes to send now; they stay where they are until consume().
  Bytes front();
  /// The first `count` bytes of front() have left. Returns the owner whose last byte was among them, or nullptr.
  OwnedSend* consume(std::size_t count);
  /// Forgets the first piece; returns its owner, if it has one. For a queue that will not be sent.
  OwnedSend* drop_first();

 private:
  struct Piece {
    OwnedSend* owned;  // nullptr = copied
    std::size_t left;  // bytes not sent
  };
  void pop();

  std::vector<Piece> pieces_;  // those before first_ are done
  std::size_t first_ = 0;
  std::size_t bytes_ = 0;
  std::vector<std::byte> filling_;  // copied bytes, appended at the end
  std::vector<std::byte> leaving_;  // copied bytes that front() points into; sent up to leaving_at_
  std::size_t leaving_at_ = 0;
};

}  // namespace millrace
