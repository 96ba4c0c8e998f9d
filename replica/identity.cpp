#include "protocol/follow.hpp"
#include "replica/follower.hpp"
#include "replica/peer.hpp"

namespace millrace {

namespace {

Task<wire::Identity> ask(Peer& peer) {
  auto greeting = peer.greet(wire::any_shard, "millrace-follower");
  auto welcome = co_await greeting;
  if (!welcome) co_return fail(welcome.error());
  wire::Follow follow;
  follow.request_id = 2;
  follow.next_lsn = Lsn{1};
  follow.probe = true;
  FrameOutput request;
  encode(request, follow);
  auto asking = peer.ask(std::move(request), follow.request_id);
  auto frame = co_await asking;
  if (!frame) co_return fail(frame.error());
  const auto begin = wire::decode_follow_begin(*frame);
  if (!begin) co_return fail(begin.error());
  co_return begin->identity;
}

}  // namespace

Task<wire::Identity> ask_identity(Reactor& reactor, Address leader) {
  Peer peer(reactor, std::move(leader));
  auto asking = ask(peer);
  auto identity = co_await asking;
  auto closing = peer.close();
  auto closed = co_await closing;
  static_cast<void>(closed);
  co_return std::move(identity);
}

}  // namespace millrace
