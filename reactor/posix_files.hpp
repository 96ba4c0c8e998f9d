// File operations of the posix kernel as plain blocking system calls, for its helper threads.
#pragma once

#include <cstdint>

#include "reactor/operation.hpp"

namespace millrace {

/// True for the operations run_file_operation() carries out: everything but sockets' traffic and cancel.
bool is_file_operation(const Operation& operation);
/// Blocks until done; a result as in a Completion. Any thread.
std::int32_t run_file_operation(Operation& operation);

}  // namespace millrace
