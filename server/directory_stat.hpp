// What `stat` shows of a data directory without asking a server: the same JSON as a server's stat as far as the bytes tell. The
// directory may be live, stopped or a copy; nothing is written and no lock is taken.
//
// Thread: any; blocks it.
#pragma once

#include <expected>
#include <string>

namespace millrace {

/// JSON, or one sentence that says why there is none.
std::expected<std::string, std::string> directory_stat(const std::string& directory, bool buffered);

}  // namespace millrace
