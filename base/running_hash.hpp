// XXH3-64 of bytes that come in pieces. Its state wants 64-byte alignment, which a coroutine's frame does not give (g++ and
// clang align frames to 16), so it lives on the heap: for indexes and state files, not for the way of a commit.
#pragma once

#include <xxhash.h>

#include "base/assert.hpp"
#include "base/bytes.hpp"

namespace millrace {

class RunningHash {
 public:
  RunningHash() : state_(XXH3_createState()) {
    MR_ASSERT(state_ != nullptr);
    reset();
  }
  ~RunningHash() { XXH3_freeState(state_); }
  RunningHash(const RunningHash&) = delete;
  RunningHash& operator=(const RunningHash&) = delete;

  void reset() { XXH3_64bits_reset(state_); }
  void add(Bytes bytes) { XXH3_64bits_update(state_, bytes.data(), bytes.size()); }
  std::uint64_t value() const { return XXH3_64bits_digest(state_); }

 private:
  XXH3_state_t* state_;
};

}  // namespace millrace
