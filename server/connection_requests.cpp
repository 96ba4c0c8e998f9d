// What each request does.
#include <algorithm>

#include "base/hash.hpp"
#include "protocol/ranges.hpp"
#include "replica/segment_ranges.hpp"
#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/read_stream.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"
#include "server/stat.hpp"

namespace millrace {

void Connection::handle(const Frame& frame) {
  switch (frame.header.type) {
    case FrameType::open_stream: return open_stream(frame);
    case FrameType::register_producer: return register_producer(frame);
    case FrameType::read: return read(frame);
    case FrameType::read_credit: return read_credit(frame);
    case FrameType::cancel_read: return cancel_read(frame);
    case FrameType::stat: return stat(frame);
    case FrameType::follow: return follow(frame);
    case FrameType::durable: return follower_durable(frame);
    case FrameType::sums:
    case FrameType::range: return segment_range(frame);
    case FrameType::fence: return fence(frame);
    case FrameType::promote: return promote(frame);
    case FrameType::ping: {
      auto ping = wire::decode_ping(frame);
      if (!ping) return refuse(ping.error());
      return answer(wire::Pong{ping->request_id, ping->token});
    }
    default: return refuse(Error::bad_frame);
  }
}

void Connection::open_stream(const Frame& frame) {
  auto request = wire::decode_open_stream(frame);
  std::uint64_t id = frame.header.request_id;
  if (!request && request.error() == Error::bad_frame) return refuse(Error::bad_frame);
  if (!request) return refuse_request(id, request.error());
  StreamId stream = stream_id_of(request->name);
  ShardIndex shard = wire::shard_of(stream, core_.server().directory().shard_count);
  if (shard != shard_->index()) return refuse_request(id, Error::wrong_shard, shard.value);
  auto known = shard_->log().find_stream(stream);
  // A stream whose creation was lost has no name until one of its id names it.
  const bool nameless = known && known->name.empty();
  if (known && !nameless && known->name != request->name) return refuse_request(id, Error::name_collision);
  wire::StreamOpened opened{.request_id = id, .stream = stream, .shard = shard, .created = !known};
  if (known) {
    opened.first = known->first_offset;
    opened.next = known->next_offset;
    if (!nameless || !request->create) return answer(opened);
  } else if (!request->create) {
    return refuse_request(id, Error::unknown_stream, shard_->log().offset_floor().value);
  }
  auto declared = shard_->log().declare_stream(request->name);
  if (!declared) return refuse_request(id, shard_->told(declared.error()));
  answer(opened);
}

namespace {

/// Outlives the connection if need be: the producer's epoch is raised whether or not somebody still wants to know.
Task<> register_and_answer(Core& core, Shard& shard, std::uint64_t connection_id, wire::RegisterProducer request) {
  auto registering = shard.log().register_producer(request.producer);
  auto registered = co_await registering;
  Connection* connection = core.find(connection_id);
  if (connection == nullptr || connection->ending()) co_return Result<>();
  if (registered) connection->answer(wire::ProducerRegistered{request.request_id, registered->id, registered->epoch});
  else connection->refuse_request(request.request_id, shard.told(registered.error()));
  co_return Result<>();
}

}  // namespace

void Connection::register_producer(const Frame& frame) {
  auto request = wire::decode_register_producer(frame);
  if (!request) return refuse(request.error());
  reactor().spawn(register_and_answer(core_, *shard_, id_, *request));
}

namespace {

Task<> read_and_answer(Core& core, Shard& shard, std::uint64_t connection_id, wire::RangeAsked asked) {
  auto reading = shard.ranges().answer(asked);
  auto answer = co_await reading;
  Connection* connection = core.find(connection_id);
  if (connection == nullptr || connection->ending()) co_return Result<>();
  if (answer) connection->answer_encoded(*answer);
  else connection->refuse_request(asked.request_id, shard.told(answer.error()));
  co_return Result<>();
}

}  // namespace

void Connection::segment_range(const Frame& frame) {
  auto asked = wire::decode_range_asked(frame);
  if (!asked && asked.error() == Error::bad_frame) return refuse(Error::bad_frame);
  if (!asked) return refuse_request(frame.header.request_id, asked.error(), wire::sums_range_max);
  reactor().spawn(read_and_answer(core_, *shard_, id_, *asked));
}

ReadStream* Connection::find_read(std::uint64_t request_id) {
  std::erase_if(reads_, [](const auto& read) { return read->ended(); });
  for (auto& read : reads_)
    if (read->request_id() == request_id) return read.get();
  return nullptr;
}

void Connection::read(const Frame& frame) {
  auto request = wire::decode_read(frame);
  std::uint64_t id = frame.header.request_id;
  if (!request && request.error() == Error::bad_frame) return refuse(Error::bad_frame);
  auto refuse_read = [&](Error error, std::uint64_t detail) {
    answer(wire::ReadEnd{id, static_cast<std::uint16_t>(error), Offset{}, detail});
  };
  if (!request) return refuse_read(request.error(), 0);
  if (find_read(id) != nullptr) return refuse_read(Error::already_exists, 0);
  if (reads_.size() >= wire::connection_reads_max) return refuse_read(Error::too_large, wire::connection_reads_max);
  ShardIndex shard = wire::shard_of(request->stream, core_.server().directory().shard_count);
  if (shard != shard_->index()) return refuse_read(Error::wrong_shard, shard.value);
  reads_.push_back(std::make_unique<ReadStream>(*this, *shard_, *request));
  reads_.back()->start();
}

void Connection::read_credit(const Frame& frame) {
  auto request = wire::decode_read_credit(frame);
  if (!request) return refuse(request.error());
  if (ReadStream* read = find_read(request->request_id)) read->grant(request->granted);
}

void Connection::cancel_read(const Frame& frame) {
  auto request = wire::decode_cancel_read(frame);
  if (!request) return refuse(request.error());
  if (ReadStream* read = find_read(request->request_id)) read->cancel();
}

void Connection::stat(const Frame& frame) {
  auto request = wire::decode_stat(frame);
  if (!request && request.error() == Error::bad_frame) return refuse(Error::bad_frame);
  if (!request) return refuse_request(frame.header.request_id, request.error());
  gather_stat(core_, id_, *request);
}

}  // namespace millrace
