// One verb of the command line: its flags and what it does. Each stands in a file of its name.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <vector>

namespace millrace::cli {

/// What a verb's run() returns; scripts depend on them.
inline constexpr int exit_ok = 0;
inline constexpr int exit_failed = 1;  // said why on stderr
inline constexpr int exit_usage = 2;   // the command line makes no sense

class Verb {
 public:
  Verb() = default;
  Verb(const Verb&) = delete;
  Verb& operator=(const Verb&) = delete;
  virtual ~Verb() = default;
  /// Adds the subcommand with flags, help and examples; what it points to lives as long as the verb.
  virtual CLI::App* declare(CLI::App& app) = 0;
  /// Runs when the subcommand was chosen. The exit status.
  virtual int run() = 0;
};

/// Every verb, in the order of the help.
std::vector<std::unique_ptr<Verb>> all_verbs();

}  // namespace millrace::cli
