// The kernels behind the seam are one kernel to everything above it: the same scripts of operations play on io_uring in
// every mode, on the posix kernel and on the simulated one (without faults), and give the same completions and files.
#include <gtest/gtest.h>

#include <set>

#include "base/hash.hpp"
#include "tests/reactor/differential.hpp"

namespace millrace::test {

namespace {

INSTANTIATE_TEST_SUITE_P(Modes, Differential, ::testing::ValuesIn(all_modes()), mode_name);

constexpr unsigned read_write = open_read | open_write;

// --- Files ---------------------------------------------------------------------------------------------------------------

/// Durable direct writes side by side, as the commit path makes them, then read back through another descriptor.
void write_groups(KernelSession& session, std::uint64_t) {
  session.name(OperationCode::make_directory, "shard");
  int file = session.open("shard/data", read_write | open_create | open_exclusive | open_direct);
  session.extent(OperationCode::allocate, file, 0, 1 * MiB);
  session.stat("shard/data");
  std::vector<KernelSession::Request*> writes;
  for (std::uint64_t i = 0; i < 16; ++i)
    writes.push_back(
        &session.start_write(file, i * 3 * block_bytes, static_cast<std::uint32_t>(2 * block_bytes), true, i));
  for (auto* write : writes) {
    session.wait(*write);
    session.note("wrote " + std::to_string(write->result));
  }
  session.sync(file, true);
  int back = session.open("shard/data", open_read);
  session.read(back, 0, 64 * KiB);
  session.read(file, 45 * block_bytes, 32 * KiB);
  int folder = session.open("shard", open_read | open_directory);
  session.sync(folder, false);
  session.name(OperationCode::rename, "shard/data", "shard/data000000");
  session.extent(OperationCode::truncate, file, 0, 48 * block_bytes);
  session.read(back, 40 * block_bytes, 64 * KiB);
  session.list("shard");
}

void refuse_what_cannot_be(KernelSession& session, std::uint64_t) {
  session.open("absent", open_read);
  session.open("absent/below", read_write | open_create);
  int file = session.open("file", open_write | open_create);
  session.open("file", open_write | open_create | open_exclusive);
  session.open("file", open_read | open_directory);
  session.open("file/below", open_read);
  session.read(file, 0, 10);
  session.write(file, 0, 5000, false, 1);
  int reader = session.open("file", open_read);
  session.write(reader, 0, 10, false, 2);
  session.extent(OperationCode::allocate, reader, 0, block_bytes);
  session.extent(OperationCode::truncate, reader, 0, 10);
  session.extent(OperationCode::allocate, file, 0, 0);
  session.read(reader, 4000, 2000);
  session.read(reader, 5000, 10);
  session.read(reader, 1 * GiB, 10);
  int direct = session.open("file", read_write | open_direct);
  session.read(direct, 1, 100);
  session.write(direct, 7, 4096, true, 3);
  session.write(direct, 0, 100, true, 3);
  session.read(direct, 0, 8192);
  session.close(reader);
  session.read(reader, 0, 10);
  session.write(reader, 0, 10, true, 4);
  session.sync(reader, true);
  session.lock(reader);
  session.close(reader);
  session.name(OperationCode::make_directory, "file");
  session.name(OperationCode::make_directory, "a");
  session.name(OperationCode::make_directory, "a/b");
  session.name(OperationCode::unlink, "a");
  session.name(OperationCode::unlink, "a", "", true);
  session.name(OperationCode::unlink, "file", "", true);
  session.name(OperationCode::rename, "a", "a/b/c");
  session.name(OperationCode::rename, "a", "file");
  session.name(OperationCode::rename, "file", "a");
  session.name(OperationCode::rename, "absent", "file");
  session.name(OperationCode::rename, "file", "absent/file");
  session.list("file");
  session.list("absent");
  session.list("a");
  int folder = session.open("a", open_read | open_directory);
  session.read(folder, 0, 10);
  session.open("a", open_write);
}

void lock_once(KernelSession& session, std::uint64_t) {
  int first = session.open("lock", read_write | open_create);
  int second = session.open("lock", read_write);
  session.lock(first);
  session.lock(first);
  session.lock(second);
  session.close(first);
  session.lock(second);
  session.name(OperationCode::unlink, "lock");
  int other = session.open("lock", read_write | open_create);
  session.lock(other);
  session.list("");
}

/// What was written durably, or synced, no power cut takes: the simulated disk knows, and the system's page cache shows.
void write_what_stays(KernelSession& session, std::uint64_t) {
  int file = session.open("stays", read_write | open_create);
  session.write(file, 0, 20'000, true, 1);
  session.note_volatile("stays");
  session.write(file, 4000, 100'000, true, 2);
  session.note_volatile("stays");
  for (bool data_only : {true, false}) {
    session.write(file, 200'000, 30'000, false, 3);
    session.sync(file, data_only);
    session.note_volatile("stays");
  }
  // Within the file: growing it touches the page of the old end, which the system may leave for later.
  std::vector<KernelSession::Request*> writes;
  for (std::uint64_t i = 0; i < 8; ++i) writes.push_back(&session.start_write(file, i * 25'000, 9'000, true, 10 + i));
  for (auto* write : writes) session.wait(*write);
  session.note_volatile("stays");
  session.read(file, 0, 400'000);
}

/// An unlinked file lives while it is open; a replaced one too.
void outlive_names(KernelSession& session, std::uint64_t) {
  int old = session.open("a", read_write | open_create);
  session.write(old, 0, 3000, false, 1);
  int fresh = session.open("b", read_write | open_create);
  session.write(fresh, 0, 2000, true, 2);
  session.name(OperationCode::rename, "b", "a");
  session.read(old, 0, 4000);
  session.stat("a");
  session.name(OperationCode::unlink, "a");
  session.read(fresh, 0, 4000);
  session.write(fresh, 2000, 500, true, 3);
  session.sync(fresh, false);
  session.read(fresh, 0, 4000);
  session.stat("a");
  session.list("");
}

class RandomFiles {
 public:
  RandomFiles(KernelSession& session, std::uint64_t seed) : session_(session), random_(seed) {}
  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2: return open();
      case 3: return session_.close(any_slot());
      case 4:
      case 5: return write();
      case 6: return write_together();
      case 7:
      case 8: return read();
      case 9: return session_.extent(OperationCode::allocate, any_slot(), offset(), length());
      case 10: return session_.extent(OperationCode::truncate, any_slot(), 0, offset());
      case 11: return session_.write_zeroes(writable(), block(), block_bytes * (1 + random_.below(4)));
      case 12: return session_.sync(any_slot(), random_.below(2) == 0);
      case 13: return change_names();
      case 14: return session_.list(random_.below(2) == 0 ? "" : "d");
      default: return random_.below(2) == 0 ? session_.lock(any_slot()) : session_.stat(any_name());
    }
  }

 private:
  std::string any_name() {
    static constexpr const char* names[] = {"a", "b", "c", "d", "d/a", "d/b", "d/e", "a/b", "e"};
    return names[random_.below(std::size(names))];
  }
  int any_slot() {
    if (slots_.empty()) open();
    return slots_[random_.below(slots_.size())];
  }
  /// A file of its own that is open for writing: zeros by hand need a descriptor that can.
  int writable() { return session_.open("zeroed", read_write | open_create); }
  std::uint64_t block() { return block_bytes * random_.below(24); }
  std::uint64_t offset() { return random_.below(3) == 0 ? random_.below(100'000) : block(); }
  std::uint64_t length() {
    return random_.below(3) == 0 ? 1 + random_.below(30'000) : block_bytes * (1 + random_.below(8));
  }

  void open() {
    unsigned flags = random_.below(4) == 0 ? unsigned{open_read} : read_write;
    if (random_.below(3) != 0) flags |= open_create;
    if ((flags & open_create) != 0 && random_.below(4) == 0) flags |= open_exclusive;
    if ((flags & open_write) != 0 && random_.below(6) == 0) flags |= open_truncate;
    std::string name = any_name();
    bool folder = name == "d";
    if (folder) flags = open_read | (random_.below(2) == 0 ? unsigned{open_directory} : 0U);
    else if (random_.below(2) == 0) flags |= open_direct;
    slots_.push_back(session_.open(name, flags));
    if ((flags & open_direct) != 0) direct_.insert(slots_.back());
  }
  // A misaligned direct read behind the end is an error on some filesystems and nothing on others.
  void read() {
    int slot = any_slot();
    bool direct = direct_.contains(slot);
    std::uint64_t from = direct ? block() : offset();
    session_.read(slot, from, static_cast<std::uint32_t>(direct ? align_up(length(), block_bytes) : length()));
  }
  void write() {
    session_.write(any_slot(), offset(), static_cast<std::uint32_t>(length()), random_.below(2) == 0, random_.next());
  }
  void write_together() {
    std::vector<KernelSession::Request*> writes;
    int slot = any_slot();
    for (std::uint64_t at = 0; at < 6; ++at)
      writes.push_back(&session_.start_write(slot, 2 * at * block_bytes, static_cast<std::uint32_t>(block_bytes), true,
                                             random_.next()));
    for (auto* write : writes) {
      session_.wait(*write);
      session_.note("together " + std::to_string(write->result));
    }
  }
  void change_names() {
    switch (random_.below(4)) {
      case 0: return session_.name(OperationCode::make_directory, random_.below(2) == 0 ? "d" : "d/e");
      case 1: return session_.name(OperationCode::unlink, any_name(), "", random_.below(3) == 0);
      default: return session_.name(OperationCode::rename, any_name(), any_name());
    }
  }

  KernelSession& session_;
  Random random_;
  std::vector<int> slots_;
  std::set<int> direct_;
};

void do_anything_with_files(KernelSession& session, std::uint64_t seed) {
  RandomFiles files(session, seed);
  for (int i = 0; i < 80; ++i) files.step();
}

// --- Sockets -------------------------------------------------------------------------------------------------------------

void talk(KernelSession& session, std::uint64_t) {
  auto [server, client] = session.pair();
  session.send(client, 10, 1);
  session.receive(server, 10);
  auto& large = session.start_send(client, 3'000'000, 2);
  session.receive(server, 3'000'000);
  session.wait(large);
  session.note("large " + std::to_string(large.result));
  auto& waiting = session.start_receive(client, 100);
  session.send(server, 100, 3);
  session.wait(waiting);
  session.note("answer " + std::to_string(waiting.result));
  session.shutdown(client);
  session.receive(server, 1);
  session.send(client, 1, 4);
  session.receive(client, 1);
  session.close(client);
  session.send(client, 1, 4);
  session.receive(client, 1);
  session.shutdown(client);
}

void receive_into_provided_buffers(KernelSession& session, std::uint64_t) {
  auto [server, client] = session.pair();
  session.send(client, 700, 1);
  auto& once = session.start_provided(server, false);
  session.wait(once);
  session.note("once " + std::to_string(once.result) + " " + std::to_string(hash64(once.bytes)));

  auto& stream = session.start_provided(server, true);
  auto& large = session.start_send(client, 1'000'000, 2);
  session.wait_bytes(stream, 1'000'000);
  session.wait(large);
  session.note("stream " + std::to_string(hash64(stream.bytes)) + (stream.done ? " ended" : " goes on"));
  session.send(client, 5, 3);
  session.wait_bytes(stream, 1'000'005);
  session.shutdown(client);
  session.wait(stream);
  session.note("end " + std::to_string(stream.result) + " after " + std::to_string(hash64(stream.bytes)));
}

/// A receive that finds no buffer waits for one: nobody above sees a difference.
void wait_for_buffers(KernelSession& session, std::uint64_t) {
  constexpr std::size_t all = KernelStage::buffer_count * KernelStage::buffer_bytes;
  auto [server, client] = session.pair();
  auto& greedy = session.start_provided(server, true, true);
  session.send(client, 4 * all, 1);
  session.wait_bytes(greedy, all);
  session.note("held " + std::to_string(greedy.bytes.size()) + (greedy.done ? " ended" : " goes on"));
  auto second = session.pair();
  auto& starving = session.start_provided(second.server, true);
  session.send(second.client, 100, 2);
  session.rest();
  session.note(starving.bytes.empty() && !starving.done ? "starving" : "not starving");
  session.cancel(starving, "a receive without a buffer");
  session.recycle_held(greedy);
  session.wait_bytes(greedy, 4 * all);
  session.note("all " + std::to_string(hash64(greedy.bytes)));
  session.cancel(greedy, "the stream");
}

void accept_many(KernelSession& session, std::uint64_t) {
  std::uint16_t port = 0;
  int listener = session.listen(port);
  auto& accept = session.start_accept(listener, true);
  for (std::size_t i = 1; i <= 5; ++i) {
    int client = session.connect(port);
    session.wait_accepted(accept, i);
    session.note(accept.done ? "ended" : "goes on");
    session.send(client, 64, i);
    session.receive(accept.accepted.back(), 64);
  }
  session.cancel(accept, "accept");
  auto& once = session.start_accept(listener, false);
  session.connect(port);
  session.wait(once);
  session.note("once " + std::to_string(once.completions));
  auto& last = session.start_accept(listener, true);
  session.shutdown(listener);
  session.wait(last);
  session.note("after shutdown " + std::to_string(last.result));
  session.close(listener);
  session.connect(port);
  session.listen(port);
}

void cancel_anything(KernelSession& session, std::uint64_t) {
  auto [server, client] = session.pair();
  session.cancel(session.start_receive(server, 10), "a receive");
  session.cancel(session.start_provided(server, true), "a multishot receive");
  session.cancel(session.start_provided(server, false), "a provided receive");
  auto& unread = session.start_send(client, 64'000'000, 1);
  session.rest();
  session.cancel(unread, "a send that nobody reads");
  auto second = session.pair();
  auto& done = session.start_send(second.client, 10, 2);
  session.wait(done);
  session.cancel(done, "what has ended");
  session.cancel(session.request(OperationCode::receive, second.server), "what never began");
  session.receive(second.server, 10);
  // Two wait; the first goes, the second is served.
  auto& front = session.start_receive(second.server, 10);
  auto& behind = session.start_receive(second.server, 10);
  session.cancel(front, "the first of two");
  session.send(second.client, 10, 3);
  session.wait(behind);
  session.note("behind " + std::to_string(behind.result));
  auto& misplaced = session.start_accept(second.server, true);
  session.wait(misplaced);
  session.note("an accept on no listener " + std::to_string(misplaced.result));
}

class RandomSockets {
 public:
  RandomSockets(KernelSession& session, std::uint64_t seed) : session_(session), random_(seed) {}
  /// One connection, served in one of the ways a receiver may choose, in both directions.
  void converse() {
    auto [server, client] = session_.pair();
    bool swap = random_.below(2) == 0;
    int from = swap ? server : client, to = swap ? client : server;
    for (int turn = 0; turn < 6; ++turn) {
      std::size_t bytes = 1 + random_.below(random_.below(4) == 0 ? 300'000 : 3'000);
      switch (random_.below(4)) {
        case 0: plainly(from, to, bytes); break;
        case 1: one_by_one(from, to, bytes); break;
        case 2: streaming(from, to, bytes); break;
        default: several(from, to, bytes); break;
      }
      if (random_.below(4) == 0) std::swap(from, to);
    }
    end(from, to);
  }

 private:
  void plainly(int from, int to, std::size_t bytes) {
    auto& send = session_.start_send(from, static_cast<std::uint32_t>(bytes), random_.next());
    session_.receive(to, bytes);
    session_.wait(send);
    session_.note("sent " + std::to_string(send.result));
  }
  void one_by_one(int from, int to, std::size_t bytes) {
    auto& send = session_.start_send(from, static_cast<std::uint32_t>(bytes), random_.next());
    std::vector<std::byte> all;
    while (all.size() < bytes) {
      auto& piece = session_.start_provided(to, false);
      if (!session_.wait(piece) || piece.result <= 0) return session_.note("PIECE " + std::to_string(piece.result));
      all.insert(all.end(), piece.bytes.begin(), piece.bytes.end());
    }
    session_.wait(send);
    session_.note("pieces " + std::to_string(hash64(all)));
  }
  void streaming(int from, int to, std::size_t bytes) {
    auto& stream = session_.start_provided(to, true);
    auto& send = session_.start_send(from, static_cast<std::uint32_t>(bytes), random_.next());
    session_.wait_bytes(stream, bytes);
    session_.wait(send);
    session_.note("streamed " + std::to_string(hash64(stream.bytes)));
    session_.cancel(stream, "the stream");
  }
  /// Sends handed over together leave in their order.
  void several(int from, int to, std::size_t bytes) {
    std::vector<KernelSession::Request*> sends;
    for (int i = 0; i < 4; ++i)
      sends.push_back(&session_.start_send(from, static_cast<std::uint32_t>(bytes), random_.next()));
    session_.receive(to, 4 * bytes);
    for (auto* send : sends) {
      session_.wait(*send);
      session_.note("one of several " + std::to_string(send->result));
    }
  }
  void end(int from, int to) {
    auto& waiting = session_.start_provided(to, random_.below(2) == 0);
    if (random_.below(2) == 0) session_.shutdown(from);
    else session_.close(from);
    session_.wait(waiting);
    session_.note("end " + std::to_string(waiting.result));
    session_.close(to);
  }

  KernelSession& session_;
  Random random_;
};

void do_anything_with_sockets(KernelSession& session, std::uint64_t seed) {
  RandomSockets sockets(session, seed);
  for (int i = 0; i < 4; ++i) sockets.converse();
}

TEST_P(Differential, groups_written_side_by_side) { compare(write_groups); }
TEST_P(Differential, what_cannot_be_is_refused_alike) { compare(refuse_what_cannot_be); }
TEST_P(Differential, locks) { compare(lock_once); }
TEST_P(Differential, files_outlive_their_names) { compare(outlive_names); }
TEST_P(Differential, durable_means_durable) { compare(write_what_stays); }
TEST_P(Differential, random_scripts_of_files) { compare_seeds(do_anything_with_files, 12); }
TEST_P(Differential, talk) { compare(talk); }
TEST_P(Differential, provided_buffers) { compare(receive_into_provided_buffers); }
TEST_P(Differential, no_buffer_left) { compare(wait_for_buffers); }
TEST_P(Differential, accept) { compare(accept_many); }
TEST_P(Differential, cancel) { compare(cancel_anything); }
TEST_P(Differential, random_scripts_of_sockets) { compare_seeds(do_anything_with_sockets, 8); }

/// The measure itself: bytes that were only written are seen to be volatile, unless the system wrote them back meanwhile.
TEST_P(Differential, plain_writes_are_volatile) {
  auto sim = sim_stage(1), real = real_stage(GetParam());
  for (KernelStage* stage : {sim.get(), real.get()}) {
    KernelSession session(*stage);
    int file = session.open("file", read_write | open_create);
    std::optional<bool> seen;
    for (std::uint64_t i = 0; i < 20 && !seen.value_or(false); ++i) {
      session.write(file, i * 10'000, 10'000, false, i);
      seen = stage->has_volatile("file");
      if (!seen) break;
    }
    EXPECT_TRUE(seen.value_or(true));
  }
}

}  // namespace

}  // namespace millrace::test
