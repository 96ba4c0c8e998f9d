#include "replica/question.hpp"

#include <algorithm>
#include <utility>

#include "protocol/answers.hpp"
#include "protocol/handshake.hpp"

namespace millrace {

namespace {

constexpr Nanos look_again = nanos_per_second / 10;
constexpr Nanos close_within = nanos_per_second;

/// Ends the connection when time is over, or nobody wants the answer any more.
struct Patience {
  Patience(Socket& of, Nanos until, const bool* stop) : socket(of), deadline(until), give_up(stop) {
    timer.context = this;
    timer.fire = [](Timer& fired) {
      auto& self = *static_cast<Patience*>(fired.context);
      self.over = self.socket.reactor().now() >= self.deadline;
      if (self.over || (self.give_up != nullptr && *self.give_up)) return self.socket.abort();
      self.arm();
    };
    arm();
  }
  ~Patience() { socket.reactor().disarm(timer); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;
  void arm() { socket.reactor().arm(timer, std::min(deadline, socket.reactor().now() + look_again)); }

  Socket& socket;
  const Nanos deadline;
  const bool* const give_up;
  Timer timer;
  bool over = false;
};

/// The first frame of this type, or what the peer refused with.
Task<PeerAnswer> first_answer(Socket& socket, FrameType wanted) {
  HeapFrameMemory memory;
  FrameParser parser(memory);
  while (true) {
    auto buffer = co_await socket.receive();
    if (!buffer) co_return fail(buffer.error());
    if (buffer->length == 0) co_return fail(Error::connection_lost);
    Bytes input(buffer->data, buffer->length);
    Result<PeerAnswer> answer = fail(Error::would_block);
    while (!answer && answer.error() == Error::would_block) {
      auto frame = parser.next(input);
      if (!frame) answer = fail(frame.error());
      else if (!*frame) break;
      else if ((*frame)->header.type == wanted)
        answer = PeerAnswer{(*frame)->header, {(*frame)->body.begin(), (*frame)->body.end()}};
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

Task<PeerAnswer> ask_peer(Reactor& reactor, PeerQuestion question) {
  const Nanos deadline = reactor.now() + question.within;
  auto connecting = connect(reactor, question.peer, deadline);
  auto descriptor = co_await connecting;
  if (!descriptor) co_return fail(descriptor.error());
  Socket socket(reactor, *descriptor);
  wire::Hello hello;
  hello.request_id = 1;
  hello.shard = question.shard;
  hello.client_name = "millrace-follower";
  FrameOutput output;
  encode(output, hello);
  output.insert(output.end(), question.frame.begin(), question.frame.end());
  Result<PeerAnswer> answer = fail(Error::connection_lost);
  {
    Patience patience(socket, deadline, question.give_up);
    if (socket.send(output)) {
      auto answering = first_answer(socket, question.answer);
      answer = co_await answering;
    }
    if (!answer && patience.over) answer = fail(Error::timed_out);
  }
  const Nanos until = reactor.now() + close_within;
  auto closing = socket.close(until);
  auto closed = co_await closing;
  static_cast<void>(closed);
  co_return std::move(answer);
}

}  // namespace millrace
