// Address (text and port) to what the socket calls want, and back. Part of the kernel implementation: nobody above the
// seam needs it.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

#include "reactor/operation.hpp"

namespace millrace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sockaddr* pointer() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  std::uint16_t port() const;
};

/// False when `address.host` is not a numeric IPv4 or IPv6 address.
bool to_uring_address(const Address& address, SocketAddress& out);
/// A TCP socket (TCP_NODELAY, close-on-exec) or -errno. Accepted sockets inherit TCP_NODELAY from their listener.
int open_stream_socket(int family);

}  // namespace millrace
