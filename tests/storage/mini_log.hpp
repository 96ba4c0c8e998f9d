// A small log for tests of reading: it gives batches positions, writes real segments, and tells a ReadView what a log tells it,
// while a plain vector remembers every batch. Durability, days and segments move when the test says so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "reactor/file.hpp"
#include "reactor/random.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace::test {

struct ModelBatch {
  BatchHeader header;
  std::vector<std::byte> bytes;
  SegmentKey segment{};
  std::uint64_t position = 0;
};

struct MiniLogOptions {
  std::size_t ring_bytes = 64 * KiB;
  std::uint32_t batches_max = 1024;
  Day first_day{20000};
  std::uint64_t segment_bytes = 1 * MiB;
};

class MiniLog final : public StreamSource {
 public:
  MiniLog(Reactor& reactor, MiniLogOptions options = {});
  Reactor& reactor() { return reactor_; }

  Task<> open();
  /// The stream's next batch; what is pending goes to the segment first when the group would be too long.
  void append(StreamId stream, std::uint32_t records, std::uint32_t body_bytes);
  void append_control();
  std::size_t pending() const { return group_.size(); }
  /// What is pending becomes durable in the tail only: nothing is written to the segment.
  void flush_to_tail();
  /// What is pending is written as one group and is durable.
  Task<> flush();
  /// Closes the segment and begins the next one, in the next day when `new_day`.
  Task<> roll(bool new_day = false);
  /// Waits until the background task has written every run.
  Task<> settle();

  ReadView& view() { return *view_; }
  const std::vector<ModelBatch>& batches() const { return batches_; }
  Lsn durable() const { return view_->durable(); }
  Offset next_of(StreamId stream) const;
  std::vector<const ModelBatch*> of(StreamId stream) const;
  SegmentKey segment() const { return segment_; }
  Nanos now() const { return time_; }
  void trim(StreamId stream, Offset kept) { kept_[stream] = kept; }

  StreamBounds stream_bounds(StreamId stream) const override;

 private:
  Task<> begin_segment();
  void place(BatchHeader header, Bytes body);

  Reactor& reactor_;
  MiniLogOptions options_;
  std::unique_ptr<ReadView> view_;
  std::vector<ModelBatch> batches_;
  std::map<StreamId, Offset> next_;
  std::map<StreamId, Offset> kept_;
  std::map<std::pair<StreamId, Day>, std::uint64_t> ids_;
  SegmentKey segment_{};
  Id128 segment_id_{};
  bool begun_ = false;
  File file_;
  std::uint64_t group_at_ = 0;    // file offset of the open group
  std::vector<std::byte> group_;  // its batches
  Lsn group_first_{};
  Chain chain_{};
  Chain group_chain_{};
  Nanos time_ = 0;
  Random random_;
};

/// Reads with a fresh reader to the end; each notice's text goes to `notices`.
struct ReadBack {
  std::vector<BatchHeader> headers;
  std::vector<std::byte> bytes;
  std::vector<std::string> notices;
  Result<> ended;
  ReaderStats stats;
};
Task<ReadBack> read_to_end(ReadView& view, ReadRequest request, std::size_t target_bytes);
Task<ReadBack> read_to_end(Reader& reader, std::size_t target_bytes);
/// Takes a chunk apart and adds it.
void take_chunk(ReadBack& back, const ReadChunk& chunk, Bytes target);

/// Empty when exactly these batches were read, byte by byte; else what differs first.
std::string difference(const ReadBack& back, const std::vector<const ModelBatch*>& batches);

}  // namespace millrace::test
