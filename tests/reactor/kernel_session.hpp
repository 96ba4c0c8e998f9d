// One playing of a script on one stage: each call asks the kernel for something, waits, and writes down what came back in
// a form that is the same on every kernel: descriptors become slots, bytes a hash, errors their number. What the seam
// leaves open (in how many pieces a stream arrives, the order among operations) is left out; what it promises of every
// completion (`more` only from multishots, a buffer with each filled receive) is checked on the way.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/reactor/kernel_stage.hpp"

namespace millrace::test {

class KernelSession {
 public:
  /// What is asked and everything that came back.
  struct Request {
    Operation operation;
    std::string path, path_to;
    Address address;
    FileStatus status;
    std::vector<DirectoryEntry> entries;
    std::unique_ptr<std::byte[], void (*)(std::byte*)> memory{nullptr, nullptr};
    KernelSession* session = nullptr;
    bool hold = false;  // provided buffers are kept until release()
    bool done = false;
    std::int32_t result = 0;  // of the last completion
    std::size_t completions = 0;
    std::vector<std::byte> bytes;  // received so far
    std::vector<std::int32_t> accepted;
    std::vector<ProvidedBuffer> held;
  };

  explicit KernelSession(KernelStage& stage) : stage_(stage) {}
  /// Cancels what still waits and closes everything.
  ~KernelSession();
  KernelSession(const KernelSession&) = delete;
  KernelSession& operator=(const KernelSession&) = delete;

  /// What happened, a line an event.
  const std::vector<std::string>& transcript() const { return transcript_; }
  void note(const std::string& line) { transcript_.push_back(line); }

  // Building blocks. A slot is the number of a descriptor in this session; one that failed to open, or was closed, is -1
  // for the kernel.
  Request& request(OperationCode code, int slot = -1);
  void submit(Request& request);
  /// False, and a line, when nothing came for ten seconds.
  bool wait(Request& request);
  bool wait_bytes(Request& request, std::size_t bytes);
  bool wait_accepted(Request& request, std::size_t count);
  std::int32_t run(Request& request);
  void rest() { stage_.rest(3 * nanos_per_milli); }
  int add_slot(std::int32_t descriptor);
  std::int32_t descriptor(int slot) const { return slot < 0 ? -1 : slots_[static_cast<std::size_t>(slot)]; }
  /// `length` bytes that depend on `salt`, in memory fit for direct I/O.
  static void fill(Request& request, std::size_t length, std::uint64_t salt);
  void recycle_held(Request& request);

  // Files. Each waits and notes.
  int open(const std::string& path, unsigned flags);
  void close(int slot);
  void read(int slot, std::uint64_t offset, std::uint32_t length);
  Request& start_write(int slot, std::uint64_t offset, std::uint32_t length, bool durable, std::uint64_t salt);
  void write(int slot, std::uint64_t offset, std::uint32_t length, bool durable, std::uint64_t salt);
  void extent(OperationCode code, int slot, std::uint64_t offset, std::uint64_t length);
  void write_zeroes(int slot, std::uint64_t offset, std::uint64_t length);
  void sync(int slot, bool data_only);
  void lock(int slot);
  void stat(const std::string& path);
  void note_volatile(const std::string& path);
  void name(OperationCode code, const std::string& path, const std::string& path_to = "", bool directory = false);
  void list(const std::string& path);

  // Sockets.
  int listen(std::uint16_t& port);
  struct Ends {
    int server;
    int client;
  };
  Ends pair();
  int connect(std::uint16_t port);
  Request& start_accept(int slot, bool multishot);
  Request& start_receive(int slot, std::uint32_t length);
  Request& start_provided(int slot, bool multishot, bool hold = false);
  Request& start_send(int slot, std::uint32_t length, std::uint64_t salt);
  void send(int slot, std::uint32_t length, std::uint64_t salt);
  /// Plain receives until that many bytes are there or the stream ends.
  void receive(int slot, std::size_t bytes);
  void shutdown(int slot);
  /// Cancels and waits for both; false when the target had ended before.
  void cancel(Request& target, const char* what);

 private:
  static void completed(Operation& operation, const Completion& completion);
  void take(Request& request, const Completion& completion);

  KernelStage& stage_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<std::int32_t> slots_;
  std::vector<std::string> transcript_;
};

}  // namespace millrace::test
