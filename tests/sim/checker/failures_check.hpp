// What the server does after a write of its own failed, from what its clients were told (P19, P22).
//
// P19: a batch handed over after a failed commit write is acknowledged only from a newer epoch, which only an opening takes; after a
// second failure in the same life within 60 s nothing is acknowledged any more.
// P22: want of space alone closes no shard, and nothing is refused for it once there has been room for a while.
#pragma once

#include <functional>

#include "tests/sim/checker/checker.hpp"
#include "tests/sim/checker/parsed_log.hpp"

namespace millrace::checker {

using BrokenReport = std::function<void(const std::string& promise, const std::string& where, const std::string& what)>;

/// Counts in `report` what it judged.
void check_after_failures(const History& history, const ParsedLog& log, Report& report, const BrokenReport& broken);

}  // namespace millrace::checker
