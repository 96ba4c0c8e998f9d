// `verify` for programs: checks a data directory, or compares it with a node that holds the same log, on the calling thread, to
// the end, with a kernel of its own. The directory may be live, stopped, crashed or copied; nothing is written and no lock is taken.
//
// Thread: any; blocks it.
#pragma once

#include <string>

#include "replica/compare.hpp"
#include "storage/verify.hpp"

namespace millrace {

Result<VerifyReport> run_verify(const std::string& directory, bool buffered, VerifyVisitor& visitor);
/// On an error `complaint` is one sentence naming cause and cure.
Result<CompareReport> run_compare(const std::string& directory, const CompareOptions& options, CompareVisitor& visitor,
                                  std::string& complaint);

}  // namespace millrace
