// The seam. Everything Millrace learns from or does to the outside world goes through this interface: no clock, no
// randomness and no system call stands beside it, so that the simulator runs the shipped code. Implementations:
// reactor/uring_kernel (io_uring), reactor/posix_kernel (epoll and file threads) and tests/sim/sim_kernel (memory and
// faults); reactor/kernel_choice makes the one a machine allows.
//
// Threads: one Kernel belongs to one Reactor on one thread; only wake() may be called from elsewhere.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "reactor/operation.hpp"

namespace millrace {

/// poll() with this deadline waits until something happens.
inline constexpr Nanos wait_forever = std::numeric_limits<Nanos>::max();
/// poll() with this deadline never waits.
inline constexpr Nanos wait_never = 0;

/// What this kernel gives; shown in the start line and in `stat`.
struct KernelFeatures {
  std::string name;                  // "io_uring", "posix", "sim"
  std::vector<std::string> used;     // features in use, by their io_uring names
  std::vector<std::string> missing;  // each "feature: what is done instead (ERRNO: cause; cure)"
  std::size_t registered_bytes = 0;
};

class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  /// Queues the request, or hands it on at once (io_uring: durable writes). Never fails, never completes inside the call: what
  /// cannot be done comes back as a Completion.
  virtual void submit(Operation& operation) = 0;

  /// Hands everything queued to the system, then reaps into `target`. Waits until `deadline` (on the now() clock) only
  /// if nothing is ready; a signal or a stop of the process ends the wait early. Returns how many completions were stored;
  /// call again while it fills `target`.
  virtual std::size_t poll(std::span<Completion> target, Nanos deadline) = 0;

  /// Monotonic time in ns. Reactor asks once a turn; nobody else does.
  virtual Nanos now() = 0;
  /// Wall time in ns since 1970. May jump either way.
  virtual Nanos wall_now() = 0;

  /// Makes a waiting poll() return soon; a poll() that is not waiting will not wait the next time. Any thread.
  virtual void wake() = 0;

  /// Random bits that seed every generator above the seam. Each call gives other bits.
  virtual std::uint64_t seed() = 0;

  /// Tells the kernel of memory that will be read into and written from many times (registered buffers). Operations that
  /// lie inside use it by themselves. Returns how many bytes from the front are registered (memlock may allow fewer).
  virtual std::size_t register_memory(MutableBytes memory) = 0;

  /// Gives memory that `provided` receives fill. `bytes_each` is a power of two. Called once, before the first receive.
  virtual Result<> provide_buffers(std::size_t count, std::size_t bytes_each) = 0;
  /// Gives a ProvidedBuffer back. Its bytes may change at once.
  virtual void recycle(const ProvidedBuffer& buffer) = 0;

  virtual const KernelFeatures& features() const = 0;
};

}  // namespace millrace
