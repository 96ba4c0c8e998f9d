// `millrace promote`: a follower takes over from its leader.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> promote_verb();

}  // namespace millrace::cli
