#include "cli/doctor.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace millrace::cli {

namespace {

class DoctorVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  std::string directory_ = ".";
  bool json_ = false;
};

CLI::App* DoctorVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("doctor", "Measure what this machine gives a log server, with cause and cure.");
  verb->add_option("--data", directory_, "the directory to try, where a server's data will be (.)")->option_text("DIR");
  verb->add_flag("--json", json_, "rows as JSON");
  verb->footer(
      "Takes under 15 s. Writes one file below DIR and removes it. Exit status 1 when something is broken.\n"
      "Examples:\n"
      "  millrace doctor --data /var/lib/millrace\n"
      "  millrace doctor --json");
  return verb;
}

int DoctorVerb::run() {
  // What is mounted read-only has a row of its own.
  if (::access(directory_.c_str(), W_OK | X_OK) != 0 && errno != EROFS) {
    std::fprintf(stderr, "millrace doctor: %s is not a directory this user can write to; name another with --data\n",
                 directory_.c_str());
    return exit_usage;
  }
  bool terminal = ::isatty(STDERR_FILENO) != 0;
  DoctorProgress progress = [terminal](const std::string& step) {
    std::fprintf(stderr, terminal ? "\r\033[K%s …" : "doctor: %s\n", step.c_str());
  };
  DoctorRows rows;
  judge_host(measure_host(progress), rows);
  judge_disk(measure_disk(directory_, progress), rows);
  if (terminal) std::fputs("\r\033[K", stderr);
  std::fputs((json_ ? doctor_json(rows) : doctor_text(rows)).c_str(), stdout);
  bool broken =
      std::any_of(rows.begin(), rows.end(), [](const DoctorRow& row) { return row.finding == Finding::broken; });
  return broken ? exit_failed : exit_ok;
}

}  // namespace

std::unique_ptr<Verb> doctor_verb() { return std::make_unique<DoctorVerb>(); }

}  // namespace millrace::cli
