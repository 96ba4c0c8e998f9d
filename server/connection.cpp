#include "server/connection.hpp"

#include <cstring>
#include <utility>

#include "replica/leader_stream.hpp"
#include "server/core.hpp"
#include "server/read_stream.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"

namespace millrace {

Connection::Connection(Core& core, std::uint64_t id, std::int32_t descriptor)
    : core_(core),
      id_(id),
      accepted_at_(core.reactor().now()),
      socket_(core.reactor(), descriptor, SocketLimits{.send_bytes_max = connection_send_max}),
      parser_(core.frame_memory(), hello_frame_bytes_max),
      last_heard_(core.reactor().now()) {}

Connection::~Connection() {
  if (follow_ && shard_ != nullptr) shard_->remove_follower(*follow_);
  if (!bulk_.empty()) core_.frame_memory().give_back(bulk_);
}

Reactor& Connection::reactor() { return core_.reactor(); }

void Connection::start() {
  served_ = false;
  reactor().spawn(run());
}

void Connection::adopt(Shard& shard, const wire::Hello& hello, std::vector<std::byte> bytes) {
  early_ = std::move(bytes);
  welcome(shard, hello);
  start();
}

FrameOutput& Connection::scratch() {
  FrameOutput& output = core_.output_scratch();
  output.clear();
  return output;
}

void Connection::send(Bytes bytes) {
  if (socket_.send(bytes)) {
    core_.counters().bytes_out += bytes.size();
    return;
  }
  if (!socket_.failure()) socket_.abort();
}

void Connection::refuse_request(std::uint64_t request_id, Error error, std::uint64_t detail) {
  if (error == Error::not_leader) return refuse_not_leader(request_id, false);
  answer(wire::Refused{request_id, error, detail, false, error_text(error)});
}

void Connection::refuse(Error error, std::uint64_t detail) {
  if (ending_) return;
  core_.counters().refused_connections++;
  answer(wire::Refused{0, error, detail, true, error_text(error)});
  end();
}

void Connection::end() {
  if (std::exchange(ending_, true)) return;
  for (auto& read : reads_) read->cancel();
  if (follow_) follow_->cancel();
  room_.notify();
  if (shard_ != nullptr) shard_->forget(*this);
  core_.forget(*this);
  reactor().spawn(close());
}

bool Connection::begin_chunk() {
  if (chunks_ == connection_chunks_max) return false;
  chunks_++;
  return true;
}

void Connection::end_chunk() {
  MR_ASSERT(chunks_ > 0);
  chunks_--;
  chunk_ended_.notify();
}

void Connection::chunk_sending() {
  if (chunks_sending_++ == 0) last_taken_ = reactor().now();
}

void Connection::chunk_taken() {
  MR_ASSERT(chunks_sending_ > 0);
  chunks_sending_--;
  last_taken_ = reactor().now();
}

Task<> Connection::close() {
  auto closing = socket_.close(reactor().now() + last_word_max);
  (void)co_await closing;
  closed_ = true;
  check_finished();
  co_return Result<>();
}

void Connection::check_finished() { core_.reap_later(*this); }

bool Connection::finished() const {
  if (!closed_ || !served_) return false;
  for (auto& read : reads_)
    if (!read->ended()) return false;
  return !follow_ || follow_->ended();
}

Task<> Connection::run() {
  if (!greeted()) {
    auto greeting = greet();
    (void)co_await greeting;
  }
  if (hello_) {
    auto handing = hand_over();
    (void)co_await handing;
    co_return Result<>();
  }
  if (!ending_ && !early_.empty()) {
    Bytes input(early_);
    auto taking = take(input, 0);
    (void)co_await taking;
    early_ = {};
  }
  while (!ending_) {
    auto buffer = co_await socket_.receive();
    if (!buffer || buffer->length == 0) break;
    auto taking = take_buffer(*buffer);
    (void)co_await taking;
    if (ending_ || buffer->length < core_.server().config().receive_buffer_bytes) continue;
    auto receiving = receive_in_bulk();
    (void)co_await receiving;
  }
  served_ = true;
  end();
  check_finished();
  co_return Result<>();
}

/// What came in a shared buffer, which goes back.
Task<> Connection::take_buffer(ProvidedBuffer buffer) {
  last_heard_ = reactor().now();
  core_.counters().bytes_in += buffer.length;
  Bytes input(buffer.data, buffer.length);
  auto taking = take(input, 0);
  (void)co_await taking;
  socket_.recycle(buffer);
  co_return Result<>();
}

/// More is on its way than a shared buffer holds. Goes on until nothing comes for a while, or the connection ends.
Task<> Connection::receive_in_bulk() {
  bulk_ = core_.frame_memory().take_spare(connection_bulk_buffers * core_.server().config().receive_buffer_bytes);
  if (bulk_.empty()) co_return Result<>();
  auto holding = socket_.hold();
  (void)co_await holding;
  while (!ending_) {
    auto buffer = socket_.try_receive();
    if (!buffer) break;
    auto taking = take_buffer(*buffer);
    (void)co_await taking;
  }
  auto filling = fill_bulk();
  (void)co_await filling;
  if (!ending_ && bulk_filled_ > 0) {
    Bytes rest = bulk_.first(bulk_filled_);
    auto taking = take(rest, 0);
    (void)co_await taking;
  }
  core_.frame_memory().give_back(std::exchange(bulk_, {}));
  bulk_filled_ = 0;
  if (!ending_) socket_.resume();
  co_return Result<>();
}

Task<> Connection::fill_bulk() {
  while (!ending_) {
    MutableBytes target = parser_.missing();  // the rest of a frame that is larger than bulk_
    const bool assembling = !target.empty();
    if (!assembling) target = bulk_.subspan(bulk_filled_);
    auto received = co_await socket_.receive_into(target);
    if (!received || *received == 0) break;
    last_heard_ = reactor().now();
    core_.counters().bytes_in += *received;
    if (assembling) parser_.received(*received);
    else bulk_filled_ += *received;
    Bytes input = bulk_.first(bulk_filled_);
    auto taking = take(input, bulk_.size());
    (void)co_await taking;
    std::memmove(bulk_.data(), input.data(), input.size());
    bulk_filled_ = input.size();
  }
  co_return Result<>();
}

void Connection::rest(Nanos now) {
  if (!bulk_.empty() && now - last_heard_ > connection_bulk_idle_max) socket_.stop_waiting();
}

/// Reads until the hello is whole, and nothing else.
Task<> Connection::greet() {
  while (!ending_) {
    auto buffer = co_await socket_.receive();
    if (!buffer || buffer->length == 0) {
      end();
      break;
    }
    if (ending_) {  // refused in the turn in which this came: nothing more is decided
      socket_.recycle(*buffer);
      break;
    }
    Bytes input(buffer->data, buffer->length);
    auto frame = parser_.next(input);
    Result<wire::Hello> hello = fail(Error::would_block);
    if (frame && *frame) hello = wire::decode_hello(**frame);
    else if (!frame && frame.error() != Error::would_block) hello = fail(frame.error());
    if (hello) early_.assign(input.begin(), input.end());
    socket_.recycle(*buffer);
    if (hello) {
      decide_shard(*hello);
      break;
    }
    if (hello.error() != Error::would_block) refuse(hello.error());
  }
  co_return Result<>();
}

void Connection::decide_shard(const wire::Hello& hello) {
  Server& server = core_.server();
  ShardIndex wanted = hello.shard;
  if (wanted == wire::any_shard) wanted = core_.shards().front()->index();
  if (wanted.value >= server.directory().shard_count) {
    refuse(Error::wrong_shard, server.directory().shard_count - 1);
    return;
  }
  if (server.core_of(wanted) == core_.number()) {
    welcome(*core_.shard(wanted), hello);
    return;
  }
  hello_ = hello;
  hello_->shard = wanted;
}

void Connection::welcome(Shard& shard, const wire::Hello& hello) {
  const DataDirectory& directory = core_.server().directory();
  shard_ = &shard;
  client_name_ = hello.client_name;
  parser_.set_bytes_max(frame_bytes_max);
  core_.greeted(*this);
  wire::Welcome welcome;
  welcome.request_id = hello.request_id;
  welcome.shard = shard.index();
  welcome.shard_count = directory.shard_count;
  welcome.append_granted = credit_.announce();
  welcome.cluster_id = directory.cluster_id;
  welcome.log_id = directory.log_id;
  welcome.wall_time = reactor().wall_now();
  welcome.day_offset_seconds = directory.day_offset_seconds;
  welcome.server = "millrace ";
  welcome.server += server_version;
  answer(welcome);
}

/// The descriptor and what was read go to the core of the shard wanted.
Task<> Connection::hand_over() {
  auto detaching = socket_.detach();
  auto descriptor = co_await detaching;
  while (auto buffer = socket_.try_receive()) {
    early_.insert(early_.end(), buffer->data, buffer->data + buffer->length);
    socket_.recycle(*buffer);
  }
  if (descriptor) core_.hand_over(*descriptor, *hello_, std::move(early_));
  ending_ = served_ = closed_ = true;
  core_.forget(*this);
  check_finished();
  co_return Result<>();
}

Task<> Connection::take(Bytes& input, std::size_t held_max) {
  while (!ending_) {
    auto frame = held_max > 0 ? parser_.next_held(input, held_max) : parser_.next(input);
    if (!frame && frame.error() == Error::would_block) {
      core_.wait_for_memory(*this);
      co_await room_.wait();
      continue;
    }
    if (!frame) {
      refuse(frame.error());
      break;
    }
    if (!*frame) break;
    core_.counters().frames++;
    if ((*frame)->header.type == FrameType::append) {
      if (append(**frame, true) == Taken::no_room) {
        auto taking = take_append(**frame);
        (void)co_await taking;
      }
    } else {
      handle(**frame);
    }
    while (!ending_ && socket_.send_queued() > connection_output_max && !socket_.failure())
      co_await socket_.progress().wait();
  }
  co_return Result<>();
}

/// An append the log has no room for: tried again when it may have, for append_wait_max.
Task<> Connection::take_append(Frame frame) {
  Nanos since = reactor().now();
  while (!ending_) {
    shard_->wait_for_room(*this);
    co_await room_.wait();
    if (ending_) break;
    bool may_wait = reactor().now() - since < append_wait_max;
    if (append(frame, may_wait) == Taken::answered) break;
  }
  co_return Result<>();
}

}  // namespace millrace
