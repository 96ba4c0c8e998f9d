// The frames that come over a socket, one at a time.
//
// Thread: the reactor's. The socket outlives it, and is closed after it is gone: it gives back what it holds of the receive buffers.
#pragma once

#include <optional>

#include "protocol/frame_parser.hpp"
#include "reactor/reactor.hpp"
#include "reactor/socket.hpp"

namespace millrace {

class FrameReader {
 public:
  explicit FrameReader(Socket& socket) : socket_(socket), parser_(memory_) {}
  ~FrameReader() { give_back(); }
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;
  Reactor& reactor() { return socket_.reactor(); }

  /// Valid until the next call. Errors: those of the connection (connection_lost when the other side ended it) and of the parser.
  Task<Frame> next();

 private:
  void give_back();

  Socket& socket_;
  HeapFrameMemory memory_;
  FrameParser parser_;
  std::optional<ProvidedBuffer> buffer_;
  Bytes input_;
};

}  // namespace millrace
