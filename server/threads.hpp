// The server on real threads: one a core, each with its own kernel, pinned where it was told. The only place that makes threads
// of a server.
//
// Thread: the caller's, which waits in run() until the server has ended.
#pragma once

#include <string>

#include "server/server.hpp"

namespace millrace {

class ServerThreads {
 public:
  /// How many threads `config` asks for: one a core named, else one a shard (told, or looked up in the directory), at most as
  /// many as there are CPUs.
  static std::uint32_t count(const ServerConfig& config);

  ServerThreads(const ServerConfig& config, ServerEnvironment environment);
  ~ServerThreads();
  ServerThreads(const ServerThreads&) = delete;
  ServerThreads& operator=(const ServerThreads&) = delete;

  /// Runs until the server has ended. Empty when it was asked to stop; else why it could not go on, which was said.
  std::string run();
  /// Any thread; also before and during run().
  void stop() { server_.stop(); }
  Server& server() { return server_; }

 private:
  class Rendezvous;
  void run_core(std::uint32_t number, Rendezvous& rendezvous);

  const ServerConfig config_;
  Server server_;
};

}  // namespace millrace
