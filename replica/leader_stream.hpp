// One follower of one log, at its leader: keeps the follower's place and sends what was submitted behind it. The newest comes
// from the memory it is written from, everything else is read back from the segments, whole groups at a time.
//
// Nothing is queued for a follower but what its socket holds: a slow one falls back in its place and costs a buffer. Commits
// never wait for it.
//
// Thread: the shard's. Lives until ended(); cancel() makes that soon. The socket outlives it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "protocol/follow.hpp"
#include "reactor/file.hpp"
#include "reactor/reactor.hpp"
#include "reactor/send_queue.hpp"
#include "reactor/socket.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/log.hpp"
#include "storage/log_copy.hpp"

namespace millrace {

/// One read of history; a larger group is read alone.
inline constexpr std::size_t follow_read_bytes = 1 * MiB;
/// Frames of this size and more are sent from a buffer of their own; smaller ones are copied and leave together.
inline constexpr std::size_t follow_own_bytes = 16 * KiB;
inline constexpr std::size_t follow_buffers = 4;
/// How often a follower hears how far the log is although nothing happens.
inline constexpr Nanos follow_marks_interval = nanos_per_second;

/// What a leader knows of a follower.
struct FollowerState {
  std::string name;
  Lsn durable{};  // reported
  Lsn sent{};     // everything below was sent
  Nanos heard = 0;
  bool streaming = false;
};

class LeaderStream final : private LogListener {
 public:
  LeaderStream(Log& log, Socket& socket, const wire::Identity& identity, std::string name);
  ~LeaderStream();
  LeaderStream(const LeaderStream&) = delete;
  LeaderStream& operator=(const LeaderStream&) = delete;
  Reactor& reactor();

  /// The follower states where its copy ends: the first time, and again after it was told that it differs.
  void ask(const wire::Follow& request);
  void reported(const wire::Durable& report);
  void cancel();
  bool ended() const { return ended_ && buffers_busy_ == 0; }
  /// Called when ended() has become true.
  void (*on_end)(void* context) = nullptr;
  void* context = nullptr;

  const FollowerState& state() const { return state_; }

 private:
  struct Outgoing {
    OwnedSend send;
    FrameOutput frame;
    LeaderStream* stream = nullptr;
    bool busy = false;
  };

  Task<> run();
  Task<> answer(wire::Follow request);
  Task<bool> find_place(wire::Follow request);
  Task<bool> find_begin(wire::Follow request);
  Task<> match_pending(wire::Statement statement);
  Task<bool> is_segment(SegmentKey key, Id128 id);
  Task<std::optional<GroupHeader>> group_at(SegmentKey key, std::uint64_t offset);
  Task<> stream();
  Task<bool> advance();
  Task<> send_live(SubmittedGroup group);
  Task<bool> send_from_disk();
  Task<> send_segment();
  Task<bool> next_segment();
  Task<std::optional<SegmentKey>> segment_after(SegmentKey key);
  Task<SegmentHeader> read_header(SegmentKey key);
  Task<> open_segment(SegmentKey key);
  Task<> read_group(std::uint64_t offset);
  Task<> send_placed(wire::Placed placed);
  Task<Outgoing*> take_buffer();
  void send_marks();
  void moved_on(std::uint64_t group_length, bool closed, Lsn end);
  void refuse(Error error, std::uint64_t detail = 0);
  bool gone() const { return cancelled_ || socket_.failure().has_value(); }
  void check_ended();

  void log_durable(Lsn) override {}
  void log_failed() override;

  Log& log_;
  LogSource& source_;
  Socket& socket_;
  const wire::Identity identity_;
  FollowerState state_;

  std::optional<wire::Follow> request_;
  std::uint64_t request_id_ = 0;
  SegmentKey key_{};         // the place: segment,
  std::uint64_t group_ = 0;  // group in it,
  std::uint64_t from_ = 0;   // first byte of that group that was not sent
  Lsn next_lsn_{};           // first batch that was not sent
  bool announced_ = false;   // the follower has the segment's header
  bool pending_differs_ = false;
  Lsn durable_said_{};
  Lsn group_lsn_{};  // end of the last group sent closed
  Chain group_chain_{};

  SegmentKey open_key_{};  // of file_
  File file_;
  AlignedMemory memory_;
  std::uint64_t memory_at_ = 0;  // what is read: [memory_at_, memory_at_ + memory_bytes_) of the segment
  std::uint64_t memory_bytes_ = 0;
  std::array<Outgoing, follow_buffers> buffers_;
  std::size_t buffers_busy_ = 0;
  Signal buffer_freed_;
  FrameOutput small_;
  Timer marks_timer_;
  bool started_ = false;
  bool failed_ = false;
  bool cancelled_ = false;
  bool ended_ = false;
};

}  // namespace millrace
