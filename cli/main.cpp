// millrace: one binary, one verb a subcommand. Data goes to stdout, everything else to stderr.
#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "cli/verb.hpp"
#include "server/server.hpp"

int main(int argc, char** argv) {
  using namespace millrace::cli;
  CLI::App app("Millrace keeps log records: on disk before you go on, in microseconds.", "millrace");
  app.require_subcommand(1);
  app.footer("millrace VERB --help explains a verb, with examples.");
  app.set_version_flag("--version", "millrace " + std::string(millrace::server_version), "Print the version");
  auto verbs = all_verbs();
  std::vector<CLI::App*> commands;
  for (auto& verb : verbs) commands.push_back(verb->declare(app));
  const std::string_view first = argc > 1 ? argv[1] : "";
  const bool known = std::ranges::any_of(commands, [&](CLI::App* verb) { return verb->get_name() == first; });
  if (!first.empty() && !first.starts_with('-') && !known) {
    std::fprintf(stderr, "millrace: there is no verb \"%s\"; millrace help lists them\n", argv[1]);
    return exit_usage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    bool helped = error.get_exit_code() == 0;
    app.exit(error);
    return helped ? exit_ok : exit_usage;
  }
  for (std::size_t i = 0; i < verbs.size(); i++)
    if (commands[i]->parsed()) return verbs[i]->run();
  return exit_usage;
}
