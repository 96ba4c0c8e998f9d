// Walks one shard's segments in order, then the tail, and keeps what must continue from one batch to the next.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "tests/sim/checker/parsed_log.hpp"

namespace millrace::checker {

class ShardWalk {
 public:
  ShardWalk(ParsedLog& log, const Options& options, std::uint32_t shard)
      : log_(log), options_(options), shard_(shard) {}

  /// Files of this shard in the order of the log: (path, day, number, bytes).
  void segment(const std::string& path, std::uint32_t day, std::uint32_t number, Bytes bytes, bool last);
  void tail(const std::string& path, Bytes bytes);
  void finish(const std::string& path, std::uint32_t day, Bytes bytes);

 private:
  struct StreamState {
    std::uint64_t next_offset = 0;
    std::uint64_t next_id = 0;
    std::uint32_t id_day = 0;
    bool known = false;  // its next offset is certain
  };
  struct Group {
    std::uint64_t at = 0;
    std::uint64_t length = 0;
    std::uint32_t batches = 0;
    std::uint64_t first_lsn = 0;
    std::uint64_t chain_before = 0;
    std::uint64_t chain_after = 0;
    std::uint64_t epoch = 0;
  };

  bool header(const std::string& path, std::uint32_t day, std::uint32_t number, Bytes bytes);
  std::optional<Group> group_at(Bytes bytes, std::uint64_t at) const;
  bool walk_group(const std::string& path, Bytes bytes, const Group& group);
  bool batch(const std::string& where, Bytes bytes, std::uint64_t position, bool in_tail, std::uint64_t& span);
  void control(const Batch& batch, const std::string& where);
  void data(const Batch& batch, const std::string& where);
  void catalogue(Bytes body, const std::string& where);
  void state_rows(Bytes body);
  void after_end(const std::string& path, Bytes bytes, std::uint64_t end, bool last);
  void broken(const std::string& promise, const std::string& where, const std::string& what);

  ParsedLog& log_;
  const Options& options_;
  std::uint32_t shard_;

  bool begun_ = false;  // a segment header has been read
  bool not_begun_seen_ = false;
  std::uint32_t not_begun_day_ = 0;
  std::uint64_t floor_ = 0;  // where streams created now begin
  bool unsure_ = false;      // a hole lies behind: lsn, chain and offsets are taken from what follows, once
  std::uint64_t id_high_ = 0, id_low_ = 0;
  std::uint64_t log_high_ = 0, log_low_ = 0;
  std::uint64_t end_ = 0;  // end of the last group of the last segment, padded
  std::uint64_t chain_ = 0;
  std::uint64_t next_lsn_ = 1;
  std::uint64_t epoch_ = 0;
  std::uint64_t epoch_batch_ = 0;  // the newest one an epoch batch named
  std::uint32_t day_ = 0;
  std::uint32_t number_ = 0;
  std::int64_t leader_time_ = INT64_MIN;
  std::map<std::uint64_t, StreamState> streams_;
  std::optional<std::uint32_t> sealed_day_;
  std::uint64_t day_batches_ = 0, day_records_ = 0, day_bytes_ = 0;
  struct Seal {
    std::uint64_t next_lsn, chain, length;
    std::uint32_t segment;
    std::uint64_t batches, records, bytes;
  };
  std::map<std::uint32_t, Seal> seals_;
};

}  // namespace millrace::checker
