// Plays one script on the simulated kernel and on one of this machine, and compares what came back and what lies there.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/reactor/kernel_session.hpp"

namespace millrace::test {

struct Outcome {
  std::vector<std::string> transcript;
  StageImage image;
};

using Script = void (*)(KernelSession& session, std::uint64_t seed);

inline Outcome play(KernelStage& stage, Script script, std::uint64_t seed) {
  Outcome outcome;
  {
    KernelSession session(stage);
    script(session, seed);
    outcome.transcript = session.transcript();
  }
  EXPECT_EQ(stage.reactor().in_flight(), 0U);
  outcome.image = stage.image();
  return outcome;
}

/// The first difference, with the lines before it.
inline std::string difference(const Outcome& a, const Outcome& b) {
  std::string text;
  for (std::size_t i = 0; i < std::max(a.transcript.size(), b.transcript.size()); ++i) {
    std::string left = i < a.transcript.size() ? a.transcript[i] : "(ended)";
    std::string right = i < b.transcript.size() ? b.transcript[i] : "(ended)";
    if (left != right) return text + "  sim:    " + left + "\n  kernel: " + right + "\n";
    text += "  both:   " + left + "\n";
  }
  for (const auto& [name, bytes] : a.image) {
    auto found = b.image.find(name);
    if (found == b.image.end()) return text + "  only sim has " + name + "\n";
    if (found->second != bytes)
      return text + "  " + name + " differs: " + std::to_string(bytes.size()) + " and " +
             std::to_string(found->second.size()) + " bytes\n";
  }
  for (const auto& [name, bytes] : b.image)
    if (!a.image.contains(name)) return text + "  only the kernel has " + name + "\n";
  return "";
}

class Differential : public ::testing::TestWithParam<UringMode> {
 protected:
  static void compare(Script script, std::uint64_t seed = 0) {
    auto sim = sim_stage(seed + 1);
    auto real = real_stage(GetParam());
    Outcome expected = play(*sim, script, seed);
    Outcome got = play(*real, script, seed);
    ASSERT_EQ(difference(expected, got), "") << "seed " << seed << " on " << GetParam().name;
    ASSERT_GT(expected.transcript.size(), 3U);
  }
  /// Seeds of a random script: `SEEDS` of them when set.
  static void compare_seeds(Script script, std::uint64_t count) {
    if (const char* wanted = std::getenv("SEEDS")) count = std::strtoull(wanted, nullptr, 10);
    for (std::uint64_t seed = 1; seed <= count && !HasFatalFailure(); ++seed) compare(script, seed);
  }
};

}  // namespace millrace::test
