// The server as a process of the simulated world, and a client that speaks the protocol frame by frame.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "protocol/batch_builder.hpp"
#include "protocol/frame_parser.hpp"
#include "protocol/handshake.hpp"
#include "protocol/messages.hpp"
#include "reactor/socket.hpp"
#include "server/server.hpp"
#include "tests/sim/sim_program.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::test {

/// Keeps what the server says.
class KeptDiagnostics final : public Diagnostics {
 public:
  void say(Severity severity, std::string_view text) override {
    lines.emplace_back(text);
    if (severity == Severity::error) errors.emplace_back(text);
  }
  std::vector<std::string> lines;
  std::vector<std::string> errors;
};

class ServerProgram final : public sim::SimProgram {
 public:
  ServerProgram(std::span<Kernel* const> kernels, const ServerConfig& config, Diagnostics& diagnostics)
      : server(config, static_cast<std::uint32_t>(kernels.size()), ServerEnvironment{.diagnostics = &diagnostics}) {
    for (std::uint32_t number = 0; number < kernels.size(); number++) {
      cores.push_back(server.start_core(number, *kernels[number]));
      reactors_.push_back(&cores.back()->reactor());
    }
  }
  std::span<Reactor* const> reactors() override { return reactors_; }
  bool finished() const override {
    for (auto& core : cores)
      if (!core->ended()) return false;
    return true;
  }

  Server server;
  std::vector<std::unique_ptr<Core>> cores;

 private:
  std::vector<Reactor*> reactors_;
};

inline ServerConfig small_config() {
  ServerConfig config;
  config.data = "data";
  config.segment_bytes = 16 * MiB;
  config.memory_bytes = 128 * MiB;
  return config;
}

/// A frame that owns its bytes.
struct OwnedFrame {
  FrameHeader header{};
  std::vector<std::byte> bytes;
  Frame frame() const { return Frame{header, bytes}; }
  FrameType type() const { return header.type; }
};

class WireClient {
 public:
  explicit WireClient(Reactor& on) : reactor_(on), parser_(memory_) {}
  Reactor& reactor() { return reactor_; }
  Socket& socket() { return *socket_; }

  Task<> connect(std::string host, std::uint16_t port) {
    auto connecting = millrace::connect(reactor_, Address{host, port}, reactor_.now() + 5 * nanos_per_second);
    auto descriptor = co_await connecting;
    if (!descriptor) co_return fail(descriptor.error());
    socket_ = std::make_unique<Socket>(reactor_, *descriptor, SocketLimits{.send_bytes_max = 64 * MiB});
    co_return Result<>();
  }
  /// Hello and welcome.
  Task<wire::Welcome> greet(ShardIndex shard) {
    wire::Hello hello;
    hello.request_id = 1;
    hello.shard = shard;
    hello.client_name = "test";
    send(hello);
    auto receiving = receive();
    auto frame = co_await receiving;
    if (!frame) co_return fail(frame.error());
    co_return wire::decode_welcome(frame->frame());
  }
  template <class Message>
  void send(const Message& message) {
    FrameOutput output;
    encode(output, message);
    send_bytes(output);
  }
  void send_bytes(Bytes bytes) { (void)socket_->send(bytes); }

  /// The next frame; connection_lost when the server closed.
  Task<OwnedFrame> receive() {
    while (true) {
      Bytes input = Bytes(pending_).subspan(used_);
      auto frame = parser_.next(input);
      used_ = pending_.size() - input.size();
      if (!frame) co_return fail(frame.error());
      if (*frame) co_return OwnedFrame{(*frame)->header, {(*frame)->body.begin(), (*frame)->body.end()}};
      auto buffer = co_await socket_->receive();
      if (!buffer || buffer->length == 0) co_return fail(Error::connection_lost);
      pending_.assign(buffer->data, buffer->data + buffer->length);
      used_ = 0;
      socket_->recycle(*buffer);
    }
  }
  Task<> close() {
    if (!socket_) co_return Result<>();
    auto closing = socket_->close(reactor_.now() + nanos_per_second);
    co_return co_await closing;
  }

 private:
  Reactor& reactor_;
  HeapFrameMemory memory_;
  FrameParser parser_;
  std::unique_ptr<Socket> socket_;
  std::vector<std::byte> pending_;
  std::size_t used_ = 0;
};

/// A batch of `count` records with payloads made from `text`.
inline std::vector<std::byte> batch_of(std::string_view stream, std::uint32_t count, std::string_view text,
                                       std::uint64_t producer = 0, std::uint32_t epoch = 0,
                                       std::uint64_t sequence = 0) {
  BatchBuilder builder(BatchBuilderOptions{.bytes_max = batch_bytes_max});
  builder.begin();
  for (std::uint32_t i = 0; i < count; i++) {
    std::string payload = std::string(text) + "-" + std::to_string(i);
    RecordInput record;
    record.payload = bytes_of(payload);
    EXPECT_TRUE(builder.add(record));
  }
  BatchHeader header;
  header.stream_id = stream_id_of(stream).value;
  header.producer_id = producer;
  header.producer_epoch = epoch;
  header.producer_sequence = sequence;
  Bytes batch = builder.finish(header);
  return {batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(batch_header_bytes + header.body_bytes)};
}

}  // namespace millrace::test
