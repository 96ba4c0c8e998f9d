#include "replica/peer.hpp"

#include <algorithm>
#include <utility>

#include "protocol/answers.hpp"

namespace millrace {

Peer::Peer(Reactor& reactor, Address address) : reactor_(reactor), address_(std::move(address)) {
  silence_.context = this;
  silence_.fire = [](Timer& timer) {
    auto& self = *static_cast<Peer*>(timer.context);
    if (self.reactor().now() >= self.answer_by_ || (self.give_up_ != nullptr && *self.give_up_)) self.abort();
    else self.arm();
  };
}

Peer::~Peer() { reactor_.disarm(silence_); }

void Peer::limit(Nanos deadline, const bool* give_up) {
  deadline_ = deadline;
  give_up_ = give_up;
}

void Peer::arm() { reactor_.arm(silence_, std::min(answer_by_, reactor_.now() + peer_look_again)); }

void Peer::abort() {
  if (socket_) socket_->abort();
}

Task<wire::Welcome> Peer::greet(ShardIndex shard, std::string name) {
  const Nanos deadline = std::min(deadline_, reactor().now() + peer_connect_max);
  auto connecting = connect(reactor_, address_, deadline);
  auto descriptor = co_await connecting;
  if (!descriptor) co_return fail(descriptor.error());
  socket_ = std::make_unique<Socket>(reactor_, *descriptor);
  frames_ = std::make_unique<FrameReader>(*socket_);
  wire::Hello hello;
  hello.request_id = 1;
  hello.shard = shard;
  hello.client_name = std::move(name);
  FrameOutput output;
  encode(output, hello);
  auto asking = ask(std::move(output), hello.request_id);
  auto frame = co_await asking;
  if (!frame) co_return fail(frame.error());
  co_return wire::decode_welcome(*frame);
}

Task<Frame> Peer::ask(FrameOutput request, std::uint64_t request_id) {
  refusal_.clear();
  if (!socket_ || !socket_->send(request)) co_return fail(Error::connection_lost);
  answer_by_ = std::min(deadline_, reactor().now() + peer_answer_max);
  arm();
  Result<Frame> answer = fail(Error::connection_lost);
  do {
    auto receiving = frames_->next();
    answer = co_await receiving;
  } while (answer && answer->header.request_id != request_id && answer->header.request_id != 0);
  reactor().disarm(silence_);
  if (!answer && reactor().now() >= answer_by_) co_return fail(Error::timed_out);
  if (!answer || answer->header.type != FrameType::refused) co_return std::move(answer);
  const auto refused = wire::decode_refused(*answer);
  if (!refused) co_return fail(Error::bad_frame);
  refusal_ = std::string(refused->text);
  co_return fail(refused->error);
}

Task<wire::RangeGiven> Peer::ask_range(wire::RangeAsked asked) {
  Result<Frame> frame = fail(Error::retry_later);
  const Nanos give_up = reactor().now() + peer_answer_max;
  while (!frame && frame.error() == Error::retry_later && reactor().now() < give_up) {
    asked.request_id = next_id_++;
    FrameOutput request;
    encode(request, asked);
    auto asking = ask(std::move(request), asked.request_id);
    frame = co_await asking;
    if (frame || frame.error() != Error::retry_later) break;
    const Nanos again = reactor().now() + peer_retry_after;
    co_await Sleep(reactor(), again);
  }
  if (!frame) co_return fail(frame.error());
  auto given = wire::decode_range_given(*frame);
  const bool fits = given && given->kind == asked.kind && given->begin == asked.begin && given->end <= asked.end;
  if (given && !fits) co_return fail(Error::bad_frame);
  co_return std::move(given);
}

Task<> Peer::close() {
  if (!socket_) co_return Result<>{};
  frames_.reset();
  const Nanos until = reactor().now() + nanos_per_second;
  auto closing = socket_->close(until);
  auto closed = co_await closing;
  socket_.reset();
  co_return std::move(closed);
}

}  // namespace millrace
