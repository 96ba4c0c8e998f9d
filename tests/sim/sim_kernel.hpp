// The kernel seam in memory: Operations become events of a SimWorld over the node's SimDisk and the SimNetwork, with
// latency, reordering and faults. One SimKernel a shard; poll() never blocks, the world decides when a turn is due.
//
// A write's bytes are taken at a random moment between hand-over and completion, and the memory of a read is poisoned
// while it is in flight, so that touching either too early shows.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "reactor/kernel.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::sim {

class SimKernel final : public Kernel {
 public:
  SimKernel(SimWorld& world, SimProcess& process, std::size_t shard, std::uint64_t seed);
  ~SimKernel() override;

  void submit(Operation& operation) override;
  std::size_t poll(std::span<Completion> target, Nanos deadline) override;
  Nanos now() override;
  Nanos wall_now() override;
  void wake() override;
  std::uint64_t seed() override { return seed_random_.next(); }
  std::size_t register_memory(MutableBytes memory) override;
  Result<> provide_buffers(std::size_t count, std::size_t bytes_each) override;
  void recycle(const ProvidedBuffer& buffer) override;
  const KernelFeatures& features() const override { return features_; }

  /// True when a turn has something to do here.
  bool has_work() const { return !queued_.empty() || !ready_.empty() || woken_; }
  std::size_t in_flight() const { return flights_.size(); }
  /// A socket one of this kernel's flights waits on has changed.
  void socket_changed(std::uint64_t flight);
  /// The process is being killed: in-flight operations happen, happen in part, or do not; no completion will follow.
  void die();

 private:
  /// One operation the system has taken.
  struct Flight {
    Operation* operation = nullptr;
    std::uint64_t id = 0;
    std::uint64_t stamp = 0;  // of the disk, when it was handed over
    std::uint64_t open_file = 0;
    InodePtr inode;
    SocketPtr socket;
    std::vector<std::byte> sample;  // what a write carries, once taken
    bool sampled = false;
    std::uint64_t done = 0;      // send: bytes the connection has taken
    std::uint64_t attempts = 0;  // connect
  };
  using Flights = std::map<std::uint64_t, Flight>;

  void begin(Operation& operation);
  void note_failed_commit(const Flight& flight, std::int32_t result);
  void finish(Flights::iterator flight, std::int32_t result, bool more = false, ProvidedBuffer buffer = {});
  void finish_later(std::uint64_t id, std::int32_t result, Nanos delay);
  void wait_ended(const SocketPtr& socket);
  using Step = void (SimKernel::*)(Flights::iterator);
  /// Calls the step after `delay`, unless the flight has ended by then.
  template <Step step>
  void run_later(std::uint64_t id, Nanos delay) {
    world_.at(
        world_.now() + delay,
        [](void* object, std::uint64_t flight, std::uint64_t) {
          auto& kernel = *static_cast<SimKernel*>(object);
          if (auto found = kernel.flights_.find(flight); found != kernel.flights_.end()) (kernel.*step)(found);
        },
        this, id, 0);
  }
  bool is_file_operation(OperationCode code) const;
  std::int32_t claim(Flight& flight);

  // Files: sim_kernel_files.cpp.
  Nanos disk_latency(const Operation& operation);
  void begin_file(Flights::iterator flight);
  void complete_file(Flights::iterator flight);
  std::int32_t refused(const Operation& operation);
  std::int32_t do_file(Flight& flight);
  std::int32_t do_open(Flight& flight);
  std::int32_t do_read(Flight& flight);
  std::int32_t read_damaged(Flight& flight, std::size_t length);
  std::int32_t do_write(Flight& flight);
  void store(Flight& flight, Bytes bytes, bool durable);
  bool store_wrongly(Flight& flight, Bytes bytes);
  std::int32_t do_sync(Flight& flight);
  std::int32_t do_allocate(Flight& flight);
  std::int32_t do_names(Flight& flight);
  std::int32_t do_stat(Flight& flight);
  std::int32_t do_map(Flight& flight);
  std::int32_t do_lock(Flight& flight);
  bool mistreated(const Operation& operation, std::int32_t& result);
  void take_sample(Flights::iterator flight);
  void resolve_at_death(Flight& flight);

  // Sockets: sim_kernel_sockets.cpp.
  void begin_socket(Flights::iterator flight);
  void do_listen(Flights::iterator flight);
  void try_connect(Flights::iterator flight);
  void progress(Flights::iterator flight);
  void progress_accept(Flights::iterator flight);
  void progress_receive(Flights::iterator flight);
  void receive_provided(Flights::iterator flight);
  void progress_send(Flights::iterator flight);
  void close_descriptor(Flights::iterator flight);
  void cancel(Flights::iterator flight);
  void stop_waiting(Flight& flight);
  std::deque<SocketWaiter>* waiters_of(Flight& flight);

  SimWorld& world_;
  SimProcess& process_;
  SimNode& node_;
  const std::size_t shard_;
  Random seed_random_;
  Random disk_random_;
  Random socket_random_;
  KernelFeatures features_;
  bool dead_ = false;
  bool woken_ = false;
  bool has_write_zeroes_ = true;

  std::deque<Operation*> queued_;
  Flights flights_;
  std::deque<Completion> ready_;

  std::size_t buffer_bytes_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> buffers_;
  std::deque<std::int32_t> free_buffers_;
  std::vector<bool> buffer_lent_;
  std::vector<std::uint64_t> starved_;  // flights that found no free buffer
};

}  // namespace millrace::sim
