// A closed or open segment's file read through recovery: the one loop of read and feed that whoever derives something from a
// segment uses.
//
// Thread: the shard's.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "reactor/file.hpp"
#include "reactor/task.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/place.hpp"
#include "storage/recovery.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

/// Feeds `file` to recovery as `input` says; file_bytes are set. `buffer` takes one read. Errors: io_failed and its like, and
/// what the verdict refuses with. `progress` may be empty.
using ScanProgress = std::function<void(std::string_view step, std::uint64_t done, std::uint64_t total)>;
Task<Verdict> scan_segment(File& file, std::uint64_t file_bytes, RecoveryInput input, RecoveryVisitor& visitor,
                           MutableBytes buffer, ScanProgress progress = {});

/// A segment's file by its place, open for reading, with its header when it was begun.
struct SegmentFile {
  SegmentKey key{};
  File file;
  std::uint64_t file_bytes = 0;
  std::optional<SegmentHeader> header;
};
/// Errors: not_found, unsupported_version, io_failed. `buffer` takes a block.
Task<SegmentFile> open_segment_file(Reactor& reactor, std::string path, SegmentKey key, bool buffered,
                                    MutableBytes buffer);

}  // namespace millrace
