// Byte credit between a sender and a receiver. Grants are absolute and cumulative: a lost or repeated one does no harm.
// One pair of these serves appends (sdk: CreditUse, server: CreditGrant) and, the other way round, each read.
//
// Pure values; any thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "protocol/frame.hpp"

namespace millrace {

/// Bytes of appends a connection may have sent beyond those answered; at least one largest frame, so that a sender with
/// nothing in flight can always send.
inline constexpr std::uint64_t append_window_bytes = 9 * MiB;
static_assert(append_window_bytes >= frame_bytes_max);

/// Bytes a read may be ahead of what its reader took.
inline constexpr std::uint64_t read_credit_bytes_max = 16 * MiB;

/// What an append costs: its bytes on the wire. `body_bytes` = batch header and batch body.
constexpr std::uint64_t append_cost(std::size_t body_bytes) { return frame_span(body_bytes); }

/// The sender's side.
class CreditUse {
 public:
  CreditUse() = default;
  explicit CreditUse(std::uint64_t granted) : granted_(granted) {}

  /// A grant heard; smaller ones than before are ignored.
  void raise(std::uint64_t granted) { granted_ = std::max(granted_, granted); }
  bool allows(std::uint64_t cost) const { return cost <= left(); }
  void spend(std::uint64_t cost) { used_ += cost; }
  std::uint64_t left() const { return granted_ > used_ ? granted_ - used_ : 0; }
  std::uint64_t granted() const { return granted_; }
  std::uint64_t used() const { return used_; }

 private:
  std::uint64_t granted_ = 0;
  std::uint64_t used_ = 0;
};

/// The receiver's side: grants what was answered plus a window.
class CreditGrant {
 public:
  explicit CreditGrant(std::uint64_t window) : window_(window), announced_(window) {}

  /// An arrival; false = it passes what was announced (over_credit).
  bool take(std::uint64_t cost) {
    taken_ += cost;
    return taken_ <= announced_;
  }
  void answer(std::uint64_t cost) { answered_ += cost; }
  /// The grant to put into the next frame; remembers it as announced.
  std::uint64_t announce() { return announced_ = answered_ + window_; }
  std::uint64_t in_flight() const { return taken_ - answered_; }
  std::uint64_t window() const { return window_; }

 private:
  std::uint64_t window_;
  std::uint64_t announced_;
  std::uint64_t taken_ = 0;
  std::uint64_t answered_ = 0;
};

}  // namespace millrace
