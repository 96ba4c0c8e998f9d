#include "server/threads.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <latch>
#include <memory>
#include <optional>
#include <vector>

#include "reactor/kernel_choice.hpp"
#include "reactor/placement.hpp"
#include "reactor/thread.hpp"
#include "server/file_plan.hpp"

namespace millrace {

/// Where the threads meet: none of them serves before all have a kernel.
class ServerThreads::Rendezvous {
 public:
  explicit Rendezvous(std::uint32_t count) : complaints_(count), ready_(count) {}

  /// Every thread, once; false when one of them has a complaint.
  bool arrive(std::uint32_t number, std::string complaint) {
    complaints_[number] = std::move(complaint);
    ready_.arrive_and_wait();
    return first_complaint().empty();
  }
  /// For a thread that could not be started.
  void arrive_for(std::uint32_t number, std::string complaint) {
    complaints_[number] = std::move(complaint);
    ready_.count_down();
  }
  std::string first_complaint() const {
    for (const std::string& complaint : complaints_)
      if (!complaint.empty()) return complaint;
    return {};
  }

 private:
  std::vector<std::string> complaints_;
  std::latch ready_;
};

namespace {

Task<> peek(Reactor& reactor, std::string directory, std::optional<std::uint32_t>& shards) {
  auto peeking = peek_shard_count(reactor, std::move(directory));
  auto peeked = co_await peeking;
  shards = peeked ? *peeked : 0;
  co_return Result<>();
}

/// What the directory has; 0 when there is none yet, or no kernel to look with: that complaint comes later.
std::uint32_t shards_of(const ServerConfig& config) {
  std::string why;
  auto kernel = make_kernel(config.kernel, why);
  if (!kernel) return 0;
  Reactor reactor(**kernel);
  std::optional<std::uint32_t> shards;
  reactor.spawn(peek(reactor, config.data, shards));
  while (!shards) reactor.turn(wait_forever);
  return *shards;
}

}  // namespace

std::uint32_t ServerThreads::count(const ServerConfig& config) {
  if (!config.cores.empty()) return static_cast<std::uint32_t>(config.cores.size());
  std::uint32_t shards = config.shards != 0 ? config.shards : shards_of(config);
  auto cpus = static_cast<std::uint32_t>(std::max<std::size_t>(allowed_cores().size(), 1));
  return std::clamp<std::uint32_t>(shards, 1, std::min(cpus, server_cores_max));
}

ServerThreads::ServerThreads(const ServerConfig& config, ServerEnvironment environment)
    : config_(config), server_(config, count(config), environment) {}

ServerThreads::~ServerThreads() = default;

void ServerThreads::run_core(std::uint32_t number, Rendezvous& rendezvous) {
  std::string complaint;
  let_disk_threads_first();
  if (!config_.cores.empty() && !pin_this_thread(config_.cores[number]))
    complaint =
        fmt::format("cannot run on CPU {}: this process may use others only; see --cores", config_.cores[number]);
  std::unique_ptr<Kernel> kernel;
  if (complaint.empty()) {
    std::string why;
    auto made = make_kernel(config_.kernel, why);
    if (made) kernel = std::move(*made);
    else if (config_.kernel == KernelChoice::uring)
      complaint = fmt::format("--kernel uring: {}; or use --kernel auto", why.empty() ? error_text(made.error()) : why);
    else complaint = fmt::format("cannot start: {}", why);
  }
  if (!rendezvous.arrive(number, complaint)) return;
  auto core = server_.start_core(number, *kernel);
  while (!core->ended()) core->reactor().turn(wait_forever);
}

std::string ServerThreads::run() {
  std::string refused =
      files_complaint(server_.environment().files_max, server_.core_count(), std::max(config_.shards, 1U));
  if (!refused.empty()) {
    server_.say(Severity::error, "cannot start: " + refused);
    return refused;
  }
  Rendezvous rendezvous(server_.core_count());
  std::vector<std::unique_ptr<Thread>> threads;
  for (std::uint32_t number = 0; number < server_.core_count(); number++) {
    threads.push_back(std::make_unique<Thread>());
    if (threads.back()->start([this, number, &rendezvous] { run_core(number, rendezvous); }) != 0)
      rendezvous.arrive_for(number, fmt::format("cannot start: {}", thread_refused));
  }
  for (std::unique_ptr<Thread>& thread : threads) thread->join();
  std::string complaint = rendezvous.first_complaint();
  if (complaint.empty()) return server_.complaint();
  server_.say(Severity::error, complaint);
  return complaint;
}

}  // namespace millrace
