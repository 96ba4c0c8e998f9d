#include "tests/sim/toy_server.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"

namespace millrace::sim {

namespace {

constexpr std::uint64_t toy_magic = 0x31594f54;
constexpr const char* toy_path = "data.toy";
constexpr const char* toy_root = "";

struct EntryHeader {
  std::uint64_t magic;
  std::uint64_t kind;
  std::uint64_t length;
  std::uint64_t check;
};

/// Memory for direct I/O.
struct AlignedBytes {
  explicit AlignedBytes(std::size_t size) : storage(size + block_bytes) {
    auto at = reinterpret_cast<std::uintptr_t>(storage.data());
    bytes = MutableBytes(storage).subspan(align_up(at, block_bytes) - at, size);
  }
  std::vector<std::byte> storage;
  MutableBytes bytes;
};

std::vector<std::byte> bytes_with(const void* data, std::size_t length, Bytes rest = {}) {
  Bytes front = as_bytes(data, length);
  std::vector<std::byte> bytes(front.begin(), front.end());
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

}  // namespace

ToyServer::ToyServer(std::span<Kernel* const> kernels, ServerNotes& notes, ToyBug bug)
    : reactor_(std::make_unique<Reactor>(*kernels[0])), notes_(notes), bug_(bug) {
  reactors_.push_back(reactor_.get());
  notes_.complaint.clear();
  reactor_->spawn(run());
}

void ToyServer::end(const std::string& complaint) {
  if (notes_.complaint.empty()) notes_.complaint = complaint;
  ended_ = true;
}

void ToyServer::stop() {
  stopping_ = true;
  if (work_.has_waiters()) work_.notify();
}

Task<> ToyServer::run() {
  if (!reactor_->kernel().provide_buffers(64, 16 * KiB)) co_return fail(Error::internal);
  std::string path = toy_path;
  auto opening = File::open(*reactor_, path, open_read | open_write | open_create | open_direct);
  auto opened = co_await opening;
  if (!opened) {
    end("cannot open");
    co_return fail(opened.error());
  }
  file_ = std::move(*opened);
  for (int attempt = 0;; ++attempt) {
    auto locking = file_.lock();
    auto locked = co_await locking;
    if (locked) break;
    if (attempt == 60) {
      end("locked");
      co_return fail(locked.error());
    }
    co_await Sleep(*reactor_, reactor_->now() + 100'000'000);
  }
  auto recovering = recover();
  auto recovered = co_await recovering;
  if (!recovered) {
    end(std::string(error_name(recovered.error())));
    co_return fail(recovered.error());
  }
  ++notes_.verdicts["toy"];
  reactor_->spawn(write_loop());
  listener_ = std::make_unique<Listener>(*reactor_);
  Address address{"0.0.0.0", server_port};
  auto listening = listener_->listen(address);
  auto port = co_await listening;
  if (!port) {
    end("cannot listen");
    co_return fail(port.error());
  }
  serving_ = true;
  for (;;) {
    auto accepted = co_await listener_->accept();
    if (!accepted) co_return Result<>{};
    std::uint64_t number = ++last_connection_;
    connections_[number] = std::make_unique<Connection>(*reactor_, accepted->descriptor);
    connections_[number]->number = number;
    reactor_->spawn(serve(number));
  }
}

Task<> ToyServer::recover() {
  std::string root = toy_root;
  auto naming = Directory::sync(*reactor_, root);
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  auto syncing = file_.sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto front = std::make_unique<AlignedBytes>(block_bytes);
  for (;;) {
    auto reading = file_.read(file_end_, front->bytes);
    auto got = co_await reading;
    if (!got) co_return fail(got.error());
    if (*got < block_bytes) break;
    auto header = load<EntryHeader>(front->bytes);
    if (header.magic != toy_magic || header.length > batch_bytes_max) break;
    auto whole = std::make_unique<AlignedBytes>(align_up(sizeof header + header.length, block_bytes));
    auto rest = file_.read(file_end_, whole->bytes);
    auto length = co_await rest;
    if (!length) co_return fail(length.error());
    if (*length < whole->bytes.size()) break;
    Bytes body = Bytes(whole->bytes).subspan(sizeof header, header.length);
    if (hash64(body, header.kind + file_end_) != header.check || !replay(static_cast<EntryKind>(header.kind), body))
      break;
    file_end_ += whole->bytes.size();
  }
  for (auto& [id, stream] : streams_) stream.durable_offset = stream.next_offset;
  co_return Result<>{};
}

bool ToyServer::replay(EntryKind kind, Bytes bytes) {
  switch (kind) {
    case EntryKind::stream: {
      std::string name(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      streams_[stream_id_of(name).value].name = name;
      return true;
    }
    case EntryKind::producer: producers_[load<std::uint64_t>(bytes)] = load<std::uint32_t>(bytes, 8); return true;
    case EntryKind::batch: {
      auto header = load<BatchHeader>(bytes);
      put(header, bytes.subspan(sizeof header));
      lsn_ = header.lsn + 1;
      return true;
    }
  }
  return false;
}

void ToyServer::put(const BatchHeader& header, Bytes body) {
  Stream& stream = streams_[header.stream_id];
  stream.batches.push_back({header, {body.begin(), body.end()}});
  stream.next_offset = header.first_offset + header.record_count;
  if (bug_ == ToyBug::forget_producers) return;
  Window& window = windows_[{header.producer_id, header.stream_id}];
  if (window.epoch != header.producer_epoch) window = {header.producer_epoch, 0, {}};
  window.next = header.producer_sequence + 1;
  window.answers[header.producer_sequence] = {header.first_offset, header.lsn};
}

Task<> ToyServer::write_loop() {
  for (;;) {
    while (pending_.empty() && !stopping_) co_await work_.wait();
    if (pending_.empty()) break;
    Pending& front = pending_.front();
    auto block = std::make_unique<AlignedBytes>(align_up(sizeof(EntryHeader) + front.bytes.size(), block_bytes));
    EntryHeader header{toy_magic, static_cast<std::uint64_t>(front.kind), front.bytes.size(),
                       hash64(front.bytes, static_cast<std::uint64_t>(front.kind) + file_end_)};
    store(block->bytes, 0, header);
    std::memcpy(block->bytes.data() + sizeof header, front.bytes.data(), front.bytes.size());
    bool durable = bug_ != ToyBug::acknowledge_before_durable;
    auto writing = file_.write_exact(file_end_, block->bytes, durable);
    auto wrote = co_await writing;
    if (!wrote) {
      // The outcome is unknown: start again from what the disk says.
      end("a write failed: " + std::string(error_name(wrote.error())));
      co_return fail(wrote.error());
    }
    file_end_ += block->bytes.size();
    Pending done = std::move(pending_.front());
    pending_.pop_front();
    answer(done);
  }
  ended_ = true;
  co_return Result<>{};
}

void ToyServer::answer(const Pending& pending) {
  auto found = connections_.find(pending.connection);
  switch (pending.kind) {
    case EntryKind::stream:
      if (found != connections_.end())
        wire::encode(found->second->out,
                     wire::StreamOpened{pending.request, StreamId{pending.stream}, {}, {}, {}, true});
      break;
    case EntryKind::producer:
      if (found != connections_.end())
        wire::encode(found->second->out,
                     wire::ProducerRegistered{pending.request, ProducerId{pending.producer}, pending.epoch});
      break;
    case EntryKind::batch:
      streams_[pending.stream].durable_offset = pending.next_offset;
      acknowledge(pending.connection, pending.request, Error{}, pending.first_offset, pending.lsn, false, pending.cost);
      pump_all();
      break;
  }
  if (found != connections_.end()) flush(*found->second);
}

void ToyServer::acknowledge(std::uint64_t number, std::uint64_t request, Error error, std::uint64_t first_offset,
                            std::uint64_t lsn, bool repeat, std::uint64_t cost) {
  auto found = connections_.find(number);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  connection.granted += cost;
  wire::AckEntry entry;
  entry.request_id = request;
  entry.error = static_cast<std::uint16_t>(error);
  entry.lsn = lsn;
  entry.level = wire::Level::local;
  entry.flags = repeat ? wire::ack_flag_repeat : 0;
  entry.first_offset = first_offset;
  wire::encode_acks(connection.out, connection.granted, {&entry, 1});
  flush(connection);
}

void ToyServer::flush(Connection& connection) {
  if (!connection.out.empty() && !connection.socket.send(connection.out)) connection.socket.abort();
  connection.out.clear();
}

Task<> ToyServer::serve(std::uint64_t number) {
  Connection& connection = *connections_[number];
  for (bool open = true; open;) {
    auto buffer = co_await connection.socket.receive();
    if (!buffer || buffer->length == 0) break;
    Bytes bytes(buffer->data, buffer->length);
    while (open && !bytes.empty()) {
      auto next = connection.parser.next(bytes);
      if (!next) open = false;
      if (!next || !*next) break;
      handle(connection, **next);
    }
    connection.socket.recycle(*buffer);
    flush(connection);
  }
  auto closing = connection.socket.close(reactor_->now());
  (void)co_await closing;
  connections_.erase(number);
  co_return Result<>{};
}

void ToyServer::handle(Connection& connection, const Frame& frame) {
  std::uint64_t id = frame.header.request_id;
  if (!connection.greeted) {
    connection.greeted = true;
    wire::Welcome welcome;
    welcome.request_id = id;
    wire::encode(connection.out, welcome);
    return;
  }
  switch (frame.header.type) {
    case FrameType::open_stream:
      if (auto request = wire::decode_open_stream(frame)) open_stream(connection, *request);
      return;
    case FrameType::register_producer: {
      auto request = wire::decode_register_producer(frame);
      if (!request) return;
      std::uint64_t producer = request->producer.value != 0 ? request->producer.value : reactor_->random().next();
      struct {
        std::uint64_t id;
        std::uint32_t epoch;
      } entry{producer, ++producers_[producer]};
      Pending pending;
      pending.kind = EntryKind::producer;
      pending.bytes = bytes_with(&entry, 12);
      pending.connection = connection.number;
      pending.request = id;
      pending.producer = producer;
      pending.epoch = entry.epoch;
      pending_.push_back(std::move(pending));
      break;
    }
    case FrameType::append:
      if (auto request = wire::decode_append(frame)) append(connection, *request);
      return;
    case FrameType::read:
      if (auto request = wire::decode_read(frame)) begin_read(connection, *request);
      return;
    case FrameType::read_credit: {
      auto request = wire::decode_read_credit(frame);
      for (Read& read : connection.reads)
        if (request && read.id == request->request_id) read.granted = std::max(read.granted, request->granted);
      pump_all();
      return;
    }
    case FrameType::ping:
      if (auto ping = wire::decode_ping(frame)) wire::encode(connection.out, wire::Pong{id, ping->token});
      return;
    default: return;
  }
  if (work_.has_waiters()) work_.notify();
}

void ToyServer::open_stream(Connection& connection, const wire::OpenStream& request) {
  StreamId stream = stream_id_of(request.name);
  auto found = streams_.find(stream.value);
  if (found != streams_.end()) {
    wire::encode(connection.out,
                 wire::StreamOpened{request.request_id, stream, {}, {}, Offset{found->second.next_offset}, false});
    return;
  }
  if (!request.create) {
    wire::encode(connection.out, wire::Refused{request.request_id, Error::unknown_stream, 0, false, "no such stream"});
    return;
  }
  streams_[stream.value].name = std::string(request.name);
  Pending pending;
  pending.kind = EntryKind::stream;
  pending.bytes = bytes_with(request.name.data(), request.name.size());
  pending.connection = connection.number;
  pending.request = request.request_id;
  pending.stream = stream.value;
  pending_.push_back(std::move(pending));
  if (work_.has_waiters()) work_.notify();
}

void ToyServer::append(Connection& connection, const wire::Append& request) {
  std::uint64_t cost = append_cost(request.batch.size());
  auto header = read_batch_header(request.batch);
  auto refuse = [&](Error error) { acknowledge(connection.number, request.request_id, error, 0, 0, false, cost); };
  if (!header) return refuse(Error::bad_body);
  if (!streams_.contains(header->stream_id)) return refuse(Error::unknown_stream);
  if (bug_ != ToyBug::forget_producers) {
    if (header->producer_epoch < producers_[header->producer_id]) return refuse(Error::fenced);
    Window& window = windows_[{header->producer_id, header->stream_id}];
    if (window.epoch == header->producer_epoch) {
      auto repeat = window.answers.find(header->producer_sequence);
      bool still_pending = std::any_of(pending_.begin(), pending_.end(), [&](const Pending& pending) {
        return repeat != window.answers.end() && pending.lsn == repeat->second.second;
      });
      if (still_pending) return refuse(Error::retry_later);
      if (repeat != window.answers.end())
        return acknowledge(connection.number, request.request_id, Error{}, repeat->second.first, repeat->second.second,
                           true, cost);
      if (header->producer_sequence != window.next) return refuse(Error::out_of_order);
    } else if (header->producer_sequence != 0) {
      return refuse(Error::out_of_order);
    }
  }
  header->first_offset = streams_[header->stream_id].next_offset;
  header->lsn = lsn_++;
  seal_header(*header, {});
  Bytes body = request.batch.subspan(sizeof(BatchHeader), header->body_bytes);
  put(*header, body);
  Pending pending;
  pending.kind = EntryKind::batch;
  pending.bytes = bytes_with(&*header, sizeof(BatchHeader), body);
  pending.connection = connection.number;
  pending.request = request.request_id;
  pending.stream = header->stream_id;
  pending.first_offset = header->first_offset;
  pending.next_offset = header->first_offset + header->record_count;
  pending.lsn = header->lsn;
  pending.cost = cost;
  pending_.push_back(std::move(pending));
  if (bug_ == ToyBug::serve_before_durable) {
    streams_[header->stream_id].durable_offset = header->first_offset + header->record_count;
    pump_all();
  }
  if (work_.has_waiters()) work_.notify();
}

void ToyServer::begin_read(Connection& connection, const wire::Read& request) {
  auto found = streams_.find(request.stream.value);
  if (found == streams_.end()) {
    wire::encode(connection.out,
                 wire::ReadEnd{request.request_id, static_cast<std::uint16_t>(Error::unknown_stream), {}, 0});
    return;
  }
  Read read;
  read.id = request.request_id;
  read.stream = request.stream.value;
  read.next = request.from.kind == wire::PositionKind::offset ? request.from.value : 0;
  read.end = found->second.durable_offset;
  read.granted = request.credit;
  read.follow = request.follow;
  wire::encode(connection.out, wire::ReadBegin{read.id, Offset{read.next}, Offset{read.end}, {}});
  connection.reads.push_back(read);
  pump_all();
}

void ToyServer::pump(Connection& connection, Read& read) {
  Stream& stream = streams_[read.stream];
  auto at =
      std::upper_bound(stream.batches.begin(), stream.batches.end(), read.next,
                       [](std::uint64_t next, const Stored& stored) { return next < stored.header.first_offset; });
  if (at != stream.batches.begin()) --at;
  for (; at != stream.batches.end(); ++at) {
    const Stored& stored = *at;
    std::uint64_t end = stored.header.first_offset + stored.header.record_count;
    if (end <= read.next) continue;
    if (end > stream.durable_offset || read.sent >= read.granted ||
        (!read.follow && stored.header.first_offset >= read.end))
      break;
    std::vector<std::byte> bytes(batch_span(stored.header.body_bytes));
    store(MutableBytes(bytes), 0, stored.header);
    std::copy(stored.body.begin(), stored.body.end(), bytes.begin() + sizeof(BatchHeader));
    wire::encode(connection.out, wire::Batches{read.id, Offset{stored.header.first_offset}, Offset{end},
                                               Offset{stream.durable_offset}, bytes});
    read.sent += bytes.size();
    read.next = end;
  }
  if (read.follow || read.next < read.end) return;
  wire::encode(connection.out, wire::ReadEnd{read.id, 0, Offset{read.next}, 0});
  read.id = 0;
}

void ToyServer::pump_all() {
  for (auto& [number, connection] : connections_) {
    for (Read& read : connection->reads)
      if (read.id != 0) pump(*connection, read);
    std::erase_if(connection->reads, [](const Read& read) { return read.id == 0; });
    flush(*connection);
  }
}

}  // namespace millrace::sim
