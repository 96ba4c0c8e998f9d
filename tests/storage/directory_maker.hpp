// Makes a small data directory by hand, from the format's structs alone: two days, the first with two closed segments, index and
// finish, the second open with a little commit in the tail. What verify and the readers of a directory are tried on.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "storage/finish.hpp"
#include "storage/group.hpp"
#include "storage/index_unit.hpp"
#include "storage/segment_header.hpp"

namespace millrace::test {

class DirectoryMaker {
 public:
  explicit DirectoryMaker(std::filesystem::path directory);

  /// Everything; files are written buffered, with nothing behind their content but a block of zeros.
  void make();

  std::filesystem::path file(const std::string& name) const { return directory_ / "shard-00" / name; }
  std::uint64_t data_batches = 0;
  std::uint64_t batches = 0;

 private:
  struct Stream {
    std::string name;
    std::uint64_t next = 0;
    std::uint64_t next_id = 0;
    std::uint64_t day_begin = 0;
  };
  void write_node_meta();
  void begin_segment(Day day, std::uint32_t number);
  void control(BatchKind kind, const std::vector<std::byte>& body);
  void data(std::size_t stream, std::size_t records);
  void add(BatchHeader header, Bytes body);
  void close_group();
  void close_segment(std::size_t zeros);
  void write_tail();
  void seal();
  void write_index_run();
  void write_file(const std::string& name, Bytes bytes);

  const std::filesystem::path directory_;
  std::vector<Stream> streams_{{"alpha"}, {"beta"}};
  SegmentHeader header_;
  std::vector<std::byte> segment_;
  std::vector<std::byte> pending_;
  std::uint32_t pending_batches_ = 0;
  Lsn next_lsn_{1}, group_lsn_{1};
  Chain chain_, group_chain_;
  Nanos time_ = 1'000'000;
  Day day_{};
  std::uint64_t day_batches_ = 0, day_records_ = 0, day_body_bytes_ = 0;

  std::map<StreamId, std::vector<RunEntry>> entries_;
  std::map<StreamId, StreamRun> runs_;
  Nanos first_time_ = 0;
  std::vector<std::byte> index_;
};

}  // namespace millrace::test
