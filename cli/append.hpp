// `millrace append`: records from a file or from standard input, committed to one stream.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> append_verb();

}  // namespace millrace::cli
