// `millrace verify`: every hash, chain, index entry and seal of a data directory; exit 1 and the exact place on damage.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> verify_verb();

}  // namespace millrace::cli
