// The server: names the concrete classes, and brings its cores up and down together. It makes no thread and reads no clock:
// whoever has kernels gives one to each core and turns the core's reactor, on a thread each (server/threads) or all on one (the
// simulator).
//
//   Server server(config, cores, environment);
//   for each core:  auto core = server.start_core(i, kernel);  while (!core->ended()) core->reactor().turn(…);
//   server.stop();  from any thread: finishes what is in flight; every core ends
//   server.outcome();
//
// Order of a start: core 0 locks the directory and reads node.meta; every core opens its shards' logs; core 0 listens. If any
// of it fails, the whole server ends and outcome() says why.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/config.hpp"
#include "server/core.hpp"
#include "server/diagnostics.hpp"
#include "server/errand.hpp"

namespace millrace {

inline constexpr std::string_view server_version = "0.1.0";

/// What the program around the server gives it.
struct ServerEnvironment {
  Diagnostics* diagnostics = nullptr;
  std::uint64_t (*allocations)() = nullptr;  // heap allocations of the process so far; nullptr = not counted
  std::uint64_t files_max = 0;               // descriptors this process may have; 0 = not known
  std::int32_t spare_descriptor = -1;  // an open one that serves nothing (Listener::keep_spare); the server's then
};

enum class ServerPhase : std::uint8_t { opening, serving, stopping, ended };

class Server {
 public:
  Server(ServerConfig config, std::uint32_t cores, ServerEnvironment environment);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// On the core's thread. Core 0's start begins the opening.
  std::unique_ptr<Core> start_core(std::uint32_t number, Kernel& kernel);
  /// Any thread, any time, any number of times.
  void stop();

  ServerPhase phase() const { return phase_.load(std::memory_order_acquire); }
  /// The port clients reach; 0 before serving. Any thread.
  std::uint16_t port() const { return port_.load(std::memory_order_acquire); }
  /// Why the server ended, which it also said; empty = it was asked to. After every core ended.
  const std::string& complaint() const { return complaint_; }

  // ---- For the cores. ----

  const ServerConfig& config() const { return config_; }
  const ServerEnvironment& environment() const { return environment_; }
  std::uint32_t core_count() const { return static_cast<std::uint32_t>(boxes_.size()); }
  /// The core that serves a shard.
  std::uint32_t core_of(ShardIndex shard) const { return shard.value % core_count(); }
  void post(std::uint32_t core, std::unique_ptr<Errand> errand) { boxes_[core].post(std::move(errand)); }
  ErrandBox& box(std::uint32_t core) { return boxes_[core]; }
  void say(Severity severity, std::string_view text);
  /// Set by core 0 before any shard is opened.
  const DataDirectory& directory() const { return directory_; }
  std::atomic<std::uint32_t>& connections() { return connections_; }
  /// How many may be open: what was asked for, or what the limit on files leaves. Set with directory().
  std::uint32_t connections_max() const { return connections_max_; }

  /// From any core, about itself.
  void core_opened();
  void core_failed(std::string_view complaint);
  void core_stopped();

  // Core 0 alone.
  void directory_opened(Core& core0, const DataDirectory& directory);
  void listening(Core& core0, std::uint16_t port);
  /// The opening or the serving cannot go on: every core ends.
  void give_up(Core& core0, std::string_view complaint);
  void stop_all(Core& core0);
  void count_opened(Core& core0);
  void count_stopped(Core& core0);

 private:
  void say_serving(Core& core0);

  const ServerConfig config_;
  const ServerEnvironment environment_;
  std::vector<ErrandBox> boxes_;
  std::atomic<ServerPhase> phase_{ServerPhase::opening};
  std::atomic<std::uint16_t> port_{0};
  std::atomic<std::uint32_t> connections_{0};

  // Core 0's.
  DataDirectory directory_;
  std::uint32_t connections_max_ = 0;
  std::uint32_t cores_opened_ = 0;
  std::uint32_t cores_stopped_ = 0;
  bool stopping_ = false;
  std::string complaint_;
};

}  // namespace millrace
