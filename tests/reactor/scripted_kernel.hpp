// A kernel that does nothing by itself: the test says what completes, when, and what time it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <vector>

#include "reactor/kernel.hpp"

namespace millrace::test {

class ScriptedKernel final : public Kernel {
 public:
  void submit(Operation& operation) override { submitted.push_back(&operation); }
  std::size_t poll(std::span<Completion> target, Nanos deadline) override {
    ++polls;
    deadlines.push_back(deadline);
    std::size_t count = std::min(target.size(), completions.size());
    for (std::size_t i = 0; i < count; ++i) {
      target[i] = completions.front();
      completions.pop_front();
    }
    // Waiting costs no time here: the clock jumps to the deadline when there is nothing to report.
    if (count == 0 && deadline != wait_forever && deadline > time) time = deadline;
    return count;
  }
  Nanos now() override { return time; }
  Nanos wall_now() override { return wall; }
  void wake() override { ++wakes; }
  std::uint64_t seed() override { return ++seeds; }
  std::size_t register_memory(MutableBytes memory) override { return memory.size() / 2; }
  Result<> provide_buffers(std::size_t, std::size_t) override { return {}; }
  void recycle(const ProvidedBuffer& buffer) override { recycled.push_back(buffer.id); }
  const KernelFeatures& features() const override { return features_; }

  void complete(Operation& operation, std::int32_t result, bool more = false, ProvidedBuffer buffer = {}) {
    completions.push_back(Completion{&operation, result, buffer, more});
  }

  Nanos time = 1'000;
  Nanos wall = 5'000;
  int polls = 0;
  int wakes = 0;
  std::uint64_t seeds = 0;
  std::vector<Operation*> submitted;
  std::deque<Completion> completions;
  std::vector<Nanos> deadlines;
  std::vector<std::int32_t> recycled;

 private:
  KernelFeatures features_;
};

}  // namespace millrace::test
