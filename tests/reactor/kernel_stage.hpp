// Where a script of operations runs: one kernel of the seam with a reactor on it, an empty directory, and a way to let
// time pass. The same script plays on each of them.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reactor/reactor.hpp"
#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

/// Path below the stage's directory -> bytes; folders end with '/' and are empty.
using StageImage = std::map<std::string, std::vector<std::byte>>;

class KernelStage {
 public:
  static constexpr std::size_t buffer_count = 8;
  static constexpr std::size_t buffer_bytes = 1024;

  KernelStage() = default;
  KernelStage(const KernelStage&) = delete;
  KernelStage& operator=(const KernelStage&) = delete;
  virtual ~KernelStage() = default;

  virtual Reactor& reactor() = 0;
  /// What stands before every path of a script.
  virtual std::string directory() const = 0;
  /// Lets the kernel work until `done`; false when that did not happen for ten seconds of its time.
  virtual bool pump(const std::function<bool()>& done) = 0;
  /// Lets so much of the kernel's time pass: what can happen by then has happened.
  virtual void rest(Nanos duration) = 0;
  virtual StageImage image() = 0;
  /// True when a power cut could take bytes of this file: the simulated disk knows; of this machine, what of the file is only in
  /// the page cache (a device's own cache does not show). None where the system does not say (Linux before 6.5).
  virtual std::optional<bool> has_volatile(const std::string& path) = 0;
};

/// A kernel of this machine, in a folder of its own below `TMPDIR` or the current one.
std::unique_ptr<KernelStage> real_stage(const UringMode& mode);
/// The simulated kernel without faults.
std::unique_ptr<KernelStage> sim_stage(std::uint64_t seed);

}  // namespace millrace::test
