#include "storage/watermarks.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

void WatermarkKeeper::check() const {
  MR_ASSERT(marks_.durable <= marks_.written);
  MR_ASSERT(marks_.written <= marks_.appended);
}

void WatermarkKeeper::append(Lsn end) {
  MR_ASSERT(end > marks_.appended);
  marks_.appended = end;
  check();
}

void WatermarkKeeper::write(Lsn end) {
  marks_.written = std::max(marks_.written, end);
  check();
}

bool WatermarkKeeper::make_durable(Lsn end) {
  if (end <= marks_.durable) return false;
  write(end);
  marks_.durable = end;
  check();
  return true;
}

}  // namespace millrace
