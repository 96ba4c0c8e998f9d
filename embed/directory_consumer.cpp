#include "embed/directory_consumer.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "embed/directory_reader.hpp"
#include "protocol/batch.hpp"
#include "protocol/requests.hpp"
#include "reactor/posix_kernel.hpp"
#include "sdk/record_walk.hpp"

namespace millrace {

namespace {

constexpr std::size_t chunk_bytes = 1 * MiB;

Seek seek_of(const Place& place) {
  switch (place.kind) {
    case Place::Kind::earliest: return Seek::earliest();
    case Place::Kind::latest: return Seek::latest();
    case Place::Kind::offset: return Seek::at_offset(Offset{place.offset});
    case Place::Kind::time: return Seek::at_time(place.time);
    case Place::Kind::day: return Seek::at_id(Day{place.day}, RecordId{place.id});
  }
  return {};
}

}  // namespace

struct DirectoryConsumer::Impl {
  explicit Impl(const ConsumerOptions& consumer_options) : options(consumer_options), reactor(kernel), walk(options) {}

  const ConsumerOptions options;
  PosixKernel kernel;
  Reactor reactor;
  std::unique_ptr<DirectoryReader> directory;
  std::unique_ptr<Reader> reader;
  std::optional<std::uint64_t> stop_at;  // the end as it was at the beginning

  std::vector<std::byte> memory = std::vector<std::byte>(chunk_bytes);
  std::optional<Result<ReadChunk>> chunk;  // of the read under way, once it is there
  bool reading = false;

  RecordWalk walk;
  std::deque<ReadEventCore> events;
  bool ended = false;
  ReadResult result;

  static Task<> open(Reactor& reactor, DirectoryOptions options, std::string& diagnosis,
                     std::optional<Result<std::unique_ptr<DirectoryReader>>>& outcome);
  static Task<> read(Reactor& reactor, Impl& self);
  std::optional<Problem> begin(const std::string& path, bool buffered);
  void take_chunk();
  void take_batches(std::size_t bytes);
  void tell_loss(std::uint64_t first, std::uint64_t next, bool damaged);
  const ReadResult& tell(const ReadEventCore& event);
  const ReadResult& end();
  const ReadResult& next(Nanos timeout);
};

Task<> DirectoryConsumer::Impl::open(Reactor& reactor, DirectoryOptions options, std::string& diagnosis,
                                     std::optional<Result<std::unique_ptr<DirectoryReader>>>& outcome) {
  auto opening = DirectoryReader::open(reactor, std::move(options), diagnosis);
  auto opened = co_await opening;
  outcome.emplace(std::move(opened));
  co_return Result<>();
}

Task<> DirectoryConsumer::Impl::read(Reactor&, Impl& self) {
  auto reading = self.reader->next(self.memory);
  auto chunk = co_await reading;
  self.chunk.emplace(std::move(chunk));
  co_return Result<>();
}

std::optional<Problem> DirectoryConsumer::Impl::begin(const std::string& path, bool buffered) {
  if (!wire::is_stream_name(options.stream))
    return Problem{ErrorCode::invalid_argument, 0,
                   "\"" + options.stream + "\": " + std::string(wire::stream_name_rule)};
  std::string diagnosis;
  std::optional<Result<std::unique_ptr<DirectoryReader>>> opened;
  DirectoryOptions directory_options;
  directory_options.directory = path;
  directory_options.buffered = buffered;
  reactor.spawn(open(reactor, std::move(directory_options), diagnosis, opened));
  while (!opened) reactor.turn(wait_forever);
  if (!*opened) return Problem{static_cast<ErrorCode>(opened->error()), 0, diagnosis.empty() ? path : diagnosis};
  directory = *std::move(*opened);
  const auto stream = directory->find_stream(options.stream);
  if (!stream) return Problem{static_cast<ErrorCode>(stream.error()), 0, "stream " + options.stream};
  const bool to_end = options.until ? options.until->kind == Place::Kind::latest : !options.follow;
  if (to_end) stop_at = stream->next_offset.value;
  auto made = directory->read_stream(stream->id, seek_of(options.from), options.follow && !to_end);
  if (!made) return Problem{static_cast<ErrorCode>(made.error()), 0, "stream " + options.stream};
  reader = *std::move(made);
  if (options.until && options.until->kind == Place::Kind::earliest) events.push_back({});  // nothing is before it
  return std::nullopt;
}

void DirectoryConsumer::Impl::tell_loss(std::uint64_t first, std::uint64_t next, bool damaged) {
  ReadEventCore event;
  event.kind = ReadEventCore::Kind::data_loss;
  event.first = first;
  event.next = next;
  if (!damaged) event.error = Error::out_of_range;
  events.push_back(std::move(event));
}

/// Whole batches at the front of `memory`: those that verify go on together, the others are named.
void DirectoryConsumer::Impl::take_batches(std::size_t bytes) {
  ReadEventCore event;
  event.kind = ReadEventCore::Kind::batches;
  event.bytes.assign(memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(bytes));
  for (Bytes rest = event.bytes; rest.size() >= batch_header_bytes;) {
    const auto header = read_batch_header(rest);
    if (!header || batch_span(header->body_bytes) > rest.size()) break;  // the reader gives verified headers only
    const auto body = BodyView::parse(rest.subspan(batch_header_bytes, header->body_bytes), *header);
    rest = rest.subspan(batch_span(header->body_bytes));
    if (stop_at && header->first_offset >= *stop_at) break;
    if (event.batches.empty()) event.first = header->first_offset;
    if (body) {
      event.batches.push_back({*header, *body});
      event.next = header->first_offset + header->record_count;
      continue;
    }
    // What came before goes first; the copy of the bytes stays with it, so the rest needs its own.
    ReadEventCore after;
    after.kind = ReadEventCore::Kind::batches;
    const std::size_t at = event.bytes.size() - rest.size();
    after.bytes.assign(event.bytes.begin() + static_cast<std::ptrdiff_t>(at), event.bytes.end());
    if (!event.batches.empty()) events.push_back(std::move(event));
    tell_loss(header->first_offset, header->first_offset + header->record_count, true);
    event = std::move(after);
    rest = event.bytes;
  }
  if (!event.batches.empty()) events.push_back(std::move(event));
}

void DirectoryConsumer::Impl::take_chunk() {
  const Result<ReadChunk> done = std::move(*chunk);
  chunk.reset();
  reading = false;
  if (!done) {
    if (done.error() == Error::too_large && reader->needed() > memory.size()) {
      memory.resize(reader->needed());
      return;
    }
    ReadEventCore event;
    event.kind = ReadEventCore::Kind::failed;
    event.error = done.error();
    return events.push_back(std::move(event));
  }
  if (done->bytes > 0) take_batches(done->bytes);
  const std::uint64_t next = done->next_offset.value;
  switch (done->notice) {
    case ReadNotice::none: break;
    case ReadNotice::caught_up: events.push_back({}); break;
    case ReadNotice::day_finished: {
      ReadEventCore event;
      event.kind = ReadEventCore::Kind::day_finished;
      event.first = done->day.value;
      events.push_back(std::move(event));
      break;
    }
    case ReadNotice::data_loss: tell_loss(done->lost_first.value, next, true); break;
    case ReadNotice::out_of_range:
      tell_loss(options.from.kind == Place::Kind::offset ? options.from.offset : 0, next, false);
      break;
  }
  if (stop_at && next >= *stop_at && done->notice != ReadNotice::caught_up) events.push_back({});
}

const ReadResult& DirectoryConsumer::Impl::end() {
  result = {};
  result.event = ReadEvent::end;
  ended = true;
  return result;
}

const ReadResult& DirectoryConsumer::Impl::tell(const ReadEventCore& event) {
  ended = tell_event(event, options.stream, result);
  return result;
}

const ReadResult& DirectoryConsumer::Impl::next(Nanos timeout) {
  const Nanos begun = kernel.now();
  const Nanos deadline = timeout > wait_forever - begun ? wait_forever : begun + timeout;
  for (;;) {
    if (ended) return result;
    if (walk.inside()) {
      const RecordWalk::Step step = walk.next(result);
      if (step == RecordWalk::Step::record) return result;
      walk.leave();
      if (step == RecordWalk::Step::finished) return end();
    }
    if (!events.empty()) {
      ReadEventCore event = std::move(events.front());
      events.pop_front();
      if (event.kind != ReadEventCore::Kind::batches) return tell(event);
      walk.enter(std::move(event));
      continue;
    }
    if (!reading) {
      reading = true;
      reactor.spawn(read(reactor, *this));
    }
    // A read that needs no waiting is let finish, however short the timeout.
    reactor.turn(deadline);
    if (chunk) {
      take_chunk();
      continue;
    }
    if (kernel.now() < deadline) continue;
    result = {};
    result.event = ReadEvent::timed_out;
    return result;
  }
}

DirectoryConsumer::DirectoryConsumer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

DirectoryConsumer::~DirectoryConsumer() {
  if (!impl_->reading) return;
  impl_->reader->cancel();
  while (!impl_->chunk) impl_->reactor.turn(wait_forever);
}

Expected<std::unique_ptr<DirectoryConsumer>> DirectoryConsumer::open(const std::string& directory, bool buffered,
                                                                     const ConsumerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  if (auto problem = impl->begin(directory, buffered)) return *std::move(problem);
  return std::unique_ptr<DirectoryConsumer>(new DirectoryConsumer(std::move(impl)));
}

const ReadResult& DirectoryConsumer::next(std::chrono::nanoseconds timeout) { return impl_->next(timeout.count()); }

}  // namespace millrace
