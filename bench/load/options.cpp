#include "bench/load/options.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdio>

#include "base/quantity.hpp"

namespace millrace::load {

namespace {

/// A record names its run, producer and number, so that reading back proves which one it is.
constexpr std::uint32_t record_bytes_min = 24;
constexpr std::uint32_t record_bytes_max = 4u << 20;
constexpr std::uint32_t connections_max = 1024;
constexpr std::uint32_t streams_max = 100'000;

std::optional<std::string> complaint_about(const Options& options) {
  if (options.record_bytes < record_bytes_min || options.record_bytes > record_bytes_max)
    return "--record-bytes is 24 to 4194304";
  if (options.connections < 1 || options.connections > connections_max) return "--connections is 1 to 1024";
  if (options.in_flight < 1 || options.in_flight > 64) return "--in-flight is 1 to 64";
  if (options.streams < 1 || options.streams > streams_max) return "--streams is 1 to 100000";
  if (options.batch_records < 1) return "--batch-records is at least 1";
  if (options.seconds <= 0 || options.warmup_seconds < 0) return "--seconds is more than 0, --warmup at least 0";
  if (options.spread && options.rate <= 0) return "--spread needs a --rate";
  return std::nullopt;
}

}  // namespace

std::optional<Options> parse_options(int argc, char** argv, int& exit_status) {
  Options options;
  std::string batch_bytes_text;
  std::uint32_t batch_records = 0;
  CLI::App app("Loads a Millrace server and measures it. Latency is counted from when a request should have been sent.",
               "millrace-load");
  app.add_option("--server", options.server, "the server (127.0.0.1:7070)")->option_text("HOST:PORT");
  app.add_option("--stream", options.stream, "name of the stream, or what their names begin with (load)")
      ->option_text("NAME");
  app.add_option("--connections", options.connections, "connections (4)")->option_text("N");
  app.add_option("--in-flight", options.in_flight, "requests under way on each, 1 to 64 (16)")->option_text("N");
  app.add_option("--record-bytes", options.record_bytes, "payload of a record (200)")->option_text("N");
  auto* bytes = app.add_option("--batch-bytes", batch_bytes_text, "payload of a request (64KiB)")->option_text("BYTES");
  app.add_option("--batch-records", batch_records, "records of a request")->option_text("N")->excludes(bytes);
  app.add_option("--streams", options.streams, "streams, used round robin (1)")->option_text("N");
  app.add_flag("--spread", options.spread, "a record to each stream in turn; batches are what comes of it");
  app.add_option("--rate", options.rate, "records a second, whatever the answers (as fast as credits allow)")
      ->option_text("N");
  app.add_option("--warmup", options.warmup_seconds, "seconds not counted (1)")->option_text("S");
  app.add_option("--seconds", options.seconds, "seconds counted (5)")->option_text("S");
  app.add_flag("--verify", options.verify, "read everything back and compare");
  app.add_option("--json", options.json, "write the results there; - for standard output")->option_text("FILE|-");
  app.add_option("--server-pid", options.server_pid, "whose CPU time to count (who listens at the port here)")
      ->option_text("PID");
  app.footer(
      "Examples:\n"
      "  millrace-load --server 127.0.0.1:7070 --seconds 30 --verify\n"
      "  millrace-load --rate 100000 --batch-records 1 --connections 8 --json - | jq .latency_us");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_status = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  std::uint64_t batch_bytes = 64 * KiB;
  if (!batch_bytes_text.empty()) {
    const auto parsed = parse_bytes(batch_bytes_text);
    if (!parsed || *parsed == 0) {
      std::fprintf(stderr, "millrace-load: --batch-bytes: \"%s\" is not understood\n", batch_bytes_text.c_str());
      exit_status = 2;
      return std::nullopt;
    }
    batch_bytes = *parsed;
  }
  if (options.record_bytes > 0)
    options.batch_records =
        batch_records != 0 ? batch_records
                           : static_cast<std::uint32_t>(std::max<std::uint64_t>(batch_bytes / options.record_bytes, 1));
  if (const auto complaint = complaint_about(options)) {
    std::fprintf(stderr, "millrace-load: %s\n", complaint->c_str());
    exit_status = 2;
    return std::nullopt;
  }
  return options;
}

}  // namespace millrace::load
