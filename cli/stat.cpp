#include "cli/stat.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/quantity.hpp"
#include "cli/progress.hpp"
#include "millrace/client.hpp"
#include "server/directory_stat.hpp"

namespace millrace::cli {

namespace {

using nlohmann::json;

std::string joined(const json& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name.get<std::string>();
  return text;
}

void print_server(const json& stat) {
  if (!stat.contains("server")) {
    const json& directory = stat["directory"];
    fmt::print("{}: {} {}, days begin at {}\n", directory["data"].get<std::string>(), directory["shards"].get<int>(),
               directory["shards"].get<int>() == 1 ? "shard" : "shards", directory["day_offset"].get<std::string>());
    return;
  }
  const json& server = stat["server"];
  fmt::print("millrace {} serves {} on {}:{}; {} connections, memory {}, segments of {}{}\n",
             server["version"].get<std::string>(), server["data"].get<std::string>(),
             server["listen"].get<std::string>(), server["port"].get<int>(), server["connections"].get<std::uint64_t>(),
             human_bytes(server["memory_bytes"].get<std::uint64_t>()),
             human_bytes(server["segment_bytes"].get<std::uint64_t>()),
             server["buffered"].get<bool>() ? ", BUFFERED (no direct I/O)" : "");
  for (const json& core : stat["cores"]) {
    fmt::print("  thread {}: {}; longest turn {:.0f} us; {} connections, {} in, {} out\n", core["core"].get<int>(),
               core["kernel"].get<std::string>(), core["longest_turn_us"].get<double>(),
               core["connections"].get<std::uint64_t>(), human_bytes(core["bytes_in"].get<std::uint64_t>()),
               human_bytes(core["bytes_out"].get<std::uint64_t>()));
    const json& files = core["files"];
    fmt::print("    files: {} written, {} zeroed, {} read; {} durable writes, {} syncs\n",
               human_bytes(files["written_bytes"].get<std::uint64_t>()),
               human_bytes(files["zeroed_bytes"].get<std::uint64_t>()),
               human_bytes(files["read_bytes"].get<std::uint64_t>()), files["durable_writes"].get<std::uint64_t>(),
               files["syncs"].get<std::uint64_t>());
    if (!core["missing"].empty()) fmt::print("    missing: {}\n", joined(core["missing"]));
  }
}

void print_shards(const json& stat) {
  fmt::print("\n{:>5}  {:<10} {:>5}  {:<10}  {:>5} {:>8} {:>10}  {:>14} {:>14}  {:>10}\n", "shard", "condition",
             "epoch", "day", "days", "segments", "log", "durable lsn", "appended lsn", "commit us");
  for (const json& shard : stat["shards"])
    fmt::print("{:>5}  {:<10} {:>5}  {:<10}  {:>5} {:>8} {:>10}  {:>14} {:>14}  {:>10.0f}\n", shard["shard"].get<int>(),
               shard["condition"].get<std::string>(), shard["epoch"].get<std::uint64_t>(),
               shard["day"].get<std::string>(), shard["days"].get<std::uint64_t>(),
               shard["segments"].get<std::uint64_t>(), human_bytes(shard["log_bytes"].get<std::uint64_t>()),
               shard["watermarks"]["durable"].get<std::uint64_t>(),
               shard["watermarks"].value("appended", shard["watermarks"]["durable"].get<std::uint64_t>()),
               shard.value("commit_mean_us", 0.0));
}

void print_streams(const json& stat) {
  fmt::print("\n{:<40} {:>5} {:>14} {:>14}  {}\n", "stream", "shard", "first readable", "next offset", "last day");
  for (const json& stream : stat["streams"]) {
    std::string name = stream["name"].get<std::string>();
    if (name.empty()) name = "(name lost, id " + stream["id"].get<std::string>() + ")";
    // Where it takes many reads to find out, only where the stream began is known.
    const std::string first = stream.contains("first_readable")
                                  ? std::to_string(stream["first_readable"].get<std::uint64_t>())
                                  : fmt::format(">= {}", stream["first_offset"].get<std::uint64_t>());
    fmt::print("{:<40} {:>5} {:>14} {:>14}  {}\n", name, stream["shard"].get<int>(), first,
               stream["next_offset"].get<std::uint64_t>(), stream["day"].get<std::string>());
  }
  std::uint64_t total = stat["streams_total"].get<std::uint64_t>();
  if (total > stat["streams"].size())
    fmt::print("… {} of {} streams; --json has the same\n", stat["streams"].size(), total);
}

class StatVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  int ask_server();
  int look_at_directory();
  int print(const std::string& text) const;

  std::string server_;
  std::string data_;
  bool buffered_ = false;
  std::string retry_text_ = "5s";
  bool json_ = false;
};

CLI::App* StatVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("stat", "Show streams, offsets, days, segments, watermarks and shards.");
  verb->add_option("--server", server_, "ask a server")->option_text("HOST:PORT");
  verb->add_option("--data", data_, "look at a data directory; may be live, stopped or a copy")
      ->option_text("DIR")
      ->excludes("--server");
  verb->add_flag("--buffered", buffered_, "with --data: read without direct I/O, for filesystems that have none");
  verb->add_option("--retry", retry_text_, "how long to wait for a server that is away; 0: one try (5s)")
      ->option_text("TIME");
  verb->add_flag("--json", json_, "everything there is, as JSON");
  verb->footer(
      "Examples:\n  millrace stat --server 127.0.0.1:7070\n  millrace stat --data ./copy\n  millrace stat --server "
      "127.0.0.1:7070 --json | jq "
      "'.shards[0]'");
  return verb;
}

int StatVerb::ask_server() {
  const auto retry = parse_duration(retry_text_);
  if (!retry) {
    std::fprintf(stderr, "millrace stat: --retry: \"%s\" is not understood\n", retry_text_.c_str());
    return exit_usage;
  }
  const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds(*retry));
  auto client = Client::connect({.server = server_, .retry = wait});
  if (!client) {
    std::fprintf(stderr, "millrace stat: %s: %s\n", server_.c_str(), client.problem().text().c_str());
    return exit_failed;
  }
  auto text = client->stat();
  if (!text) {
    std::fprintf(stderr, "millrace stat: %s: %s\n", server_.c_str(), text.problem().text().c_str());
    return exit_failed;
  }
  return print(*text);
}

int StatVerb::print(const std::string& text) const {
  json stat = json::parse(text, nullptr, false);
  if (stat.is_discarded()) {
    std::fprintf(stderr, "millrace stat: the answer is not JSON\n");
    return exit_failed;
  }
  if (json_) {
    fmt::print("{}\n", stat.dump(2));
    return exit_ok;
  }
  print_server(stat);
  print_shards(stat);
  print_streams(stat);
  return exit_ok;
}

int StatVerb::look_at_directory() {
  auto text = directory_stat(data_, buffered_);
  if (text) return print(*text);
  std::fprintf(stderr, "millrace stat: %s\n", text.error().c_str());
  return exit_failed;
}

int StatVerb::run() {
  if (!data_.empty()) return look_at_directory();
  if (!server_.empty()) return ask_server();
  std::fprintf(stderr, "millrace stat: --server HOST:PORT or --data DIR is needed\n");
  return exit_usage;
}

}  // namespace

std::unique_ptr<Verb> stat_verb() { return std::make_unique<StatVerb>(); }

}  // namespace millrace::cli
