// One shard of a data directory, read without owning it: its days and segments, its tables, and a ReadView fed from what is on
// disk, once and again as a live server appends.
//
// Order of looking, so that a live log is never taken for a damaged one: the tail first, then the segment. What the tail said to be
// durable was in the segment, or in the tail, by then.
//
// Thread: the reactor's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "embed/directory_reader.hpp"
#include "reactor/file.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/node_meta.hpp"
#include "storage/read_view.hpp"
#include "storage/recovery.hpp"
#include "storage/segment_scan.hpp"
#include "storage/tables.hpp"
#include "storage/tail_scan.hpp"

namespace millrace {

class ShardDirectory final : public StreamSource, private RecoveryVisitor {
 public:
  /// `options` outlives this.
  ShardDirectory(Reactor& reactor, const DirectoryOptions& options, const NodeSlot& node, const ShardSlot& slot);
  Reactor& reactor() { return reactor_; }

  /// Reads what there is. `diagnosis` gets a sentence when it fails.
  Task<> open(std::string& diagnosis);
  /// Looks again: what came since is readable.
  Task<> refresh();

  ReadView& view() { return *view_; }
  const Tables& tables() const { return *tables_; }
  const DirectoryShard& facts() const { return facts_; }
  /// `next` lies behind the last batch that can be read where records are lost at the stream's end.
  StreamBounds stream_bounds(StreamId stream) const override;
  /// First offset that retention and trims left; looks at the index.
  Task<Offset> first_offset(StreamId stream);

 private:
  void batch(const FoundBatch& found) override;
  void lost_batch(const BatchHeader& header, std::uint64_t position) override;
  void lost(const LostRange& range) override;

  Task<> list();
  Task<SegmentFile> look_at(SegmentKey key);
  Task<> read_tail();
  Task<> replay(std::string& diagnosis);
  Task<bool> indexed(SegmentKey key);
  Task<Verdict> scan(SegmentFile& segment, RecoveryInput input);
  Task<> scan_newest();
  Task<bool> walk_groups();
  void walk_tail();
  Task<bool> next_segment();
  Task<> drop_indexed_days();
  void take_batch(const BatchHeader& header, Bytes body, std::uint64_t position, Bytes whole);

  Reactor& reactor_;
  const DirectoryOptions& options_;
  const NodeSlot node_;
  const ShardSlot slot_;
  const std::string directory_;

  std::unique_ptr<Tables> tables_;
  std::unique_ptr<ReadView> view_;
  DirectoryShard facts_;
  std::vector<SegmentKey> segments_;  // all there are, ascending
  AlignedMemory buffer_;
  AlignedMemory tail_;
  bool feed_view_ = false;
  bool feed_tables_ = false;

  std::map<StreamId, Offset> lost_upto_;  // what headers of lost batches show
  std::optional<SegmentFile> open_;       // the newest begun segment
  LogEnd end_;                            // where its valid groups end
};

}  // namespace millrace
