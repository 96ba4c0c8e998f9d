// `millrace status`: a server's part in the copying of its log: role, epoch, peers, and how far each shard is on whom.
#pragma once

#include <memory>

#include "cli/verb.hpp"

namespace millrace::cli {

std::unique_ptr<Verb> status_verb();

}  // namespace millrace::cli
