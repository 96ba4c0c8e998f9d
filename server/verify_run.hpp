// `verify` for programs: checks a data directory on the calling thread, to the end, with a kernel of its own. The directory may be
// live, stopped, crashed or copied; nothing is written and no lock is taken.
//
// Thread: any; blocks it.
#pragma once

#include <string>

#include "storage/verify.hpp"

namespace millrace {

Result<VerifyReport> run_verify(const std::string& directory, bool buffered, VerifyVisitor& visitor);

}  // namespace millrace
