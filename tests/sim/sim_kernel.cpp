#include "tests/sim/sim_kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.hpp"

namespace millrace::sim {

namespace {
constexpr Nanos monotonic_at_boot = 1'000'000'000;
constexpr std::byte recycled_byte{0xdb};
}  // namespace

SimKernel::SimKernel(SimWorld& world, SimProcess& process, std::size_t shard, std::uint64_t seed)
    : world_(world),
      process_(process),
      node_(process.node()),
      shard_(shard),
      seed_random_(split_seed(seed, "seed")),
      disk_random_(split_seed(seed, "disk")),
      socket_random_(split_seed(seed, "socket")) {
  features_.name = "sim";
  has_write_zeroes_ = !world.strike(FaultClass::write_zeroes_missing, node_);
}

SimKernel::~SimKernel() = default;

void SimKernel::submit(Operation& operation) {
  if (dead_) return;
  queued_.push_back(&operation);
  world_.schedule_turn(process_, shard_, world_.now() + 1);
}

std::size_t SimKernel::poll(std::span<Completion> target, Nanos) {
  if (dead_) return 0;
  woken_ = false;
  while (!queued_.empty()) {
    Operation& operation = *queued_.front();
    queued_.pop_front();
    begin(operation);
  }
  std::size_t count = std::min(target.size(), ready_.size());
  std::copy_n(ready_.begin(), count, target.begin());
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

Nanos SimKernel::now() { return world_.now() - node_.boot_at + monotonic_at_boot; }
Nanos SimKernel::wall_now() { return world_.wall_now(node_); }

void SimKernel::wake() {
  if (dead_) return;
  woken_ = true;
  world_.schedule_turn(process_, shard_, world_.now() + 1);
}

std::size_t SimKernel::register_memory(MutableBytes memory) {
  features_.registered_bytes += memory.size();
  return memory.size();
}

Result<> SimKernel::provide_buffers(std::size_t count, std::size_t bytes_each) {
  MR_ASSERT(buffers_.empty() && count > 0 && bytes_each > 0 && (bytes_each & (bytes_each - 1)) == 0);
  buffer_bytes_ = bytes_each;
  for (std::size_t i = 0; i < count; ++i) {
    buffers_.push_back(std::make_unique<std::byte[]>(bytes_each));
    free_buffers_.push_back(static_cast<std::int32_t>(i));
  }
  buffer_lent_.resize(count, false);
  return {};
}

void SimKernel::recycle(const ProvidedBuffer& buffer) {
  if (dead_) return;
  auto index = static_cast<std::size_t>(buffer.id);
  MR_ASSERT(buffer.id >= 0 && index < buffers_.size() && buffer_lent_[index]);
  buffer_lent_[index] = false;
  std::memset(buffers_[index].get(), static_cast<int>(recycled_byte), buffer_bytes_);
  free_buffers_.push_back(buffer.id);
  for (std::uint64_t flight : std::exchange(starved_, {})) run_later<&SimKernel::progress>(flight, 0);
}

bool SimKernel::is_file_operation(OperationCode code) const {
  return code >= OperationCode::open_file && code <= OperationCode::lock && code != OperationCode::close;
}

/// Resolves the descriptor; 0 or -EBADF. The flight keeps what it refers to alive, as the ring does.
std::int32_t SimKernel::claim(Flight& flight) {
  auto* file = process_.descriptor(flight.operation->descriptor);
  if (file == nullptr) return -EBADF;
  flight.inode = file->inode;
  flight.socket = file->socket;
  flight.open_file = file->number;
  return 0;
}

void SimKernel::begin(Operation& operation) {
  ++world_.operations;
  std::uint64_t id = world_.next_number();
  auto flight = flights_.try_emplace(id).first;
  flight->second.operation = &operation;
  flight->second.id = id;
  operation.kernel_word = id;
  if (operation.code == OperationCode::nop) finish_later(id, 0, 100);
  else if (operation.code == OperationCode::close) close_descriptor(flight);
  else if (is_file_operation(operation.code)) begin_file(flight);
  else begin_socket(flight);
}

void SimKernel::finish(Flights::iterator at, std::int32_t result, bool more, ProvidedBuffer buffer) {
  Flight& flight = at->second;
  Operation& operation = *flight.operation;
  ready_.push_back({&operation, result, buffer, more});
  ++world_.outcomes[{operation.code, result < 0 ? -result : 0}];
  world_.mix(20 + static_cast<std::uint64_t>(operation.code), flight.id, static_cast<std::uint64_t>(result));
  if (world_.tracing())
    world_.say("%s/%zu: operation %llu code %d fd %d offset %llu length %u %s -> %d%s", node_.name.c_str(), shard_,
               static_cast<unsigned long long>(flight.id), static_cast<int>(operation.code), operation.descriptor,
               static_cast<unsigned long long>(operation.offset), operation.length,
               operation.path != nullptr ? operation.path : "", result, more ? " (more)" : "");
  if (!more) {
    stop_waiting(flight);
    SocketPtr socket = flight.socket;
    flights_.erase(at);
    if (socket) wait_ended(socket);
  }
  world_.schedule_turn(process_, shard_, world_.now());
}

/// An operation no longer waits at this socket: the next one's turn, or the end of a connection that was closed before.
void SimKernel::wait_ended(const SocketPtr& socket) {
  bool idle = true;
  for (auto* waiters : {&socket->receivers, &socket->senders, &socket->accepters}) {
    if (waiters->empty()) continue;
    idle = false;
    world_.at(
        world_.now(),
        [](void* object, std::uint64_t id, std::uint64_t) { static_cast<SimKernel*>(object)->socket_changed(id); },
        waiters->front().kernel, waiters->front().flight, 0);
  }
  if (idle && socket->closed && !socket->vanished) world_.network().close(socket);
}

void SimKernel::finish_later(std::uint64_t id, std::int32_t result, Nanos delay) {
  world_.at(
      world_.now() + delay,
      [](void* object, std::uint64_t id_, std::uint64_t result_) {
        auto& kernel = *static_cast<SimKernel*>(object);
        if (auto found = kernel.flights_.find(id_); found != kernel.flights_.end())
          kernel.finish(found, static_cast<std::int32_t>(result_));
      },
      this, id, static_cast<std::uint64_t>(static_cast<std::int64_t>(result)));
}

void SimKernel::die() {
  for (auto& [id, flight] : flights_) {
    resolve_at_death(flight);
    stop_waiting(flight);
    if (flight.socket && flight.socket->closed && !flight.socket->vanished) world_.network().close(flight.socket);
  }
  dead_ = true;
  queued_.clear();
  flights_.clear();
  ready_.clear();
}

}  // namespace millrace::sim
