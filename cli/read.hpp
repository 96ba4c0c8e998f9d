// `millrace read`: the records of one stream, from a server or straight from a data directory.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> read_verb();

}  // namespace millrace::cli
