// `millrace stat`: streams, offsets, days, segments, watermarks and shards, of a server or of a data directory.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> stat_verb();

}  // namespace millrace::cli
