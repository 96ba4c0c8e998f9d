// The state of a log: its streams and producers, a pure function of its batches. What the leader does when it appends and
// what recovery does when it reads goes through the same apply functions, so both come to the same tables.
//
// It also knows what each segment changed: when a segment closes, its rows are given out piece by piece although the tables
// move on (RowCapture): a row is encoded when it is changed again, or when it is asked for, whichever comes first.
// Thread: the shard's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"
#include "storage/catalogue.hpp"
#include "storage/control_batches.hpp"
#include "storage/index_run.hpp"
#include "storage/producers.hpp"
#include "storage/state_rows.hpp"

namespace millrace {

class RowCapture;

/// How many rows a segment changes, at most so far; what captures prepare for.
struct CaptureSizes {
  std::size_t streams = 16;
  std::size_t windows = 16;
  std::size_t producers = 16;
};

class Tables {
 public:
  Tables();
  ~Tables();

  Catalogue& streams() { return streams_; }
  const Catalogue& streams() const { return streams_; }
  Producers& producers() { return producers_; }
  const Producers& producers() const { return producers_; }
  /// Where the log stands.
  const LogRow& log() const { return log_; }

  /// The log's next batch, verified by the caller. Errors: bad_body (a control body that cannot be read), corrupt (it does not
  /// follow).
  Result<> apply(const BatchHeader& header, Bytes body);
  /// The same for a data batch whose stream's number is known: the append path.
  void apply_data(const BatchHeader& header, std::uint32_t stream);
  /// Recovery goes on from here without what came before (it comes as rows, or is lost).
  void set_log(const LogRow& row) { log_ = row; }
  /// What comes next is of this day, or of a later one. One that is not later than the newest batch's changes nothing.
  void begin_day(Day day);

  /// Rows of a state file, of a run, or of a state batch. Call finish_rows() behind the last one. Errors: corrupt.
  Result<> apply_rows(Bytes rows);
  void finish_rows() { producers_.finish_rows(); }
  /// Everything, encoded and sorted: for tests and the state file.
  void write_rows(std::vector<std::byte>& rows) const;
  StreamRow row(const Stream& stream) const;
  /// Rows of the entries numbered [begin, end) that exist, sorted: pieces of a state.
  void write_stream_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const;
  void write_window_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const;
  void write_producer_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const;

  /// The segment that changes rows from now on.
  void begin_segment();
  /// What the segment changed, as of now; begin_segment() must follow before the next apply().
  std::unique_ptr<StateCapture> capture_segment();
  /// Takes the memory of the next capture now, so that closing a segment takes none.
  void prepare_capture();

  std::uint32_t segment_ordinal() const { return ordinal_; }

 private:
  friend class RowCapture;

  Result<> apply_catalogue(const BatchHeader& header, Bytes body);
  Result<> apply_state(Bytes body);
  Result<> apply_epoch(const BatchHeader& header, Bytes body);
  Result<> apply_trim(Bytes body);
  void create_stream(const CatalogueEntry& entry, Day day);
  void touch_stream(std::uint32_t number);
  void touch_window(std::uint32_t number);
  void touch_producer(std::uint32_t number);
  void save_dedupe_rows(ProducerId id, StreamId stream);
  void count(const BatchHeader& header);
  RowCapture* capture_of(std::uint32_t ordinal) const;

  Catalogue streams_;
  Producers producers_;
  LogRow log_;

  std::uint32_t ordinal_ = 1;
  std::vector<std::uint32_t> touched_streams_;
  std::vector<std::uint32_t> touched_windows_;
  std::vector<std::uint32_t> touched_producers_;
  std::vector<RowCapture*> captures_;  // alive, oldest first
  static constexpr std::size_t captures_usual = 8;
  CaptureSizes capture_sizes_;
  std::unique_ptr<RowCapture> next_capture_;
};

}  // namespace millrace
