// `millrace serve`: the server, until SIGTERM or SIGINT.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> serve_verb();

}  // namespace millrace::cli
