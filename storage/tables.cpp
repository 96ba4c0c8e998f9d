#include "storage/tables.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace millrace {

/// The rows of one closed segment; leaves the list of its tables when it goes.
class RowCapture final : public StateCapture {
 public:
  /// Takes its memory: as much as the segments before needed.
  explicit RowCapture(const CaptureSizes& sizes) {
    streams_.reserve(sizes.streams);
    windows_.reserve(sizes.windows);
    producers_.reserve(sizes.producers);
    saved_.reserve(std::min(saved_reserve_max, block_bytes + (sizes.streams + sizes.producers) * row_bytes_usual +
                                                   sizes.windows * window_row_bytes_max));
  }
  /// What the tables were told of the segment is this one's; its own empty memory takes the next segment's.
  void begin(Tables& tables, std::uint32_t ordinal) {
    tables_ = &tables;
    ordinal_ = ordinal;
    write_row(saved_, tables.log_);
    streams_.swap(tables.touched_streams_);
    windows_.swap(tables.touched_windows_);
    producers_.swap(tables.touched_producers_);
  }
  ~RowCapture() override {
    if (tables_ != nullptr) std::erase(tables_->captures_, this);
  }
  bool take_rows(std::vector<std::byte>& rows, std::size_t budget) override;

  /// The tables go: what was not taken is encoded now.
  void detach() {
    encode(saved_, SIZE_MAX);
    tables_ = nullptr;
  }
  std::vector<std::byte>& saved() { return saved_; }
  std::uint32_t ordinal() const { return ordinal_; }

 private:
  // Encodes rows that were not changed since, until `budget` bytes; false when none are left.
  bool encode(std::vector<std::byte>& rows, std::size_t budget);
  template <class Row>
  bool take(Row& row) {
    if (row.touched != ordinal_ || row.saved) return false;
    row.saved = true;
    return true;
  }

  static constexpr std::size_t row_bytes_usual = 128;
  static constexpr std::size_t window_row_bytes_max = 1100;
  static constexpr std::size_t saved_reserve_max = 4 * MiB;

  Tables* tables_ = nullptr;
  std::uint32_t ordinal_ = 0;
  std::vector<std::byte> saved_;
  std::size_t saved_taken_ = 0;
  std::vector<std::uint32_t> streams_;
  std::vector<std::uint32_t> windows_;
  std::vector<std::uint32_t> producers_;
};

bool RowCapture::encode(std::vector<std::byte>& rows, std::size_t budget) {
  const std::size_t end = budget > SIZE_MAX - rows.size() ? SIZE_MAX : rows.size() + budget;
  while (!streams_.empty() || !windows_.empty() || !producers_.empty()) {
    if (rows.size() >= end) return true;
    if (!streams_.empty()) {
      Stream& stream = tables_->streams_.at(streams_.back());
      streams_.pop_back();
      if (take(stream) && stream.exists()) write_row(rows, tables_->row(stream));
    } else if (!windows_.empty()) {
      Window& window = tables_->producers_.windows()[windows_.back()];
      windows_.pop_back();
      if (take(window)) write_row(rows, tables_->producers_.row(window));
    } else {
      KnownProducer& producer = tables_->producers_.producers()[producers_.back()];
      producers_.pop_back();
      if (take(producer)) write_row(rows, ProducerRow{producer.id, producer.epoch, producer.last_lsn});
    }
  }
  return false;
}

bool RowCapture::take_rows(std::vector<std::byte>& rows, std::size_t budget) {
  const std::size_t begin = rows.size();
  if (tables_ != nullptr && encode(rows, budget)) return true;
  // Rows changed again in the meantime were saved with the value they had. Whole rows leave, about a budget at a time.
  while (saved_taken_ < saved_.size() && rows.size() - begin < budget) {
    const std::size_t length = 8 + load<std::uint32_t>(saved_, saved_taken_ + 4);
    const auto* from = saved_.data() + saved_taken_;
    rows.insert(rows.end(), from, from + length);
    saved_taken_ += length;
  }
  return saved_taken_ < saved_.size();
}

Tables::Tables() { log_.next_lsn = Lsn{1}; }

Tables::~Tables() {
  for (RowCapture* capture : captures_) capture->detach();
}

RowCapture* Tables::capture_of(std::uint32_t ordinal) const {
  for (RowCapture* capture : captures_)
    if (capture->ordinal() == ordinal) return capture;
  return nullptr;
}

StreamRow Tables::row(const Stream& stream) const {
  return {stream.id, stream.next_offset, stream.next_id, stream.day, stream.first_kept, stream.begin, stream.name};
}

// Before a row changes: whoever still waits for its old value gets it, and the open segment notes it.
void Tables::touch_stream(std::uint32_t number) {
  Stream& stream = streams_.at(number);
  if (stream.touched == ordinal_) return;
  if (!stream.saved && stream.exists() && !captures_.empty())
    if (RowCapture* capture = capture_of(stream.touched)) write_row(capture->saved(), row(stream));
  stream.touched = ordinal_;
  stream.saved = false;
  touched_streams_.push_back(number);
}

void Tables::touch_window(std::uint32_t number) {
  Window& window = producers_.windows()[number];
  if (window.touched == ordinal_) return;
  window.touched = ordinal_;
  window.saved = false;
  touched_windows_.push_back(number);
}

void Tables::touch_producer(std::uint32_t number) {
  KnownProducer& producer = producers_.producers()[number];
  if (producer.touched == ordinal_) return;
  producer.touched = ordinal_;
  producer.saved = false;
  touched_producers_.push_back(number);
}

// The same before it changes: stored() and set_epoch() change rows in one step.
void Tables::save_dedupe_rows(ProducerId id, StreamId stream) {
  if (captures_.empty()) return;
  const std::uint32_t producer_number = producers_.find(id);
  if (producer_number == Producers::none) return;
  KnownProducer& producer = producers_.producers()[producer_number];
  if (producer.touched != ordinal_ && !producer.saved) {
    if (RowCapture* capture = capture_of(producer.touched))
      write_row(capture->saved(), ProducerRow{producer.id, producer.epoch, producer.last_lsn});
    producer.saved = true;
  }
  const std::uint32_t window_number = producers_.find(id, stream);
  if (window_number == Producers::none) return;
  Window& window = producers_.windows()[window_number];
  if (window.touched != ordinal_ && !window.saved) {
    if (RowCapture* capture = capture_of(window.touched)) write_row(capture->saved(), producers_.row(window));
    window.saved = true;
  }
}

void Tables::begin_day(Day day) {
  if (day <= log_.day) return;
  log_.day = day;
  log_.day_batches = log_.day_records = log_.day_body_bytes = 0;
}

void Tables::count(const BatchHeader& header) {
  MR_ASSERT(header.lsn == log_.next_lsn.value && header.leader_time >= log_.last_leader_time);
  MR_ASSERT(header.day >= log_.day.value);
  begin_day(Day{header.day});
  log_.next_lsn = log_.next_lsn.next();
  log_.chain = Chain{header.chain};
  log_.last_leader_time = header.leader_time;
  if (header.kind == BatchKind::seal) return;
  ++log_.day_batches;
  log_.day_records += header.record_count;
  log_.day_body_bytes += header.body_bytes;
}

void Tables::apply_data(const BatchHeader& header, std::uint32_t number) {
  touch_stream(number);
  Stream& stream = streams_.at(number);
  if (!stream.name.empty()) streams_.create(number);
  stream.next_offset = Offset{header.first_offset + header.record_count};
  stream.next_id = RecordId{header.first_id + header.record_count};
  stream.day = Day{header.day};
  count(header);
  if (header.producer_id == 0) return;
  const ProducerId producer{header.producer_id};
  save_dedupe_rows(producer, stream.id);
  const WindowBatch batch{Offset{header.first_offset}, Lsn{header.lsn}};
  touch_window(producers_.stored(producer, header.producer_epoch, stream.id, header.producer_sequence, batch));
  touch_producer(producers_.find(producer));
}

Result<> Tables::apply(const BatchHeader& header, Bytes body) {
  if (header.lsn != log_.next_lsn.value || header.leader_time < log_.last_leader_time || header.day < log_.day.value)
    return fail(Error::corrupt);
  Result<> applied;
  switch (header.kind) {
    case BatchKind::data: {
      const std::uint32_t number = streams_.put_nameless(StreamId{header.stream_id});
      apply_data(header, number);
      return {};
    }
    case BatchKind::catalogue: applied = apply_catalogue(header, body); break;
    case BatchKind::state: applied = apply_state(body); break;
    case BatchKind::epoch: applied = apply_epoch(header, body); break;
    case BatchKind::seal: break;
    case BatchKind::trim: applied = apply_trim(body); break;
  }
  if (!applied) return applied;
  count(header);
  return {};
}

Result<> Tables::apply_catalogue(const BatchHeader& header, Bytes body) {
  CatalogueReader reader(body);
  for (CatalogueEntry entry;;) {
    Result<bool> more = reader.next(entry);
    if (!more) return fail(more.error());
    if (!*more) return {};
    if (entry.tag == CatalogueTag::stream) {
      create_stream(entry, Day{header.day});
    } else {
      save_dedupe_rows(entry.producer_id, StreamId{});
      touch_producer(producers_.set_epoch(entry.producer_id, entry.producer_epoch, Lsn{header.lsn}));
    }
  }
}

// Where it begins: behind what may have been acknowledged and is lost together with an earlier creation of it.
void Tables::create_stream(const CatalogueEntry& entry, Day day) {
  const std::uint32_t known = streams_.find(entry.stream_id);
  const bool begins = known == Catalogue::none || !streams_.at(known).exists();
  const std::uint32_t number = streams_.put(entry.stream_id, entry.name);
  touch_stream(number);
  if (!begins || log_.offset_floor == Offset{}) return;
  Stream& stream = streams_.at(number);
  stream.begin = stream.next_offset = log_.offset_floor;
  stream.next_id = RecordId{log_.offset_floor.value};
  stream.day = day;
}

Result<> Tables::apply_state(Bytes body) {
  Result<StatePiece> piece = read_state_piece(body);
  if (!piece) return fail(piece.error());
  // The rows say what the tables are already, unless the log begins here.
  return apply_rows(piece->rows);
}

Result<> Tables::apply_epoch(const BatchHeader& header, Bytes body) {
  Result<EpochBody> epoch = read_epoch_body(body);
  if (!epoch) return fail(epoch.error());
  log_.epoch = std::max(log_.epoch, epoch->epoch);
  if (epoch->offset_bump == 0) return {};
  log_.offset_floor = log_.offset_floor.next(epoch->offset_bump);
  for (std::uint32_t number = 0; number < streams_.size(); ++number) {
    if (!streams_.at(number).exists()) continue;
    touch_stream(number);
    Stream& stream = streams_.at(number);
    stream.next_offset = stream.next_offset.next(epoch->offset_bump);
    // What is lost may have been of this day, of which the stream holds nothing else.
    if (stream.day != Day{header.day}) stream.next_id = {};
    stream.day = Day{header.day};
    stream.next_id = stream.next_id.next(epoch->offset_bump);
  }
  return {};
}

Result<> Tables::apply_trim(Bytes body) {
  Result<TrimBody> trim = read_trim_body(body);
  if (!trim) return fail(trim.error());
  const std::uint32_t number = streams_.find(trim->stream_id);
  if (number == Catalogue::none) return {};
  touch_stream(number);
  Stream& stream = streams_.at(number);
  stream.first_kept = std::max(stream.first_kept, trim->first_kept);
  return {};
}

Result<> Tables::apply_rows(Bytes rows) {
  StateRowReader reader(rows);
  for (StateRow row;;) {
    Result<bool> more = reader.next(row);
    if (!more) return fail(more.error());
    if (!*more) return {};
    switch (row.key.tag) {
      case StateTag::stream: {
        const std::uint32_t number = row.stream.name.empty() ? streams_.put_nameless(row.stream.id)
                                                             : streams_.put(row.stream.id, row.stream.name);
        touch_stream(number);
        Stream& stream = streams_.at(number);
        stream.next_offset = row.stream.next_offset;
        stream.next_id = row.stream.next_id;
        stream.day = row.stream.day;
        stream.first_kept = row.stream.first_kept;
        stream.begin = row.stream.begin;
        break;
      }
      case StateTag::window:
        save_dedupe_rows(row.window.producer_id, row.window.stream_id);
        touch_window(producers_.put(row.window));
        break;
      case StateTag::producer:
        save_dedupe_rows(row.producer.id, StreamId{});
        touch_producer(producers_.put(row.producer));
        break;
      case StateTag::log:
        // Only the log itself says where it stands; not what was lost in a part of it that is no longer here.
        log_.offset_floor = std::max(log_.offset_floor, row.log.offset_floor);
        break;
    }
  }
}

void Tables::write_stream_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const {
  std::vector<const Stream*> streams;
  for (std::size_t number = begin; number < end; ++number) {
    const Stream& stream = streams_.at(static_cast<std::uint32_t>(number));
    if (stream.exists()) streams.push_back(&stream);
  }
  std::sort(streams.begin(), streams.end(), [](auto* a, auto* b) { return a->id < b->id; });
  for (const Stream* stream : streams) write_row(rows, row(*stream));
}

void Tables::write_window_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const {
  producers_.write_window_rows(rows, begin, end);
}

void Tables::write_producer_rows(std::vector<std::byte>& rows, std::size_t begin, std::size_t end) const {
  producers_.write_producer_rows(rows, begin, end);
}

void Tables::write_rows(std::vector<std::byte>& rows) const {
  write_stream_rows(rows, 0, streams_.size());
  write_window_rows(rows, 0, producers_.windows().size());
  write_producer_rows(rows, 0, producers_.producers().size());
  write_row(rows, log_);
}

void Tables::begin_segment() {
  ++ordinal_;
  touched_streams_.clear();
  touched_windows_.clear();
  touched_producers_.clear();
}

std::unique_ptr<StateCapture> Tables::capture_segment() {
  prepare_capture();
  capture_sizes_ = {std::max(capture_sizes_.streams, touched_streams_.size()),
                    std::max(capture_sizes_.windows, touched_windows_.size()),
                    std::max(capture_sizes_.producers, touched_producers_.size())};
  next_capture_->begin(*this, ordinal_);
  captures_.push_back(next_capture_.get());
  return std::move(next_capture_);
}

void Tables::prepare_capture() {
  if (!next_capture_) next_capture_ = std::make_unique<RowCapture>(capture_sizes_);
  captures_.reserve(captures_usual);
}

}  // namespace millrace
