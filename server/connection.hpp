// One client's connection: bytes in, frames to the shard's log, acknowledgements and reads out.
//
// One coroutine takes what arrives, frame by frame, and waits when something cannot be taken now: the log or the frame memory
// has no room, or the client does not read its answers. Then TCP holds the client back. Answers of a turn leave in one send,
// so a commit costs one send a connection.
//
// A connection with much on its way gets memory of its own for as long as it lasts: what it sends is received straight into that
// and handed to the log from there.
//
// A connection begins without a shard, on the core that accepted it; the hello decides whose it is, and a connection for
// another core is handed over, once.
//
// Thread: the core's. The core destroys it when finished().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/credit.hpp"
#include "protocol/frame_parser.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"
#include "reactor/reactor.hpp"
#include "reactor/socket.hpp"
#include "server/ack_queue.hpp"

namespace millrace {

class Core;
class LeaderStream;
class ReadStream;
class Shard;

/// With more than this waiting to be sent a connection takes no further requests.
inline constexpr std::size_t connection_output_max = 1 * MiB;
/// What may wait to be sent in all: answers, and pieces of reads that are sent from where they lie (charged to the core's read
/// memory); room for two of the largest.
inline constexpr std::size_t connection_send_max = 2 * frame_bytes_max + 4 * connection_output_max;
/// Pieces of reads that one connection may hold at once, so that a client that takes nothing keeps little from others.
inline constexpr std::uint32_t connection_chunks_max = 2;
/// What a busy connection receives into is so many times as large as a shared buffer; larger frames are assembled.
inline constexpr std::size_t connection_bulk_buffers = 8;
/// How long it may keep that while nothing comes.
inline constexpr Nanos connection_bulk_idle_max = 100'000'000;
/// How long an append waits for room in the log before it is answered with retry_later.
inline constexpr Nanos append_wait_max = 1'000'000'000;
/// How long a connection's last answers may take to leave.
inline constexpr Nanos last_word_max = 1'000'000'000;

class Connection {
 public:
  Connection(Core& core, std::uint64_t id, std::int32_t descriptor);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  Reactor& reactor();

  std::uint64_t id() const { return id_; }
  Core& core() { return core_; }
  bool greeted() const { return shard_ != nullptr; }
  Nanos last_heard() const { return last_heard_; }
  Nanos accepted_at() const { return accepted_at_; }
  bool within_frame() const { return !parser_.idle(); }
  /// Gives back what only a busy connection needs, if nothing has come for a while.
  void rest(Nanos now);

  /// Waits for the hello.
  void start();
  /// Takes over a connection that another core accepted: `hello` was read there, and `bytes` behind it.
  void adopt(Shard& shard, const wire::Hello& hello, std::vector<std::byte> bytes);
  /// One last frame, then the end.
  void refuse(Error error, std::uint64_t detail = 0);
  /// Sends what is queued, then ends. Any number of times.
  void end();
  /// Nothing of it is under way any more: may be destroyed.
  bool finished() const;

  // ---- What the shard and the core tell. ----

  /// Everything below `durable` is: answers it. Returns true while appends wait.
  bool acknowledge(Lsn durable);
  /// A commit failed, or waits for a file: what is from `first` on, and not below `durable`, has an unknown outcome.
  void fail_pending(Lsn first, Lsn durable);
  /// Log or frame memory may have room again.
  void resume() { room_.notify(); }
  bool has_pending() const { return !acks_.empty(); }
  /// The shard's: which of its lists this connection stands in.
  struct Links {
    bool waits_for_commit = false;
    bool waits_for_room = false;
  } links;

  // ---- What requests and reads use. ----

  Socket& socket() { return socket_; }
  bool ending() const { return ending_; }
  /// Encodes and queues one message; a client that has no room for it has lost its connection.
  template <class Message>
  void answer(const Message& message) {
    FrameOutput& output = scratch();
    encode(output, message);
    send(output);
  }
  /// Queues what is a frame already.
  void answer_encoded(const FrameOutput& frame) { send(frame); }
  void refuse_request(std::uint64_t request_id, Error error, std::uint64_t detail = 0);
  void read_ended() { check_finished(); }
  /// A read wants memory for its next piece; false = the connection holds enough, await chunk_ended().
  bool begin_chunk();
  void end_chunk();
  Signal& chunk_ended() { return chunk_ended_; }
  /// The piece is on its way to the client, or has been taken.
  void chunk_sending();
  void chunk_taken();
  /// The client has been taking nothing of a piece since then; wait_forever when nothing is on its way.
  Nanos taking_since() const { return chunks_sending_ > 0 ? last_taken_ : wait_forever; }

 private:
  Task<> run();
  Task<> greet();
  Task<> take_buffer(ProvidedBuffer buffer);
  Task<> receive_in_bulk();
  Task<> fill_bulk();
  /// Handles the frames at the front of `input` and moves it behind them. `held_max`: as in FrameParser::next_held(), 0 = next().
  Task<> take(Bytes& input, std::size_t held_max);
  Task<> take_append(Frame frame);
  Task<> hand_over();
  Task<> close();
  void decide_shard(const wire::Hello& hello);
  void welcome(Shard& shard, const wire::Hello& hello);
  void check_finished();
  FrameOutput& scratch();
  void send(Bytes bytes);

  // connection_requests.cpp
  void handle(const Frame& frame);
  void open_stream(const Frame& frame);
  void register_producer(const Frame& frame);
  void read(const Frame& frame);
  void read_credit(const Frame& frame);
  void cancel_read(const Frame& frame);
  void stat(const Frame& frame);
  void follow(const Frame& frame);
  void follower_durable(const Frame& frame);
  void segment_range(const Frame& frame);
  void fence(const Frame& frame);
  void promote(const Frame& frame);
  void refuse_not_leader(std::uint64_t request_id, bool closing);
  ReadStream* find_read(std::uint64_t request_id);

  // connection_appends.cpp
  enum class Taken : std::uint8_t { answered, no_room };
  Taken append(const Frame& frame, bool may_wait);
  std::optional<Error> check(const wire::Append& append, BatchHeader& header, std::uint64_t& detail);
  void answer_error(std::uint64_t request_id, std::uint64_t cost, Error error, std::uint64_t detail);
  void write_acks(Lsn durable);

  Core& core_;
  const std::uint64_t id_;
  const Nanos accepted_at_;
  Shard* shard_ = nullptr;
  std::string client_name_;

  Socket socket_;
  FrameParser parser_;
  MutableBytes bulk_;            // received into while busy
  std::size_t bulk_filled_ = 0;  // the beginning of a frame stands there
  Signal room_;
  Nanos last_heard_;
  CreditGrant credit_{append_window_bytes};
  AckQueue acks_;
  std::vector<std::unique_ptr<ReadStream>> reads_;
  std::unique_ptr<LeaderStream> follow_;
  Signal chunk_ended_;
  std::uint32_t chunks_ = 0;
  std::uint32_t chunks_sending_ = 0;
  Nanos last_taken_ = 0;
  std::vector<std::byte> early_;      // came behind the hello
  std::optional<wire::Hello> hello_;  // of a connection to be handed over

  bool waiting_append_ = false;  // the append under way was counted and checked already
  bool ending_ = false;
  bool served_ = true;  // no run() under way
  bool closed_ = false;
};

}  // namespace millrace
