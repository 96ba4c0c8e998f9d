// A server in memory that speaks frames and keeps what it stored: the other end for the SDK's cores. It dedupes as a shard
// does and can be told to misbehave: refuse appends, forget what it has not acknowledged, damage a batch, go silent.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/batch.hpp"
#include "protocol/frame_parser.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"

namespace millrace::test {

class FakeServer {
 public:
  struct Stored {
    BatchHeader header;
    std::vector<std::byte> body;
  };
  struct Stream {
    std::string name;
    std::vector<Stored> batches;
    std::uint64_t next_offset = 0;
  };
  struct Window {
    std::uint32_t epoch = 0;
    std::map<std::uint64_t, std::size_t> stored;  // sequence -> index in the stream's batches
    std::uint64_t next = 0;
  };

  // What it has; survives disconnect().
  std::map<std::uint64_t, Stream> streams;
  std::map<std::uint64_t, std::uint32_t> producer_epochs;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Window> windows;
  std::uint64_t lsn = 1;
  std::uint64_t appends_seen = 0;
  std::uint64_t opens_seen = 0;

  // How it behaves.
  std::deque<Error> refuse_appends;  // the next appends get these
  std::optional<Error> refuse_hello;
  std::optional<Error> refuse_reads;
  std::uint64_t append_window = 1 * MiB;
  bool hold_acks = false;                 // stores, and answers only at release_acks()
  bool store_but_answer_unknown = false;  // the next append is stored and answered unknown_outcome
  bool damage_next_batch = false;
  bool damage_all_batches = false;
  bool keep_reads_open = false;

  FakeServer() { connect(); }

  void connect() {
    parser_.emplace(memory_);
    out.clear();
    greeted_ = false;
    granted_ = append_window;
    pending_.clear();
    reads.clear();
  }

  /// Bytes from the client; answers pile up in `out`.
  void receive(Bytes bytes) {
    while (!bytes.empty()) {
      auto next = parser_->next(bytes);
      ASSERT_TRUE_OR_DIE(next.has_value());
      if (!*next) return;
      handle(**next);
    }
  }
  void release_acks() {
    if (pending_.empty()) return;
    wire::encode_acks(out, granted_, pending_);
    pending_.clear();
  }

  FrameOutput out;
  std::map<std::uint64_t, wire::Read> reads;  // open ones, with `keep_reads_open`
  std::map<std::uint64_t, std::uint64_t> read_granted;

  void send_batches(std::uint64_t id, const Stream& stream, std::uint64_t from) {
    for (const Stored& stored : stream.batches) {
      const std::uint64_t end = stored.header.first_offset + stored.header.record_count;
      if (end <= from) continue;
      std::vector<std::byte> bytes(batch_span(stored.header.body_bytes));
      store(MutableBytes(bytes), 0, stored.header);
      std::copy(stored.body.begin(), stored.body.end(), bytes.begin() + batch_header_bytes);
      if (damage_next_batch || damage_all_batches) bytes[batch_header_bytes + stored.body.size() / 2] ^= std::byte{1};
      damage_next_batch = false;
      wire::encode(
          out, wire::Batches{id, Offset{stored.header.first_offset}, Offset{end}, Offset{stream.next_offset}, bytes});
    }
  }

 private:
  static void ASSERT_TRUE_OR_DIE(bool condition) { MR_ASSERT(condition); }

  void handle(const Frame& frame) {
    const std::uint64_t id = frame.header.request_id;
    if (!greeted_) {
      MR_ASSERT(wire::decode_hello(frame).has_value());
      if (refuse_hello) return wire::encode(out, wire::Refused{0, *refuse_hello, 0, true, "no"});
      greeted_ = true;
      wire::Welcome welcome;
      welcome.request_id = id;
      welcome.append_granted = append_window;
      wire::encode(out, welcome);
      return;
    }
    switch (frame.header.type) {
      case FrameType::open_stream: {
        const auto open = wire::decode_open_stream(frame);
        MR_ASSERT(open.has_value());
        opens_seen += 1;
        const StreamId stream = stream_id_of(open->name);
        streams[stream.value].name = std::string(open->name);
        return wire::encode(out,
                            wire::StreamOpened{id, stream, {}, {}, Offset{streams[stream.value].next_offset}, true});
      }
      case FrameType::register_producer: {
        const auto request = wire::decode_register_producer(frame);
        MR_ASSERT(request.has_value());
        const std::uint64_t producer =
            request->producer.value != 0 ? request->producer.value : 1000 + producer_epochs.size();
        return wire::encode(out, wire::ProducerRegistered{id, ProducerId{producer}, ++producer_epochs[producer]});
      }
      case FrameType::append: return handle_append(frame);
      case FrameType::read: return handle_read(frame);
      case FrameType::read_credit: {
        const auto credit = wire::decode_read_credit(frame);
        MR_ASSERT(credit.has_value());
        read_granted[id] = credit->granted;
        return;
      }
      case FrameType::cancel_read: reads.erase(id); return;
      case FrameType::ping: return wire::encode(out, wire::Pong{id, wire::decode_ping(frame)->token});
      default: MR_ASSERT(false);
    }
  }

  void answer(wire::AckEntry entry, std::uint64_t cost) {
    granted_ += cost;
    pending_.push_back(entry);
    if (!hold_acks) release_acks();
  }

  void handle_append(const Frame& frame) {
    appends_seen += 1;
    const std::uint64_t cost = append_cost(frame.body.size());
    const auto append = wire::decode_append(frame);
    MR_ASSERT(append.has_value());
    auto header = read_batch_header(append->batch);
    MR_ASSERT(header.has_value());
    const Bytes body = append->batch.subspan(batch_header_bytes, header->body_bytes);
    MR_ASSERT(BodyView::parse(body, *header).has_value());
    wire::AckEntry entry;
    entry.request_id = append->request_id;
    if (!refuse_appends.empty()) {
      entry.error = static_cast<std::uint16_t>(refuse_appends.front());
      entry.detail = 1;
      refuse_appends.pop_front();
      return answer(entry, cost);
    }
    Stream& stream = streams[header->stream_id];
    Window& window = windows[{header->producer_id, header->stream_id}];
    if (header->producer_epoch < producer_epochs[header->producer_id]) {
      entry.error = static_cast<std::uint16_t>(Error::fenced);
      return answer(entry, cost);
    }
    if (header->producer_epoch > window.epoch) window = {header->producer_epoch, {}, 0};
    if (header->producer_sequence > window.next) {
      entry.error = static_cast<std::uint16_t>(Error::out_of_order);
      entry.detail = window.next;
      return answer(entry, cost);
    }
    if (header->producer_sequence < window.next) {
      entry.flags = wire::ack_flag_repeat;
    } else {
      header->first_offset = stream.next_offset;
      header->lsn = ++lsn;
      header->leader_time = static_cast<std::int64_t>(lsn);
      seal_header(*header, {});
      stream.next_offset += header->record_count;
      window.stored[window.next++] = stream.batches.size();
      stream.batches.push_back({*header, {body.begin(), body.end()}});
    }
    const Stored& stored = stream.batches[window.stored.at(header->producer_sequence)];
    entry.first_offset = stored.header.first_offset;
    entry.lsn = stored.header.lsn;
    entry.level = wire::Level::local;
    if (std::exchange(store_but_answer_unknown, false))
      entry.error = static_cast<std::uint16_t>(Error::unknown_outcome);
    answer(entry, cost);
  }

  void handle_read(const Frame& frame) {
    const auto read = wire::decode_read(frame);
    MR_ASSERT(read.has_value());
    const std::uint64_t id = read->request_id;
    if (refuse_reads) return wire::encode(out, wire::ReadEnd{id, static_cast<std::uint16_t>(*refuse_reads), {}, 0});
    const auto found = streams.find(read->stream.value);
    if (found == streams.end())
      return wire::encode(out, wire::ReadEnd{id, static_cast<std::uint16_t>(Error::unknown_stream), {}, 0});
    const std::uint64_t from = read->from.kind == wire::PositionKind::offset ? read->from.value : 0;
    read_granted[id] = read->credit;
    wire::encode(out, wire::ReadBegin{id, Offset{from}, Offset{found->second.next_offset}, Offset{0}});
    send_batches(id, found->second, from);
    if (keep_reads_open || read->follow) reads[id] = *read;
    else wire::encode(out, wire::ReadEnd{id, 0, Offset{found->second.next_offset}, 0});
  }

  HeapFrameMemory memory_;
  std::optional<FrameParser> parser_;
  bool greeted_ = false;
  std::uint64_t granted_ = 0;
  std::vector<wire::AckEntry> pending_;
};

}  // namespace millrace::test
