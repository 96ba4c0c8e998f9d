// Deliberate bugs, to prove that the simulator finds such bugs. What is compiled with MILLRACE_MUTANTS has all of them and
// runs with at most one, chosen by name (`./mutants` goes through those in tests/sim/mutants.txt); that is
// millrace-sim-mutants alone. Elsewhere a build has at most one, by the build option `mutant` (`./mutants --kernels`); without
// it the condition is false at compile time and nothing of it is left:
//
//     if (mutant("ack_before_dsync")) committed(group);  // one line, at the place where the bug would be
#pragma once

#include <string_view>

#include "base/mutant_name.h"  // generated; only what includes this header is compiled again for another mutant

namespace millrace {

#ifdef MILLRACE_MUTANTS
/// The bug of this process; set before anything else runs.
inline std::string_view mutant_of_this_process;
/// True in a process that has this mutant. `name` stands in tests/sim/mutants.txt; the style tests compare.
inline bool mutant(std::string_view name) { return name == mutant_of_this_process; }
#else
consteval bool mutant(std::string_view name) { return name == MILLRACE_MUTANT; }
#endif

}  // namespace millrace
