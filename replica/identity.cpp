#include <memory>

#include "protocol/answers.hpp"
#include "protocol/handshake.hpp"
#include "replica/follower.hpp"

namespace millrace {

namespace {

/// The first frame of this type, or what the leader refused with.
Task<wire::FollowBegin> first_answer(Socket& socket) {
  HeapFrameMemory memory;
  FrameParser parser(memory);
  while (true) {
    auto buffer = co_await socket.receive();
    if (!buffer) co_return fail(buffer.error());
    if (buffer->length == 0) co_return fail(Error::connection_lost);
    Bytes input(buffer->data, buffer->length);
    Result<wire::FollowBegin> answer = fail(Error::would_block);
    while (!answer && answer.error() == Error::would_block) {
      auto frame = parser.next(input);
      if (!frame) answer = fail(frame.error());
      else if (!*frame) break;
      else if ((*frame)->header.type == FrameType::follow_begin) answer = wire::decode_follow_begin(**frame);
      else if ((*frame)->header.type == FrameType::refused) {
        auto refused = wire::decode_refused(**frame);
        answer = fail(refused ? refused->error : Error::bad_frame);
      }
    }
    socket.recycle(*buffer);
    if (answer || answer.error() != Error::would_block) co_return std::move(answer);
  }
}

}  // namespace

Task<wire::Identity> ask_identity(Reactor& reactor, Address leader) {
  const Nanos deadline = reactor.now() + follow_connect_max;
  auto connecting = connect(reactor, leader, deadline);
  auto descriptor = co_await connecting;
  if (!descriptor) co_return fail(descriptor.error());
  Socket socket(reactor, *descriptor);
  wire::Hello hello;
  hello.request_id = 1;
  hello.client_name = "millrace-follower";
  wire::Follow follow;
  follow.request_id = 2;
  follow.next_lsn = Lsn{1};
  follow.probe = true;
  FrameOutput output;
  encode(output, hello);
  encode(output, follow);
  Timer silence;
  silence.context = &socket;
  silence.fire = [](Timer& timer) { static_cast<Socket*>(timer.context)->abort(); };
  reactor.arm(silence, deadline);
  Result<wire::FollowBegin> answer = fail(Error::connection_lost);
  if (socket.send(output)) {
    auto answering = first_answer(socket);
    answer = co_await answering;
  }
  reactor.disarm(silence);
  const Nanos until = reactor.now() + nanos_per_second;
  auto closing = socket.close(until);
  auto closed = co_await closing;
  static_cast<void>(closed);
  if (!answer) co_return fail(answer.error());
  co_return answer->identity;
}

}  // namespace millrace
