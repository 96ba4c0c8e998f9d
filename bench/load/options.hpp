// What one run of millrace-load does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace millrace::load {

struct Options {
  std::string server = "127.0.0.1:7070";
  std::string stream = "load";  // streams are stream/0, stream/1, …; one alone has the plain name
  std::uint32_t connections = 4;
  std::uint32_t in_flight = 16;  // requests of one connection
  std::uint32_t record_bytes = 200;
  std::uint32_t batch_records = 327;  // of one request
  std::uint32_t streams = 1;
  bool spread = false;  // records one by one round robin over the streams; batches are what the SDK makes of it
  double rate = 0;      // records a second over all connections; 0 = as fast as credits allow
  double warmup_seconds = 1;
  double seconds = 5;
  bool verify = false;
  std::string json;    // file, "-" = standard output, empty = none
  int server_pid = 0;  // 0 = whoever listens at the port

  /// Payload that closes a batch. Ten thousand streams with a record or two each need no large buffers.
  std::size_t batch_bytes() const {
    const std::size_t whole = std::size_t{batch_records} * record_bytes;
    return spread && whole > spread_batch_bytes ? spread_batch_bytes : whole;
  }
  static constexpr std::size_t spread_batch_bytes = 8 * 1024;
};

/// Nothing when the program should end with `exit_status` (help, or flags that make no sense).
std::optional<Options> parse_options(int argc, char** argv, int& exit_status);

}  // namespace millrace::load
