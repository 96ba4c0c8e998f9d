#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace millrace {

void assert_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "millrace: assertion failed: %s at %s:%d\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace millrace
