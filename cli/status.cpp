#include "cli/status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/progress.hpp"
#include "millrace/client.hpp"

namespace millrace::cli {

namespace {

using nlohmann::json;

/// What of a server's figures speaks of copies.
json copies_of(const json& stat) {
  json status;
  const json& server = stat["server"];
  for (const char* key : {"role", "follows", "cluster_id", "log_id"})
    if (server.contains(key)) status[key] = server[key];
  status["shards"] = json::array();
  for (const json& shard : stat["shards"]) {
    json one;
    for (const char* key :
         {"shard", "role", "condition", "epoch", "day", "watermarks", "quorum", "following", "followers"})
      if (shard.contains(key)) one[key] = shard[key];
    status["shards"].push_back(one);
  }
  return status;
}

std::uint64_t behind(std::uint64_t leader, std::uint64_t here) { return leader - std::min(leader, here); }

void print_shard(const json& shard) {
  const json& marks = shard["watermarks"];
  const auto durable = marks["durable"].get<std::uint64_t>();
  fmt::print("shard {}: {}, {}, epoch {}, day {}; appended {}, durable {}\n", shard["shard"].get<int>(),
             shard["role"].get<std::string>(), shard["condition"].get<std::string>(),
             shard["epoch"].get<std::uint64_t>(), shard["day"].get<std::string>(),
             marks["appended"].get<std::uint64_t>(), durable);
  if (shard.contains("following")) {
    const json& following = shard["following"];
    const auto leader = following["leader_durable"].get<std::uint64_t>();
    const auto error = following["error"].get<std::string>();
    fmt::print(
        "  {} the leader, whose durable end is {}: {} batches behind; heard {:.1f} s ago; {} received, {} cuts{}\n",
        following["connected"].get<bool>() ? "connected to" : "NOT CONNECTED to", leader, behind(leader, durable),
        following["heard_seconds"].get<double>(), human_bytes(following["bytes"].get<std::uint64_t>()),
        following["cuts"].get<std::uint64_t>(), error.empty() ? "" : "; last: " + error);
  }
  if (shard.contains("quorum")) {
    const json& quorum = shard["quorum"];
    fmt::print(
        "  quorum: replicated {}{}; {} acknowledgements left without\n", quorum["replicated"].get<std::uint64_t>(),
        quorum["missing"].get<bool>() ? ", too few followers keep up" : "", quorum["missed"].get<std::uint64_t>());
  }
  if (!shard.contains("followers")) return;
  for (const json& follower : shard["followers"])
    fmt::print("  follower {}: {}, sent {}, durable there {}: {} batches behind; heard {:.1f} s ago\n",
               follower["name"].get<std::string>(), follower["streaming"].get<bool>() ? "streaming" : "asking",
               follower["sent"].get<std::uint64_t>(), follower["durable"].get<std::uint64_t>(),
               follower["lag"].get<std::uint64_t>(), follower["heard_seconds"].get<double>());
}

class StatusVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  std::string server_;
  unsigned retry_seconds_ = 5;
  bool json_ = false;
};

CLI::App* StatusVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("status", "Show role, epoch, followers and how far each copy is.");
  verb->add_option("--server", server_, "ask this server")->option_text("HOST:PORT")->required();
  verb->add_option("--retry", retry_seconds_, "keep trying to reach the server for so many seconds (5)")
      ->option_text("SECONDS");
  verb->add_flag("--json", json_, "the same as JSON");
  verb->footer(
      "Examples:\n  millrace status --server 127.0.0.1:7070\n  millrace status --server 127.0.0.1:7070 --json");
  return verb;
}

int StatusVerb::run() {
  auto complain = [&](const std::string& why) {
    std::fprintf(stderr, "millrace status: %s: %s\n", server_.c_str(), why.c_str());
    return exit_failed;
  };
  auto client = Client::connect({.server = server_, .retry = std::chrono::seconds(retry_seconds_)});
  if (!client) return complain(client.problem().text());
  auto text = client->stat();
  if (!text) return complain(text.problem().text());
  const json stat = json::parse(*text, nullptr, false);
  if (stat.is_discarded() || !stat.contains("server")) return complain("the answer is not what a server says");
  const json status = copies_of(stat);
  if (json_) {
    fmt::print("{}\n", status.dump(2));
    return exit_ok;
  }
  const std::string role = status.value("role", std::string());
  const std::string leader = status.value("follows", std::string());
  if (role == "follower") fmt::print("{} follows {}\n", server_, leader);
  else if (role == "deposed") fmt::print("{} was deposed: {} leads\n", server_, leader);
  else fmt::print("{} leads\n", server_);
  for (const json& shard : status["shards"]) print_shard(shard);
  return exit_ok;
}

}  // namespace

std::unique_ptr<Verb> status_verb() { return std::make_unique<StatusVerb>(); }

}  // namespace millrace::cli
