#include "cli/promote.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "millrace/client.hpp"

namespace millrace::cli {

namespace {

class PromoteVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  int complain(const std::string& why) const {
    std::fprintf(stderr, "millrace promote: %s: %s\n", server_.c_str(), why.c_str());
    return exit_failed;
  }

  std::string server_;
  bool accept_loss_ = false;
};

CLI::App* PromoteVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("promote", "Make a follower the leader, and the old leader give way.");
  verb->add_option("--server", server_, "the follower that takes over")->option_text("HOST:PORT")->required();
  verb->add_flag("--accept-loss", accept_loss_,
                 "take over although the old leader may have acknowledged more than the follower holds");
  verb->footer(
      "A leader that answers is asked to stop, and the follower takes the rest of its log first: nothing is lost. One "
      "that "
      "does not answer is told as soon as it does.\n\n"
      "Examples:\n  millrace promote --server 127.0.0.1:7071\n  millrace promote --server 127.0.0.1:7071 "
      "--accept-loss");
  return verb;
}

int PromoteVerb::run() {
  auto client = Client::connect({.server = server_, .retry = std::chrono::seconds(5)});
  if (!client) return complain(client.problem().text());
  const std::uint32_t shards = client->server().shards;
  // All are asked before any is changed.
  for (std::uint32_t shard = 0; shard < shards && !accept_loss_; ++shard) {
    auto asked = client->promote(shard, {.ask_only = true});
    if (!asked && asked.problem().code != ErrorCode::already_exists) return complain(asked.problem().text());
    if (asked && !asked->safe) return complain(fmt::format("shard {}: {}", shard, asked->text));
  }
  for (std::uint32_t shard = 0; shard < shards; ++shard) {
    auto promoted = client->promote(shard, {.accept_loss = accept_loss_});
    if (!promoted && promoted.problem().code == ErrorCode::already_exists) {
      fmt::print("shard {}: leads already\n", shard);
      continue;
    }
    if (!promoted) return complain(promoted.problem().text());
    if (!promoted->leads) return complain(fmt::format("shard {}: {}", shard, promoted->text));
    fmt::print("shard {}: leads from {} on, under epoch {}: {}\n", shard, promoted->next_lsn, promoted->epoch,
               promoted->text);
  }
  return exit_ok;
}

}  // namespace

std::unique_ptr<Verb> promote_verb() { return std::make_unique<PromoteVerb>(); }

}  // namespace millrace::cli
