// The 40 bytes every file of a data directory begins with, and the version rule they carry. Layout: storage/FORMAT.md.
//
// Pure; any thread. A block that does not verify is `corrupt`; one that a newer program wrote is `unsupported_version`,
// and then nothing of it may be touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace millrace {

inline constexpr std::uint16_t storage_version = 1;
inline constexpr std::uint64_t known_incompatible_features = 0;
inline constexpr std::uint64_t known_read_only_features = 0;

enum class OpenFor : std::uint8_t { reading, writing };

struct FileHead {
  std::uint32_t magic = 0;
  std::uint16_t version = storage_version;
  std::uint16_t oldest_reader = storage_version;
  std::uint64_t checksum = 0;  // XXH3-64 of the whole 4096-byte header block with this field zero
  std::uint64_t incompatible_features = 0;
  std::uint64_t read_only_features = 0;  // a writer that does not know one of these refuses
  std::uint64_t compatible_features = 0;
};
static_assert(sizeof(FileHead) == 40 && std::is_trivially_copyable_v<FileHead>);

/// The checksum a header block of 4096 bytes should carry.
std::uint64_t block_checksum(Bytes block);

/// Magic and checksum (corrupt), then the version rule (unsupported_version), then that everything from `used` to the end
/// of the block is zero (corrupt). `block` is 4096 bytes.
Result<> check_block(Bytes block, std::uint32_t magic, std::size_t used, OpenFor purpose);

/// Reads a header struct that begins with a FileHead out of its 4096-byte block.
template <class Header>
Result<Header> read_block(Bytes block, std::uint32_t magic, OpenFor purpose) {
  static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) <= block_bytes);
  if (block.size() < block_bytes) return fail(Error::corrupt);
  Result<> checked = check_block(block.first(block_bytes), magic, sizeof(Header), purpose);
  if (!checked) return fail(checked.error());
  return load<Header>(block);
}

/// Writes a header struct into its block: zeros behind it, checksum last (also into `header.head.checksum`).
template <class Header>
void write_block(Header& header, MutableBytes block) {
  static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) <= block_bytes);
  MR_ASSERT(block.size() >= block_bytes);
  header.head.checksum = 0;
  std::memset(block.data(), 0, block_bytes);
  store(block, 0, header);
  header.head.checksum = block_checksum(block.first(block_bytes));
  store(block, offsetof(FileHead, checksum), header.head.checksum);
}

}  // namespace millrace
