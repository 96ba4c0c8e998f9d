// millrace: one binary, one verb a subcommand. Data goes to stdout, everything else to stderr.
#include <cstdio>

#include "cli/verb.hpp"

int main(int argc, char** argv) {
  using namespace millrace::cli;
  CLI::App app("Millrace keeps log records: on disk before you go on, in microseconds.", "millrace");
  app.require_subcommand(1);
  app.footer("millrace VERB --help explains a verb, with examples.");
  auto verbs = all_verbs();
  std::vector<CLI::App*> commands;
  for (auto& verb : verbs) commands.push_back(verb->declare(app));
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
