// `millrace version` and `millrace help`.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> version_verb();
std::unique_ptr<Verb> help_verb();

}  // namespace millrace::cli
