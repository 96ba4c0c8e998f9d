// What followers ask, nodes that take over, and those who order it.
#include <fmt/format.h>

#include "protocol/fence.hpp"
#include "replica/leader_stream.hpp"
#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"

namespace millrace {

namespace {

/// Goes on when the connection has gone: a leader that was deposed stays so.
Task<> fence_and_answer(Core& core, Shard& shard, std::uint64_t connection_id, wire::Fence request,
                        std::string leader) {
  core.begin_work();
  request.leader = leader;
  wire::Fenced fenced;
  fenced.request_id = request.request_id;
  if (!request.ask_only) {
    auto fencing = shard.fence(request);
    auto granted = co_await fencing;
    fenced.granted = granted && *granted;
  }
  if (shard.is_open()) {
    fenced.epoch = shard.log().source().known_epoch();
    fenced.next = shard.log().watermarks().appended;
    fenced.durable = shard.log().watermarks().durable;
    Connection* connection = core.find(connection_id);
    if (connection != nullptr && !connection->ending()) connection->answer(fenced);
  }
  core.end_work();
  co_return Result<>();
}

Task<> promote_and_answer(Core& core, Shard& shard, std::uint64_t connection_id, wire::Promote request) {
  core.begin_work();
  auto promoting = shard.promote(request.ask_only, request.accept_loss);
  auto found = co_await promoting;
  Connection* connection = core.find(connection_id);
  if (connection != nullptr && !connection->ending() && shard.is_open()) {
    wire::Promoted promoted;
    promoted.request_id = request.request_id;
    if (found) {
      promoted.leads = found->lead;
      promoted.safe = found->safe;
      promoted.epoch = found->epoch;
      promoted.next = shard.log().watermarks().durable;
      promoted.text = found->text;
      connection->answer(promoted);
    } else {
      connection->refuse_request(request.request_id, found.error());
    }
  }
  core.end_work();
  co_return Result<>();
}

}  // namespace

void Connection::refuse_not_leader(std::uint64_t request_id, bool closing) {
  const std::string leader = shard_->leader_text();
  const std::string text =
      leader.empty() ? std::string(error_text(Error::not_leader)) : fmt::format("the leader is {}; ask there", leader);
  answer(wire::Refused{request_id, Error::not_leader, 0, closing, text});
  if (closing) end();
}

void Connection::fence(const Frame& frame) {
  auto request = wire::decode_fence(frame);
  if (!request) return refuse(request.error());
  reactor().spawn(fence_and_answer(core_, *shard_, id_, *request, std::string(request->leader)));
}

void Connection::promote(const Frame& frame) {
  auto request = wire::decode_promote(frame);
  if (!request) return refuse(request.error());
  reactor().spawn(promote_and_answer(core_, *shard_, id_, *request));
}

void Connection::follow(const Frame& frame) {
  auto request = wire::decode_follow(frame);
  if (!request) return refuse(request.error());
  if (shard_->log().options().follow) return refuse_not_leader(request->request_id, true);
  if (!follow_) {
    if (shard_->followers().size() >= followers_max) return refuse(Error::retry_later, 1000);
    const DataDirectory& directory = core_.server().directory();
    wire::Identity identity;
    identity.cluster_id = directory.cluster_id;
    identity.log_id = directory.log_id;
    identity.shard_count = directory.shard_count;
    identity.day_offset_seconds = directory.day_offset_seconds;
    identity.segment_bytes = directory.segment_bytes;
    identity.shard = shard_->index();
    follow_ = std::make_unique<LeaderStream>(shard_->log(), socket_, identity, client_name_);
    follow_->context = this;
    follow_->on_end = [](void* context) {
      auto& self = *static_cast<Connection*>(context);
      self.end();
      self.check_finished();
    };
    shard_->add_follower(*follow_);
  }
  follow_->ask(*request);
}

void Connection::follower_durable(const Frame& frame) {
  auto report = wire::decode_durable(frame);
  if (!report) return refuse(report.error());
  if (!follow_) return;
  follow_->reported(*report);
  shard_->follower_moved();
}

}  // namespace millrace
