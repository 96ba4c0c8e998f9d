// Inside verify: the walk over a data directory's files, in order, feeding recovery, the log's check and the index's check.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reactor/file.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/finish.hpp"
#include "storage/node_meta.hpp"
#include "storage/verify.hpp"
#include "storage/verify_index.hpp"
#include "storage/verify_log.hpp"

namespace millrace {

class VerifyWalk {
 public:
  VerifyWalk(Reactor& reactor, std::string directory, VerifyOptions options, VerifyVisitor& visitor);
  Reactor& reactor() { return reactor_; }

  Task<VerifyReport> run();

 private:
  struct Segment {
    SegmentKey key{};
    std::uint64_t file_bytes = 0;
    std::optional<SegmentHeader> header;
    bool begun = false;
  };

  Task<> read_node_meta();
  template <class Slot>
  void note_half_lost(std::uint64_t at, const Result<Slot>& first, const Result<Slot>& second);
  Task<> walk_shard(ShardIndex shard);
  Task<> list_segments();
  Task<> list_newer(std::size_t number);
  Task<Segment> look_at(SegmentKey key);
  Task<> walk_segment(std::size_t number, LogCheck& log);
  Task<RecoveryInput> input_of(std::size_t number);
  Task<Verdict> scan(const Segment& segment, RecoveryInput input, LogCheck& log);
  Task<> read_tail();
  void check_gap(std::size_t number);
  void judge(const Segment& segment, const Verdict& verdict, bool open);

  // What stands beside the log: verify_aside.cpp.
  Task<> look_aside();
  Task<> look_at_state();
  Task<> look_at_pool();
  Task<> look_at_quarantine();
  Task<std::uint64_t> first_not_zero(std::string path);

  Task<> begin_index(Day day);
  Task<> check_run(const CheckedRun& run, bool whole);
  Task<std::optional<UnitHeader>> next_unit();
  void check_unit(const UnitHeader& header, const CheckedRun* run);
  Task<> check_finish(Day day, const LogCheck& log, const Verdict& last, std::uint32_t last_number);

  /// Bytes of a whole file's front, at most `bytes`; less where it ends. Nothing when it is not there.
  Task<std::optional<std::vector<std::byte>>> read_front(std::string path, std::uint64_t bytes);
  Task<File> open_file(std::string path);
  void tell(Damage damage);
  void note_read(const std::string& path, std::uint64_t bytes);
  std::string relative(const std::string& path) const;

  // Constant after construction.
  Reactor& reactor_;
  const std::string directory_;
  const VerifyOptions options_;
  VerifyVisitor& visitor_;

  // Of the node.
  NodeSlot node_;
  ShardSlot meta_;
  std::vector<std::byte> meta_bytes_;
  VerifyReport report_;
  VerifyProgress progress_;
  AlignedMemory buffer_;

  // Of the shard.
  ShardIndex shard_{};
  std::string shard_directory_;
  std::vector<Segment> segments_;
  std::vector<Day> days_;
  std::vector<std::byte> tail_;
  Verdict last_verdict_;

  // Of the day.
  std::optional<File> index_;
  std::string index_path_;
  std::uint64_t index_at_ = 0;
  std::uint64_t index_bytes_ = 0;
  bool index_over_ = false;  // no unit that verifies any more
  bool day_finished_ = false;
  IndexCheck index_check_;
  AlignedMemory unit_;
  std::uint64_t unit_bytes_ = 0;  // of the unit just read
};

}  // namespace millrace
