// The smallest server that keeps the protocol's promises: one file, one durable write a commit, everything in memory. It
// exists to test the swarm, with bugs on demand; it stores no format of the house, so the checker does not look at it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "protocol/batch.hpp"
#include "protocol/frame_parser.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"
#include "reactor/file.hpp"
#include "reactor/listener.hpp"
#include "reactor/socket.hpp"
#include "tests/sim/workload.hpp"

namespace millrace::sim {

enum class ToyBug : std::uint8_t { none, acknowledge_before_durable, forget_producers, serve_before_durable };

class ToyServer final : public ServerProgram {
 public:
  ToyServer(std::span<Kernel* const> kernels, ServerNotes& notes, ToyBug bug);
  std::span<Reactor* const> reactors() override { return reactors_; }
  bool finished() const override { return ended_; }
  void stop() override;
  bool serving() const override { return serving_; }

  static ServerFactory factory(ToyBug bug) {
    return [bug](std::span<Kernel* const> kernels, const WorkloadPlan&, ServerNotes& notes) {
      return std::make_unique<ToyServer>(kernels, notes, bug);
    };
  }

 private:
  enum class EntryKind : std::uint64_t { stream = 1, producer = 2, batch = 3 };
  struct Stored {
    BatchHeader header;
    std::vector<std::byte> body;
  };
  struct Stream {
    std::string name;
    std::vector<Stored> batches;
    std::uint64_t next_offset = 0;
    std::uint64_t durable_offset = 0;
  };
  struct Window {
    std::uint32_t epoch = 0;
    std::uint64_t next = 0;
    std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> answers;  // sequence -> offset, lsn
  };
  struct Read {
    std::uint64_t id = 0;
    std::uint64_t stream = 0;
    std::uint64_t next = 0;
    std::uint64_t end = 0;  // where a read that does not follow ends
    std::uint64_t granted = 0;
    std::uint64_t sent = 0;
    bool follow = false;
  };
  struct Connection {
    explicit Connection(Reactor& reactor, std::int32_t descriptor) : socket(reactor, descriptor, {64 * MiB, 16}) {}
    std::uint64_t number = 0;
    Socket socket;
    HeapFrameMemory memory;
    FrameParser parser{memory};
    bool greeted = false;
    std::uint64_t granted = append_window_bytes;
    std::vector<Read> reads;
    FrameOutput out;
  };
  /// An entry on its way to the disk, and what to answer when it is there.
  struct Pending {
    EntryKind kind{};
    std::vector<std::byte> bytes;
    std::uint64_t connection = 0;
    std::uint64_t request = 0;
    std::uint64_t stream = 0;
    std::uint64_t first_offset = 0;
    std::uint64_t next_offset = 0;
    std::uint64_t lsn = 0;
    std::uint64_t cost = 0;
    std::uint32_t epoch = 0;
    std::uint64_t producer = 0;
  };

  Task<> run();
  Task<> recover();
  Task<> write_loop();
  Task<> serve(std::uint64_t number);
  bool replay(EntryKind kind, Bytes bytes);
  void handle(Connection& connection, const Frame& frame);
  void open_stream(Connection& connection, const wire::OpenStream& request);
  void append(Connection& connection, const wire::Append& request);
  void begin_read(Connection& connection, const wire::Read& request);
  void pump(Connection& connection, Read& read);
  void pump_all();
  void answer(const Pending& pending);
  void acknowledge(std::uint64_t connection, std::uint64_t request, Error error, std::uint64_t first_offset,
                   std::uint64_t lsn, bool repeat, std::uint64_t cost);
  void put(const BatchHeader& header, Bytes body);
  void flush(Connection& connection);
  void end(const std::string& complaint);

  std::unique_ptr<Reactor> reactor_;  // outlives everything that uses it
  std::vector<Reactor*> reactors_;
  ServerNotes& notes_;
  const ToyBug bug_;
  std::map<std::uint64_t, Stream> streams_;
  std::map<std::uint64_t, std::uint32_t> producers_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Window> windows_;
  std::uint64_t lsn_ = 1;
  std::uint64_t file_end_ = 0;
  std::deque<Pending> pending_;
  Signal work_;
  File file_;
  std::unique_ptr<Listener> listener_;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t last_connection_ = 0;
  bool serving_ = false;
  bool stopping_ = false;
  bool ended_ = false;
};

}  // namespace millrace::sim
