#include "cli/serve.hpp"

#include <fcntl.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>
#include <csignal>

#include <atomic>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include "cli/allocations.hpp"
#include "server/threads.hpp"

namespace millrace::cli {

namespace {

/// How long a stop may take before the process leaves the rest to recovery.
constexpr unsigned stop_seconds_max = 5;

class LogDiagnostics final : public Diagnostics {
 public:
  LogDiagnostics() : logger_("millrace", std::make_shared<spdlog::sinks::stderr_color_sink_mt>()) {
    logger_.set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
    logger_.flush_on(spdlog::level::info);
  }
  void say(Severity severity, std::string_view text) override {
    auto level = severity == Severity::error     ? spdlog::level::err
                 : severity == Severity::warning ? spdlog::level::warn
                                                 : spdlog::level::info;
    logger_.log(level, "{}", text);
  }

 private:
  spdlog::logger logger_;
};

/// The flags of serve that carry a value, as the command line gave them; empty = not given.
struct Flag {
  const char* name;
  const char* value_name;
  const char* help;
  std::string value{};
};

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR2);  // sent by ourselves when the server ended by itself
  return set;
}

/// Ten thousand connections need as many descriptors; the soft limit is often 1024. The limit from now on, 0 = not known.
std::uint64_t raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
  return before == limit.rlim_max || setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

class ServeVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  bool read_config(ServerConfig& config);
  static int serve(const ServerConfig& config);

  std::vector<Flag> flags_ = {
      {"data", "DIR", "where the log lives; made when it does not exist"},
      {"listen", "HOST:PORT", "numeric address to serve on (127.0.0.1:7070); beyond loopback only with --insecure"},
      {"follow", "HOST:PORT", "be a follower: copy that leader's log, byte for byte, and serve reads"},
      {"ack-default", "LEVEL", "local, or quorum: acknowledge what enough followers hold durably as well (local)"},
      {"followers-for-quorum", "N", "so many followers beside the leader make a quorum (1)"},
      {"shards", "N", "logs that work in parallel; fixed when the directory is made (1)"},
      {"cores", "LIST", "CPUs to run on, one thread each, such as 0,2-3 (any, a thread a shard)"},
      {"segment-bytes", "BYTES", "length of a segment file; fixed when the directory is made (128MiB)"},
      {"memory", "BYTES", "what the server may hold in memory (256MiB)"},
      {"day-offset", "OFFSET", "where days begin, from UTC; fixed when the directory is made (+00:00)"},
      {"retain-days", "N", "drop days older than this (0: keep all)"},
      {"pool-segments", "N", "segments kept prepared: so many take a burst without zeroing (2)"},
      {"retain-bytes", "BYTES",
       "drop the oldest segments beyond this (0: keep all); on disk, --pool-segments and 3 segments more a shard"},
      {"kernel", "KERNEL",
       "auto, uring or posix: io_uring where the machine allows it, else epoll and file threads (auto)"},
      {"connections-max", "N", "connections served at once (20000)"},
  };
  std::string config_file_;
  bool buffered_ = false;
  bool insecure_ = false;
  bool accept_clock_ = false;
};

CLI::App* ServeVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("serve", "Run the server until SIGTERM or SIGINT.");
  for (Flag& flag : flags_)
    verb->add_option(std::string("--") + flag.name, flag.value, flag.help)->option_text(flag.value_name);
  verb->add_flag("--buffered", buffered_, "do without direct I/O, on filesystems that have none; slower");
  verb->add_flag("--insecure", insecure_, "allow --listen beyond loopback although there is no TLS yet");
  verb->add_flag("--accept-clock", accept_clock_, "believe a clock more than 366 days ahead of the last day");
  verb->add_option("--config", config_file_, "the same settings from a TOML file; flags win")->option_text("FILE.toml");
  verb->footer(
      "Examples:\n"
      "  millrace serve --data /var/lib/millrace\n"
      "  millrace serve --data ./data --listen 127.0.0.1:0          a free port, named in the start line\n"
      "  millrace serve --config /etc/millrace.toml --retain-days 30\n"
      "The file has a line a setting: data = \"/var/lib/millrace\", segment-bytes = \"128MiB\", cores = [0, 1].");
  return verb;
}

/// Flags over file over defaults.
bool ServeVerb::read_config(ServerConfig& config) {
  auto complain = [](const std::string& text) {
    std::fprintf(stderr, "millrace serve: %s\n", text.c_str());
    return false;
  };
  if (!config_file_.empty()) {
    std::ifstream file(config_file_);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) return complain("cannot read " + config_file_);
    if (auto complaint = apply_toml(config, text.str())) return complain(config_file_ + ", " + *complaint);
  }
  for (const Flag& flag : flags_) {
    if (flag.value.empty()) continue;
    if (auto complaint = set_option(config, flag.name, flag.value)) return complain(*complaint);
  }
  config.buffered |= buffered_;
  config.insecure |= insecure_;
  config.accept_clock |= accept_clock_;
  if (auto complaint = check_config(config)) return complain(*complaint);
  return true;
}

int ServeVerb::run() {
  ServerConfig config;
  if (!read_config(config)) return exit_usage;
  return serve(config);
}

int ServeVerb::serve(const ServerConfig& config) {
  sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // inherited by every thread of the server
  signal(SIGPIPE, SIG_IGN);
  std::uint64_t files_max = raise_file_limit();

  LogDiagnostics diagnostics;
  ServerThreads threads(config, ServerEnvironment{.diagnostics = &diagnostics,
                                                  .allocations = heap_allocations,
                                                  .files_max = files_max,
                                                  .spare_descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC)});
  std::string complaint;
  std::thread server;
  try {
    server = std::thread([&] {
      complaint = threads.run();
      kill(getpid(), SIGUSR2);
    });
  } catch (const std::system_error&) {
    diagnostics.say(Severity::error,
                    "cannot start: no thread can be started: the limit on processes and threads is "
                    "reached; raise it (ulimit -u, TasksMax= in a systemd unit, a container's pids limit)");
    return exit_failed;
  }
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  if (signal_number != SIGUSR2) {
    diagnostics.say(Severity::note, "stopping: no new connections; what is in flight is finished");
    threads.stop();
    alarm(stop_seconds_max);  // SIGALRM ends the process; what was acknowledged is durable
  }
  server.join();
  if (!complaint.empty()) return exit_failed;
  diagnostics.say(Severity::note, "stopped");
  return exit_ok;
}

}  // namespace

std::unique_ptr<Verb> serve_verb() { return std::make_unique<ServeVerb>(); }

}  // namespace millrace::cli
