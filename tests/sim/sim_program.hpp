// A process made of one coroutine a shard, for tests of whatever runs on the simulated kernel.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "reactor/reactor.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::sim {

class CoroutineProgram final : public SimProgram {
 public:
  /// Called once a shard. Must be a plain function (or a closure that calls one): a coroutine lambda loses its captures.
  using Body = std::function<Task<>(Reactor& reactor, std::size_t shard)>;

  CoroutineProgram(std::span<Kernel* const> kernels, Body body) : body_(std::move(body)) {
    for (Kernel* kernel : kernels) {
      owned_.push_back(std::make_unique<Reactor>(*kernel));
      reactors_.push_back(owned_.back().get());
    }
    running_ = reactors_.size();
    for (std::size_t shard = 0; shard < reactors_.size(); ++shard)
      reactors_[shard]->spawn(run(*reactors_[shard], *this, shard));
  }
  ~CoroutineProgram() override = default;

  std::span<Reactor* const> reactors() override { return reactors_; }
  bool finished() const override { return running_ == 0; }

  /// A factory for SimWorld::start.
  static ProgramFactory factory(Body body) {
    return [body = std::move(body)](std::span<Kernel* const> kernels) {
      return std::make_unique<CoroutineProgram>(kernels, body);
    };
  }

 private:
  static Task<> run(Reactor& reactor, CoroutineProgram& self, std::size_t shard) {
    auto task = self.body_(reactor, shard);
    auto ended = co_await task;
    --self.running_;
    co_return ended;
  }

  Body body_;
  std::size_t running_ = 0;
  std::vector<std::unique_ptr<Reactor>> owned_;  // destroyed first: its frames refer to what stands above
  std::vector<Reactor*> reactors_;
};

/// Runs one coroutine as a process of `node` to its end. False when it did not end within `limit` of simulated time.
inline bool run_program(SimWorld& world, SimNode& node, CoroutineProgram::Body body, Nanos limit = 60'000'000'000) {
  SimProcess& process = world.start(node, 1, CoroutineProgram::factory(std::move(body)));
  return world.run_until([&] { return !process.running(); }, limit);
}

}  // namespace millrace::sim
