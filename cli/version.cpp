#include "cli/version.hpp"

#include <cstdio>

#include "server/server.hpp"

namespace millrace::cli {

namespace {

class VersionVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override { return app.add_subcommand("version", "Print the version."); }
  int run() override {
    std::printf("millrace %s\n", std::string(server_version).c_str());
    return exit_ok;
  }
};

class HelpVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override {
    app_ = &app;
    CLI::App* verb = app.add_subcommand("help", "Print this, or the help of one verb.");
    verb->add_option("verb", verb_name_, "the verb to explain")->option_text("VERB");
    all_ = app.help();  // afterwards help() means the verb that was chosen; this verb is the last to be declared
    return verb;
  }
  int run() override {
    if (verb_name_.empty()) {
      std::fputs(all_.c_str(), stdout);
      return exit_ok;
    }
    for (CLI::App* verb : app_->get_subcommands([](CLI::App*) { return true; })) {
      if (verb->get_name() != verb_name_) continue;
      std::fputs(verb->help().c_str(), stdout);
      return exit_ok;
    }
    std::fprintf(stderr, "millrace help: there is no verb named %s\n", verb_name_.c_str());
    return exit_usage;
  }

 private:
  CLI::App* app_ = nullptr;
  std::string all_;
  std::string verb_name_;
};

}  // namespace

std::unique_ptr<Verb> version_verb() { return std::make_unique<VersionVerb>(); }
std::unique_ptr<Verb> help_verb() { return std::make_unique<HelpVerb>(); }

}  // namespace millrace::cli
