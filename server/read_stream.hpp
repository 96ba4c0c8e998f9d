// One read of one connection: batches from the shard's log to the client, within its credit, in order, with notices where
// they stand. One chunk is under way at a time; while there is no credit, or nothing new, it holds no memory.
//
// Thread: the core's. Lives until ended(); cancel() makes that soon.
#pragma once

#include <cstdint>

#include "protocol/credit.hpp"
#include "protocol/messages.hpp"
#include "reactor/reactor.hpp"
#include "reactor/send_queue.hpp"
#include "storage/reader.hpp"

namespace millrace {

class Connection;
class Shard;

/// The usual size of a piece of a read; a larger batch gets a piece of its own.
inline constexpr std::size_t read_chunk_bytes = 256 * KiB;

class ReadStream {
 public:
  ReadStream(Connection& connection, Shard& shard, const wire::Read& request);
  ~ReadStream();
  ReadStream(const ReadStream&) = delete;
  ReadStream& operator=(const ReadStream&) = delete;
  Reactor& reactor();

  std::uint64_t request_id() const { return request_.request_id; }
  void start();
  /// Cumulative; what is more than read_credit_bytes_max ahead is cut.
  void grant(std::uint64_t granted);
  void cancel();
  bool ended() const { return ended_; }

 private:
  Task<> run();
  Task<> follow_log();
  Task<> next_chunk();
  Task<> send_batches(std::size_t bytes);
  Task<> wait_for_more(Lsn seen);
  void find_end();
  void say_begin(Offset from);
  void say_notice(const ReadChunk& chunk);
  std::size_t keep_wanted(Bytes batches);
  void note_covered(Bytes batches);
  std::size_t drop_unwanted(MutableBytes batches);
  bool is_past_end(const BatchHeader& header) const;
  void give_memory_back();
  bool gone() const;

  Connection& connection_;
  Shard& shard_;
  const wire::Read request_;
  Reader reader_;

  CreditUse credit_;
  Signal changed_;  // credit, cancel, or a chunk was sent
  MutableBytes memory_;
  ReadChunk chunk_;
  OwnedSend sending_;
  bool under_way_ = false;  // sending_ belongs to the socket
  bool begun_ = false;
  bool at_end_ = false;
  bool cancelled_ = false;
  bool ended_ = false;
  Error error_{};  // of read_end; 0 = done
  std::uint64_t detail_ = 0;
  Offset covered_from_{};  // where the batches frame that goes out next begins
  Offset next_{};          // after what was sent
  Offset stop_at_{};       // first offset not wanted; all ones = none
};

}  // namespace millrace
