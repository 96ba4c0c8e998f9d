// Reads back what a load was acknowledged for and compares it record by record.
#pragma once

#include <cstdint>
#include <string>

#include "bench/load/load.hpp"

namespace millrace::load {

struct Verdict {
  std::uint64_t records = 0;  // there, whole, at the offset acknowledged
  std::uint64_t wrong = 0;    // missing, damaged, elsewhere, or twice
  std::string first_wrong;
};

Verdict verify(Client& client, const Options& options, const Load& load, std::uint64_t run);

}  // namespace millrace::load
