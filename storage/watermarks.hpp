// The watermarks of one log, and the only place that moves them.
#pragma once

#include "base/units.hpp"

namespace millrace {

/// Each is "every batch with a smaller lsn": durable <= written <= appended. (The replicated one belongs to the leader's
/// stream and stays below durable.)
struct Watermarks {
  Lsn appended{1};
  Lsn written{1};
  Lsn durable{1};
};

/// Moves watermarks forward only and asserts their order after every move.
class WatermarkKeeper {
 public:
  explicit WatermarkKeeper(Lsn start = Lsn{1}) : marks_{start, start, start} {}

  const Watermarks& marks() const { return marks_; }
  void append(Lsn end);
  /// The device has taken everything below `end`; it may still sit in its cache.
  void write(Lsn end);
  /// Everything below `end` survives a power cut. Returns false when that is no news.
  bool make_durable(Lsn end);

 private:
  void check() const;
  Watermarks marks_;
};

}  // namespace millrace
