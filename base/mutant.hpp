// Deliberate bugs, to prove that the simulator finds such bugs. A build has at most one of them, chosen by the build option
// `mutant` (`./mutants` goes through all in tests/sim/mutants.txt); in every other build the condition is false at compile
// time and nothing of it is left:
//
//     if constexpr (mutant("ack_before_dsync")) committed(group);  // one line, at the place where the bug would be
#pragma once

#include <string_view>

#include "base/mutant_name.h"  // generated; only what includes this header is compiled again for another mutant

namespace millrace {

/// True in the build of this one mutant. `name` stands in tests/sim/mutants.txt; the style tests compare.
consteval bool mutant(std::string_view name) { return name == MILLRACE_MUTANT; }

}  // namespace millrace
