// P24: what an index file says against what the segments hold, derived here independently.
#pragma once

#include "tests/sim/checker/parsed_log.hpp"

namespace millrace::checker {

/// Every valid unit of every index file against the batches of the segments it covers. A torn or damaged end of an index is
/// legal (it is derived anew at the next opening); a valid unit that says something else is a violation.
void check_indexes(const Image& image, const ParsedLog& log, std::vector<Violation>& violations);

}  // namespace millrace::checker
