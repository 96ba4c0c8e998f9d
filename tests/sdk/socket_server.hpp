// FakeServer behind a real socket on loopback, one connection at a time, on its own thread; can be killed (what was in
// memory of the connection is lost, what was stored is kept) and started again on the same port.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "base/assert.hpp"
#include "tests/sdk/fake_server.hpp"

namespace millrace::test {

class SocketServer {
 public:
  SocketServer() { start(); }
  ~SocketServer() { kill(); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  /// Runs `look` while the server stands still.
  template <class Look>
  void with(Look look) {
    const std::lock_guard lock(mutex_);
    look(server_);
  }

  void start() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MR_ASSERT(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    MR_ASSERT(::listen(listener_, 16) == 0);
    socklen_t length = sizeof address;
    MR_ASSERT(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    stop_ = ::eventfd(0, EFD_CLOEXEC);
    thread_ = std::thread([this] { serve(); });
  }
  void kill() {
    if (!thread_.joinable()) return;
    const std::uint64_t one = 1;
    MR_ASSERT(::write(stop_, &one, sizeof one) == sizeof one);
    thread_.join();
    ::close(stop_);
  }

 private:
  void serve() {
    int client = -1;
    for (;;) {
      pollfd polled[2] = {{stop_, POLLIN, 0}, {client >= 0 ? client : listener_, POLLIN, 0}};
      ::poll(polled, 2, -1);
      if (polled[0].revents != 0) break;
      if (client < 0) {
        client = ::accept(listener_, nullptr, nullptr);
        const std::lock_guard lock(mutex_);
        server_.connect();
        continue;
      }
      static constexpr std::size_t piece = 100'000;
      std::vector<std::byte> bytes(piece);
      const ssize_t got = ::recv(client, bytes.data(), bytes.size(), 0);
      const std::lock_guard lock(mutex_);
      if (got > 0) server_.receive(Bytes(bytes).first(static_cast<std::size_t>(got)));
      const FrameOutput out = std::exchange(server_.out, {});
      std::size_t sent = 0;
      while (got > 0 && sent < out.size()) {
        const ssize_t wrote = ::send(client, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
        if (wrote <= 0) break;
        sent += static_cast<std::size_t>(wrote);
      }
      if (got <= 0) {
        ::close(client);
        client = -1;
      }
    }
    if (client >= 0) {
      const linger reset{1, 0};
      ::setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      ::close(client);
    }
    ::close(listener_);
  }

  std::mutex mutex_;
  FakeServer server_;
  std::uint16_t port_ = 0;
  int listener_ = -1;
  int stop_ = -1;
  std::thread thread_;
};

}  // namespace millrace::test
