#include "storage/file_head.hpp"

#include "base/hash.hpp"

namespace millrace {

std::uint64_t block_checksum(Bytes block) {
  MR_ASSERT(block.size() == block_bytes);
  std::byte copy[block_bytes];
  std::memcpy(copy, block.data(), block_bytes);
  std::memset(copy + offsetof(FileHead, checksum), 0, sizeof(FileHead::checksum));
  return hash64(as_bytes(copy, block_bytes));
}

Result<> check_block(Bytes block, std::uint32_t magic, std::size_t used, OpenFor purpose) {
  MR_ASSERT(block.size() == block_bytes && used <= block_bytes);
  auto head = load<FileHead>(block);
  // The head keeps its place and meaning in every version, so the checksum is asked before the version is believed.
  if (head.magic != magic || head.checksum != block_checksum(block)) return fail(Error::corrupt);
  if (head.oldest_reader > storage_version) return fail(Error::unsupported_version);
  if ((head.incompatible_features & ~known_incompatible_features) != 0) return fail(Error::unsupported_version);
  if (purpose == OpenFor::writing) {
    if (head.version > storage_version) return fail(Error::unsupported_version);
    if ((head.read_only_features & ~known_read_only_features) != 0) return fail(Error::unsupported_version);
  }
  // A newer version that still lets us read may use bytes that are reserved today.
  if (head.version <= storage_version && !all_zero(block.subspan(used))) return fail(Error::corrupt);
  return {};
}

}  // namespace millrace
