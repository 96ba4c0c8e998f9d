#include "tests/reactor/kernel_session.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"

namespace millrace::test {

namespace {

std::string text_of(std::int32_t result) {
  return result < 0 ? "error " + std::to_string(-result) : std::to_string(result);
}

std::string hash_of(Bytes bytes) {
  char text[40];
  std::snprintf(text, sizeof(text), "%zu bytes %016llx", bytes.size(), static_cast<unsigned long long>(hash64(bytes)));
  return text;
}

void give_memory(KernelSession::Request& request, std::size_t length) {
  std::size_t rounded = align_up(std::max<std::size_t>(length, 1), block_bytes);
  request.memory = {static_cast<std::byte*>(std::aligned_alloc(block_bytes, rounded)),
                    [](std::byte* memory) { std::free(memory); }};
  std::memset(request.memory.get(), 0xee, rounded);
  request.operation.data = request.memory.get();
  request.operation.length = static_cast<std::uint32_t>(length);
}

}  // namespace

KernelSession::~KernelSession() {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    recycle_held(*requests_[i]);
    if (!requests_[i]->done) cancel(*requests_[i], "what was left");
  }
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot] >= 0) close(static_cast<int>(slot));
}

KernelSession::Request& KernelSession::request(OperationCode code, int slot) {
  requests_.push_back(std::make_unique<Request>());
  Request& made = *requests_.back();
  made.session = this;
  made.operation.code = code;
  made.operation.descriptor = descriptor(slot);
  made.operation.context = &made;
  made.operation.on_complete = completed;
  made.done = true;  // not in flight
  return made;
}

void KernelSession::completed(Operation& operation, const Completion& completion) {
  auto& request = *static_cast<Request*>(operation.context);
  request.session->take(request, completion);
}

void KernelSession::take(Request& request, const Completion& completion) {
  const Operation& operation = request.operation;
  EXPECT_FALSE(request.done) << "a completion after the last";
  EXPECT_TRUE(!completion.more || operation.multishot) << "more from an operation that is no multishot";
  EXPECT_TRUE(!completion.more || completion.result > 0) << "more with " << completion.result;
  EXPECT_EQ(completion.buffer.id >= 0, operation.provided && completion.result > 0);
  request.result = completion.result;
  request.done = !completion.more;
  ++request.completions;
  if (operation.code == OperationCode::accept && completion.result >= 0)
    request.accepted.push_back(add_slot(completion.result));
  if (operation.code != OperationCode::receive || completion.result <= 0) return;
  auto length = static_cast<std::size_t>(completion.result);
  const std::byte* from = operation.provided ? completion.buffer.data : operation.data;
  if (operation.provided) {
    EXPECT_EQ(completion.buffer.length, length);
    EXPECT_LE(length, KernelStage::buffer_bytes);
  }
  request.bytes.insert(request.bytes.end(), from, from + length);
  if (!operation.provided) return;
  if (request.hold) request.held.push_back(completion.buffer);
  else stage_.reactor().kernel().recycle(completion.buffer);
}

void KernelSession::recycle_held(Request& request) {
  for (const ProvidedBuffer& buffer : request.held) stage_.reactor().kernel().recycle(buffer);
  request.held.clear();
  request.hold = false;
}

void KernelSession::submit(Request& request) {
  request.done = false;
  stage_.reactor().submit(request.operation);
}

bool KernelSession::wait(Request& request) {
  if (stage_.pump([&] { return request.done; })) return true;
  note("NO COMPLETION");
  return false;
}

bool KernelSession::wait_bytes(Request& request, std::size_t bytes) {
  if (stage_.pump([&] { return request.done || request.bytes.size() >= bytes; })) return true;
  note("ONLY " + std::to_string(request.bytes.size()) + " OF " + std::to_string(bytes));
  return false;
}

bool KernelSession::wait_accepted(Request& request, std::size_t count) {
  if (stage_.pump([&] { return request.done || request.accepted.size() >= count; })) return true;
  note("ONLY " + std::to_string(request.accepted.size()) + " ACCEPTED");
  return false;
}

std::int32_t KernelSession::run(Request& request) {
  submit(request);
  return wait(request) ? request.result : -ETIME;
}

int KernelSession::add_slot(std::int32_t descriptor) {
  slots_.push_back(descriptor < 0 ? -1 : descriptor);
  return static_cast<int>(slots_.size() - 1);
}

void KernelSession::fill(Request& request, std::size_t length, std::uint64_t salt) {
  give_memory(request, length);
  Random random(salt);
  for (std::size_t at = 0; at < length; at += 8) {
    std::uint64_t bits = random.next();
    std::memcpy(request.memory.get() + at, &bits, std::min<std::size_t>(8, length - at));
  }
}

// --- Files ---------------------------------------------------------------------------------------------------------------

int KernelSession::open(const std::string& path, unsigned flags) {
  Request& open = request(OperationCode::open_file);
  open.path = stage_.directory() + path;
  open.operation.path = open.path.c_str();
  open.operation.open_flags = static_cast<std::uint16_t>(flags);
  open.operation.mode = 0644;
  std::int32_t result = run(open);
  int slot = add_slot(result);
  note("open " + path + " flags " + std::to_string(flags) + " -> " +
       (result < 0 ? text_of(result) : "slot " + std::to_string(slot)));
  return slot;
}

void KernelSession::close(int slot) {
  note("close " + std::to_string(slot) + " -> " + text_of(run(request(OperationCode::close, slot))));
  slots_[static_cast<std::size_t>(slot)] = -1;
}

void KernelSession::read(int slot, std::uint64_t offset, std::uint32_t length) {
  Request& read = request(OperationCode::read, slot);
  give_memory(read, length);
  read.operation.offset = offset;
  std::int32_t result = run(read);
  std::string got = result > 0 ? hash_of({read.operation.data, static_cast<std::size_t>(result)}) : text_of(result);
  note("read " + std::to_string(slot) + " at " + std::to_string(offset) + " of " + std::to_string(length) + " -> " +
       got);
}

KernelSession::Request& KernelSession::start_write(int slot, std::uint64_t offset, std::uint32_t length, bool durable,
                                                   std::uint64_t salt) {
  Request& write = request(OperationCode::write, slot);
  fill(write, length, salt);
  write.operation.offset = offset;
  write.operation.durable = durable;
  submit(write);
  return write;
}

void KernelSession::write(int slot, std::uint64_t offset, std::uint32_t length, bool durable, std::uint64_t salt) {
  Request& write = start_write(slot, offset, length, durable, salt);
  wait(write);
  note("write " + std::to_string(slot) + " at " + std::to_string(offset) + " of " + std::to_string(length) + " -> " +
       text_of(write.result));
}

void KernelSession::extent(OperationCode code, int slot, std::uint64_t offset, std::uint64_t length) {
  Request& extent = request(code, slot);
  extent.operation.offset = offset;
  extent.operation.extent = length;
  note((code == OperationCode::truncate ? "truncate " : "allocate ") + std::to_string(slot) + " " +
       std::to_string(offset) + "+" + std::to_string(length) + " -> " + text_of(run(extent)));
}

// Not every device can: then zeros are written by hand, as everything above the seam does.
void KernelSession::write_zeroes(int slot, std::uint64_t offset, std::uint64_t length) {
  Request& zero = request(OperationCode::write_zeroes, slot);
  zero.operation.offset = offset;
  zero.operation.extent = length;
  std::int32_t result = run(zero);
  if (result == -EOPNOTSUPP) {
    Request& write = request(OperationCode::write, slot);
    give_memory(write, length);
    std::memset(write.operation.data, 0, length);
    write.operation.offset = offset;
    result = run(write) == static_cast<std::int32_t>(length) ? 0 : write.result;
  }
  note("zero " + std::to_string(slot) + " " + std::to_string(offset) + "+" + std::to_string(length) + " -> " +
       text_of(result));
}

void KernelSession::sync(int slot, bool data_only) {
  Request& sync = request(OperationCode::sync, slot);
  sync.operation.data_only = data_only;
  note("sync " + std::to_string(slot) + " -> " + text_of(run(sync)));
}

void KernelSession::lock(int slot) {
  note("lock " + std::to_string(slot) + " -> " + text_of(run(request(OperationCode::lock, slot))));
}

void KernelSession::stat(const std::string& path) {
  Request& stat = request(OperationCode::stat_file);
  stat.path = stage_.directory() + path;
  stat.operation.path = stat.path.c_str();
  stat.operation.status = &stat.status;
  std::int32_t result = run(stat);
  std::string found = stat.status.is_directory ? "directory" : std::to_string(stat.status.size) + " bytes";
  note("stat " + path + " -> " + (result < 0 ? text_of(result) : found));
}

void KernelSession::note_volatile(const std::string& path) {
  note(path + (stage_.has_volatile(path).value_or(false) ? " could still be lost" : " is on the disk"));
}

void KernelSession::name(OperationCode code, const std::string& path, const std::string& path_to, bool directory) {
  Request& name = request(code);
  name.path = stage_.directory() + path;
  name.path_to = stage_.directory() + path_to;
  name.operation.path = name.path.c_str();
  name.operation.path_to = name.path_to.c_str();
  name.operation.remove_directory = directory;
  name.operation.mode = 0755;
  const char* verb = code == OperationCode::rename ? "rename " : code == OperationCode::unlink ? "unlink " : "make ";
  note(verb + path + (directory ? "/" : "") + " " + path_to + " -> " + text_of(run(name)));
}

void KernelSession::list(const std::string& path) {
  Request& list = request(OperationCode::read_directory);
  list.path = stage_.directory() + path;
  list.operation.path = list.path.c_str();
  list.operation.entries = &list.entries;
  std::string line = "list " + path + " -> " + text_of(run(list));
  std::vector<std::string> names;
  for (const DirectoryEntry& entry : list.entries) names.push_back(entry.name + (entry.is_directory ? "/" : ""));
  std::sort(names.begin(), names.end());
  for (const std::string& each : names) line += " " + each;
  note(line);
}

// --- Sockets -------------------------------------------------------------------------------------------------------------

int KernelSession::listen(std::uint16_t& port) {
  Request& listen = request(OperationCode::listen);
  listen.address = {"127.0.0.1", port};
  listen.operation.address = &listen.address;
  listen.operation.length = 16;
  std::int32_t result = run(listen);
  port = listen.address.port;
  int slot = add_slot(result);
  note(std::string("listen -> ") + (result < 0 ? text_of(result) : "slot " + std::to_string(slot)));
  return slot;
}

int KernelSession::connect(std::uint16_t port) {
  Request& connect = request(OperationCode::connect);
  connect.address = {"127.0.0.1", port};
  connect.operation.address = &connect.address;
  std::int32_t result = run(connect);
  int slot = add_slot(result);
  note(std::string("connect -> ") + (result < 0 ? text_of(result) : "slot " + std::to_string(slot)));
  return slot;
}

KernelSession::Ends KernelSession::pair() {
  std::uint16_t port = 0;
  int listener = listen(port);
  Request& accept = start_accept(listener, false);
  int client = connect(port);
  wait(accept);
  close(listener);
  return {accept.accepted.empty() ? add_slot(-1) : accept.accepted.front(), client};
}

KernelSession::Request& KernelSession::start_accept(int slot, bool multishot) {
  Request& accept = request(OperationCode::accept, slot);
  accept.operation.multishot = multishot;
  submit(accept);
  return accept;
}

KernelSession::Request& KernelSession::start_receive(int slot, std::uint32_t length) {
  Request& receive = request(OperationCode::receive, slot);
  give_memory(receive, length);
  submit(receive);
  return receive;
}

KernelSession::Request& KernelSession::start_provided(int slot, bool multishot, bool hold) {
  Request& receive = request(OperationCode::receive, slot);
  receive.operation.provided = true;
  receive.operation.multishot = multishot;
  receive.hold = hold;
  submit(receive);
  return receive;
}

KernelSession::Request& KernelSession::start_send(int slot, std::uint32_t length, std::uint64_t salt) {
  Request& send = request(OperationCode::send, slot);
  fill(send, length, salt);
  submit(send);
  return send;
}

void KernelSession::send(int slot, std::uint32_t length, std::uint64_t salt) {
  Request& send = start_send(slot, length, salt);
  wait(send);
  note("send " + std::to_string(slot) + " of " + std::to_string(length) + " -> " + text_of(send.result));
}

void KernelSession::receive(int slot, std::size_t bytes) {
  std::vector<std::byte> all;
  std::int32_t result = 1;
  while (all.size() < bytes && result > 0) {
    Request& piece = start_receive(slot, static_cast<std::uint32_t>(bytes - all.size()));
    if (!wait(piece)) return;
    result = piece.result;
    all.insert(all.end(), piece.bytes.begin(), piece.bytes.end());
  }
  note("receive " + std::to_string(slot) + " -> " + hash_of(all) + (result <= 0 ? ", then " + text_of(result) : ""));
}

void KernelSession::shutdown(int slot) {
  note("shutdown " + std::to_string(slot) + " -> " + text_of(run(request(OperationCode::shutdown, slot))));
}

void KernelSession::cancel(Request& target, const char* what) {
  bool ended = target.done;
  Request& cancel = request(OperationCode::cancel);
  cancel.operation.target = &target.operation;
  std::int32_t result = run(cancel);
  if (!ended) wait(target);
  std::string line = std::string("cancel ") + what + " -> " + text_of(result);
  bool part = target.operation.code == OperationCode::send && target.result > 0 &&
              static_cast<std::uint32_t>(target.result) < target.operation.length;
  if (!ended) line += ", target " + (part ? "sent a part" : text_of(target.result));
  note(line);
}

}  // namespace millrace::test
