// Appends and their acknowledgements.
#include "protocol/batch.hpp"
#include "server/connection.hpp"
#include "server/core.hpp"
#include "server/server.hpp"
#include "server/shard.hpp"

namespace millrace {

/// What is wrong with a batch before the log sees it; `header` is the producer's.
std::optional<Error> Connection::check(const wire::Append& append, BatchHeader& header, std::uint64_t& detail) {
  auto read = read_batch_header(append.batch);
  if (!read) return read.error() == Error::too_large ? Error::too_large : Error::bad_body;
  header = *read;
  bool positioned = header.chain != 0 || header.lsn != 0 || header.first_offset != 0 || header.first_id != 0 ||
                    header.leader_time != 0 || header.day != 0;
  if (header.kind != BatchKind::data || header.record_count == 0 || positioned) return Error::invalid_argument;
  ShardIndex shard = wire::shard_of(StreamId{header.stream_id}, core_.server().directory().shard_count);
  if (shard != shard_->index()) {
    detail = shard.value;
    return Error::wrong_shard;
  }
  auto body = BodyView::parse(append.batch.subspan(batch_header_bytes, header.body_bytes), header);
  if (!body) return body.error();
  return std::nullopt;
}

/// Gives the batch to the log, or answers with its error. `no_room` = nothing happened; only when `may_wait`.
Connection::Taken Connection::append(const Frame& frame, bool may_wait) {
  std::uint64_t cost = append_cost(frame.body.size());
  std::uint64_t request_id = frame.header.request_id;
  bool again = waiting_append_;
  if (!again && !credit_.take(cost)) {
    refuse(Error::over_credit, credit_.window());
    return Taken::answered;
  }
  auto no_room = [&] {
    waiting_append_ = true;
    return Taken::no_room;
  };
  waiting_append_ = false;
  if (acks_.full()) return no_room();
  auto append = wire::decode_append(frame);
  BatchHeader header;
  std::uint64_t detail = 0;
  std::optional<Error> error;
  if (!append) error = append.error();
  else if (again) header = load<BatchHeader>(append->batch);
  else error = check(*append, header, detail);
  if (error) {
    answer_error(request_id, cost, *error, detail);
    return Taken::answered;
  }
  auto appended = shard_->log().append(header, append->batch.subspan(batch_header_bytes, header.body_bytes));
  if (!appended) {
    if (appended.error().error == Error::retry_later && may_wait) return no_room();
    answer_error(request_id, cost, shard_->told(appended.error().error), appended.error().detail);
    return Taken::answered;
  }
  PendingAck ack;
  ack.entry.request_id = request_id;
  ack.entry.first_offset = appended->first_offset.value;
  ack.entry.lsn = appended->lsn.value;
  ack.entry.first_id = appended->first_id.value;
  ack.entry.day = appended->day.value;
  ack.entry.flags = appended->repeat ? wire::ack_flag_repeat : 0;
  ack.cost = cost;
  acks_.push(ack);
  if (appended->repeat) shard_->answer_soon(*this);
  else shard_->wait_for_commit(*this);
  return Taken::answered;
}

/// Errors stand in line like everything else.
void Connection::answer_error(std::uint64_t request_id, std::uint64_t cost, Error error, std::uint64_t detail) {
  core_.counters().append_errors++;
  PendingAck ack;
  ack.entry.request_id = request_id;
  ack.entry.error = static_cast<std::uint16_t>(error);
  ack.entry.detail = detail;
  ack.cost = cost;
  acks_.push(ack);
  shard_->answer_soon(*this);
}

bool Connection::acknowledge(Lsn durable) {
  write_acks(durable);
  return !acks_.empty() && !ending_;
}

void Connection::fail_pending(Lsn first, Lsn durable) {
  for (std::uint32_t i = 0; i < acks_.size(); i++) {
    wire::AckEntry& entry = acks_.at(i).entry;
    if (entry.error != 0 || entry.lsn < first.value || entry.lsn < durable.value) continue;
    entry.error = static_cast<std::uint16_t>(Error::unknown_outcome);
    entry.flags = 0;
  }
  write_acks(durable);
}

/// Answers from the front of the line while everything is durable (or an error), as long as there is room to send.
void Connection::write_acks(Lsn durable) {
  auto& entries = core_.ack_scratch();
  while (!ending_ && !acks_.empty() && socket_.send_queued() <= connection_output_max) {
    entries.clear();
    while (!acks_.empty() && entries.size() < wire::acks_entries_max) {
      PendingAck& ack = acks_.front();
      if (ack.entry.error == 0 && ack.entry.lsn >= durable.value) break;
      if (ack.entry.error == 0) {
        const bool enough = ack.entry.lsn < shard_->quorum().replicated().value;
        ack.entry.level = enough ? wire::Level::quorum : wire::Level::local;
        if (!enough && shard_->wants_quorum()) shard_->note_missed();
        core_.counters().acknowledged++;
      }
      entries.push_back(ack.entry);
      credit_.answer(ack.cost);
      acks_.pop();
    }
    if (entries.empty()) break;
    FrameOutput& output = scratch();
    wire::encode_acks(output, credit_.announce(), entries);
    send(output);
  }
  if (acks_.empty()) acks_.release_if_large();
}

}  // namespace millrace
