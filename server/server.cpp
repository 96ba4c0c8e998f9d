#include "server/server.hpp"

#include <fmt/format.h>

#include "base/time.hpp"
#include "server/file_plan.hpp"

namespace millrace {

namespace {

/// An errand from a plain function.
class Call final : public Errand {
 public:
  explicit Call(void (*function)(Core& core)) : function_(function) {}
  void run(Core& core) override { function_(core); }

 private:
  void (*function_)(Core& core);
};

std::unique_ptr<Errand> call(void (*function)(Core& core)) { return std::make_unique<Call>(function); }

class GiveUp final : public Errand {
 public:
  explicit GiveUp(std::string_view complaint) : complaint_(complaint) {}
  void run(Core& core) override { core.server().give_up(core, complaint_); }

 private:
  std::string complaint_;
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

Server::Server(ServerConfig config, std::uint32_t cores, ServerEnvironment environment)
    : config_(std::move(config)), environment_(environment), boxes_(cores) {
  MR_ASSERT(cores > 0 && cores <= server_cores_max);
}

Server::~Server() = default;

std::unique_ptr<Core> Server::start_core(std::uint32_t number, Kernel& kernel) {
  auto core = std::make_unique<Core>(*this, number, kernel);
  boxes_[number].attach(*core);
  if (number == 0) core->open_directory();
  return core;
}

void Server::say(Severity severity, std::string_view text) {
  if (environment_.diagnostics != nullptr) environment_.diagnostics->say(severity, text);
}

void Server::core_failed(std::string_view complaint) { post(0, std::make_unique<GiveUp>(complaint)); }

void Server::core_opened() {
  post(0, call([](Core& core0) { core0.server().count_opened(core0); }));
}

void Server::core_stopped() {
  post(0, call([](Core& core0) { core0.server().count_stopped(core0); }));
}

void Server::stop() {
  post(0, call([](Core& core0) { core0.server().stop_all(core0); }));
}

void Server::directory_opened(Core& core0, const DataDirectory& directory) {
  directory_ = directory;
  connections_max_ = connections_allowed(config_, environment_.files_max, core_count(), directory.shard_count);
  std::string complaint = files_complaint(environment_.files_max, core_count(), directory.shard_count);
  if (!complaint.empty()) return give_up(core0, complaint);
  if (directory_.lock_wait > 100 * nanos_per_milli)
    say(Severity::note, fmt::format("waited {:.1f} s for the process before to let go of {}",
                                    static_cast<double>(directory_.lock_wait) / 1e9, directory_.path));
  for (std::uint32_t core = 0; core < core_count(); core++) post(core, call([](Core& each) { each.open_shards(); }));
}

void Server::count_opened(Core& core0) {
  if (++cores_opened_ == core_count() && !stopping_) core0.listen();
}

void Server::listening(Core& core0, std::uint16_t port) {
  if (stopping_) return;
  port_.store(port, std::memory_order_release);
  phase_.store(ServerPhase::serving, std::memory_order_release);
  say_serving(core0);
}

void Server::say_serving(Core& core0) {
  const KernelFeatures& kernel = core0.reactor().kernel().features();
  std::string cores = "any";
  if (!config_.cores.empty()) {
    cores.clear();
    for (std::uint32_t core : config_.cores) cores += fmt::format("{}{}", cores.empty() ? "" : ",", core);
  }
  std::string text = fmt::format(
      "millrace {} serves {} on {}:{}: {} {} on {} {} (cores {}), memory {}, segments of {}, {}; {} uses {}",
      server_version, directory_.path, config_.host, port_.load(), directory_.shard_count,
      directory_.shard_count == 1 ? "shard" : "shards", core_count(), core_count() == 1 ? "thread" : "threads", cores,
      format_byte_count(config_.memory_bytes), format_byte_count(directory_.segment_bytes),
      config_.buffered ? "BUFFERED (no direct I/O: slower, and never for benchmarks)" : "direct I/O", kernel.name,
      kernel.used.empty() ? "its basic operations" : joined(kernel.used));
  if (!kernel.missing.empty()) text += fmt::format("; missing: {}", joined(kernel.missing));
  say(Severity::note, text);
}

void Server::give_up(Core& core0, std::string_view complaint) {
  say(Severity::error, complaint);
  if (complaint_.empty() && !stopping_) complaint_ = complaint;
  stop_all(core0);
}

void Server::stop_all(Core& core0) {
  (void)core0;
  if (std::exchange(stopping_, true)) return;
  phase_.store(ServerPhase::stopping, std::memory_order_release);
  for (std::uint32_t core = 0; core < core_count(); core++) post(core, call([](Core& each) { each.stop(); }));
}

void Server::count_stopped(Core& core0) {
  if (++cores_stopped_ < core_count()) return;
  if (directory_.lock_descriptor >= 0) core0.reactor().close_later(directory_.lock_descriptor);
  phase_.store(ServerPhase::ended, std::memory_order_release);
  for (std::uint32_t core = 0; core < core_count(); core++) post(core, call([](Core& each) { each.finish(); }));
}

}  // namespace millrace
