#include "storage/finish.hpp"

namespace millrace {

Result<Finish> read_finish(Bytes block, OpenFor purpose) {
  Result<Finish> read = read_block<Finish>(block, finish_magic, purpose);
  if (read && read->reserved != 0) return fail(Error::corrupt);
  return read;
}

void write_finish(Finish& finish, MutableBytes block) { write_block(finish, block); }

}  // namespace millrace
