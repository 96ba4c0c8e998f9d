// millrace-load: an open-loop generator over the SDK. It blocks, never spins; figures go to stderr for people and to --json
// for scripts.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/host_port.hpp"
#include "base/quantity.hpp"
#include "bench/load/load.hpp"
#include "bench/load/process_cpu.hpp"
#include "bench/load/verify.hpp"

namespace millrace::load {

namespace {

using Json = nlohmann::ordered_json;

/// The shape of buffers costs about 48 bytes a record and 1 KiB a batch beside payloads.
ClientOptions client_options(const Options& options) {
  ClientOptions client;
  client.server = options.server;
  client.identity = "millrace-load";
  client.connections = options.connections;
  const std::size_t payload = options.batch_bytes();
  client.batch_bytes_max = payload;
  client.batch_records_max = options.batch_records;
  const std::size_t each = payload + std::size_t{options.batch_records} * 48 + 2 * KiB;
  const std::size_t batches = options.spread ? 4 * std::size_t{options.streams} + 256
                                             : std::size_t{options.connections} * (options.in_flight + 4);
  client.memory_bytes = each * batches;
  return client;
}

int port_of(const std::string& server) {
  const auto address = split_host_port(server);
  return address ? address->port : 0;
}

Json quantile(const LatencyHistogram& latency, double q) {
  const auto value = latency.at(q);
  return value ? Json(static_cast<double>(*value) / 1e3) : Json(nullptr);
}

Json to_json(const Options& options, const Results& results, const std::optional<Verdict>& verdict) {
  const double bytes = static_cast<double>(results.records) * options.record_bytes;
  Json json;
  json["records_per_s"] = static_cast<double>(results.records) / results.seconds;
  json["bytes_per_s"] = bytes / results.seconds;
  json["requests_per_s"] = static_cast<double>(results.requests) / results.seconds;
  const LatencyHistogram& latency = results.latency;
  json["latency_us"] = {{"p50", quantile(latency, 0.5)},
                        {"p90", quantile(latency, 0.9)},
                        {"p99", quantile(latency, 0.99)},
                        {"p99_9", quantile(latency, 0.999)},
                        {"max", static_cast<double>(latency.max()) / 1e3},
                        {"count", latency.count()}};
  json["records_acknowledged"] = results.records_in_all;
  json["records_verified"] = verdict ? Json(verdict->records) : Json(nullptr);
  json["errors"] = results.errors + (verdict ? verdict->wrong : 0);
  const double gigabytes = bytes / 1e9;
  json["server_cpu_s_per_gb"] =
      results.server_cpu_seconds && gigabytes > 0 ? Json(*results.server_cpu_seconds / gigabytes) : Json(nullptr);
  json["client_cpu_s_per_gb"] = gigabytes > 0 ? Json(results.client_cpu_seconds / gigabytes) : Json(nullptr);
  json["records_per_batch"] =
      results.requests > 0 ? static_cast<double>(results.records) / static_cast<double>(results.requests) : 0.0;
  json["late_requests"] = results.late;
  json["unsent_requests"] = results.unsent;
  json["options"] = {{"connections", options.connections},
                     {"in_flight", options.in_flight},
                     {"record_bytes", options.record_bytes},
                     {"batch_records", options.batch_records},
                     {"streams", options.streams},
                     {"spread", options.spread},
                     {"rate", options.rate},
                     {"warmup", options.warmup_seconds},
                     {"seconds", options.seconds}};
  return json;
}

void show(const Options& options, const Results& results, const std::optional<Verdict>& verdict) {
  const double records = static_cast<double>(results.records) / results.seconds;
  const auto latency = [&](double q) {
    const auto value = results.latency.at(q);
    return value ? format_duration(static_cast<double>(*value)) : std::string("(too few)");
  };
  std::fprintf(stderr, "%.0f records/s, %s/s, latency p50 %s p90 %s p99 %s p99.9 %s max %s of %llu requests\n", records,
               format_bytes(records * options.record_bytes).c_str(), latency(0.5).c_str(), latency(0.9).c_str(),
               latency(0.99).c_str(), latency(0.999).c_str(),
               format_duration(static_cast<double>(results.latency.max())).c_str(),
               static_cast<unsigned long long>(results.latency.count()));
  if (results.unsent > 0)
    std::fprintf(stderr, "%llu requests were due and never sent: the rate is more than what is measured here takes\n",
                 static_cast<unsigned long long>(results.unsent));
  if (verdict)
    std::fprintf(stderr, "%llu of %llu acknowledged records read back and equal\n",
                 static_cast<unsigned long long>(verdict->records),
                 static_cast<unsigned long long>(results.records_in_all));
  if (!results.first_error.empty()) std::fprintf(stderr, "error: %s\n", results.first_error.c_str());
  if (verdict && !verdict->first_wrong.empty()) std::fprintf(stderr, "wrong: %s\n", verdict->first_wrong.c_str());
}

bool write_json(const std::string& file, const Json& json) {
  if (file == "-") return std::puts(json.dump(2).c_str()) >= 0;
  std::ofstream out(file);
  out << json.dump(2) << '\n';
  return out.good();
}

int run(Options options) {
  auto client = Client::connect(client_options(options));
  if (!client) {
    std::fprintf(stderr, "millrace-load: %s\n", client.problem().text().c_str());
    return 1;
  }
  if (options.server_pid == 0) options.server_pid = pid_listening_at(port_of(options.server));
  const auto run_number = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  Results results;
  std::optional<Verdict> verdict;
  {
    Load load(*client, options, run_number);
    if (const auto problem = load.prepare()) {
      std::fprintf(stderr, "millrace-load: %s\n", problem->text().c_str());
      return 1;
    }
    results = load.run();
    if (options.verify) verdict = verify(*client, options, load, run_number);
  }
  show(options, results, verdict);
  if (!options.json.empty() && !write_json(options.json, to_json(options, results, verdict))) {
    std::fprintf(stderr, "millrace-load: cannot write %s\n", options.json.c_str());
    return 1;
  }
  const bool complete = !verdict || (verdict->wrong == 0 && verdict->records == results.records_in_all);
  return results.errors == 0 && complete ? 0 : 1;
}

}  // namespace

}  // namespace millrace::load

int main(int argc, char** argv) {
  int exit_status = 0;
  const auto options = millrace::load::parse_options(argc, argv, exit_status);
  return options ? millrace::load::run(*options) : exit_status;
}
