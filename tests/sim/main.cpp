// millrace-sim: runs seeds of the swarm.
//
//   millrace-sim --seeds A..B [--jobs N]     a range, with a summary
//   millrace-sim --seed N                    one seed, replayed exactly, with a readable trace (--quiet: without)
//   --mode quiet|crash|errors|damage         only this kind of misfortune
//   --without CLASS                          switches a class of faults off
//   --suppress A-B                           fault numbers that do not strike: how a failing seed is shrunk
//   --replays N                              per mille of the seeds that run twice and must give one trace (default 10)
//   --wide                                   disks of uneven tempo, crashes right after acknowledgements, more midnights
//   --mutant NAME                            with this deliberate bug (millrace-sim-mutants only)
//
// Exit: 0 all passed, 1 a wrong answer, 2 usage, 3 a crash, 4 stuck (no progress). The worst of a range wins, a crash first.
#include <malloc.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/mutant.hpp"
#include "tests/sim/swarm.hpp"

namespace millrace::sim {
namespace {

struct Settings {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool single = false;
  unsigned jobs = 1;
  std::uint64_t replays = 10;
  SwarmOptions options;
};

struct Totals {
  std::uint64_t seeds = 0;
  std::uint64_t wrong = 0;
  std::uint64_t stuck = 0;
  std::uint64_t crashed = 0;
  std::uint64_t diverged = 0;
  Nanos simulated = 0;
  std::map<std::string, std::uint64_t> counts;
};

bool parse_number(std::string_view text, std::uint64_t& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

bool parse_pair(std::string_view text, std::string_view between, std::uint64_t& first, std::uint64_t& last) {
  std::size_t at = text.find(between);
  if (at == std::string_view::npos) return parse_number(text, first) && parse_number(text, last);
  return parse_number(text.substr(0, at), first) && parse_number(text.substr(at + between.size()), last) &&
         first <= last;
}

std::optional<SwarmMode> parse_mode(std::string_view text) {
  for (auto mode : {SwarmMode::quiet, SwarmMode::crash, SwarmMode::errors, SwarmMode::damage})
    if (mode_name(mode) == text) return mode;
  return std::nullopt;
}

bool parse_option(Settings& settings, std::string_view name, std::string_view value) {
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  if (name == "--seeds") return parse_pair(value, "..", settings.first, settings.last);
  if (name == "--seed") {
    settings.single = settings.options.trace = true;
    bool good = parse_number(value, settings.first);
    settings.last = settings.first;
    return good;
  }
  if (name == "--jobs") {
    if (!parse_number(value, a) || a < 1 || a > 256) return false;
    settings.jobs = static_cast<unsigned>(a);
    return true;
  }
#ifdef MILLRACE_MUTANTS
  if (name == "--mutant") {
    mutant_of_this_process = value;
    return true;
  }
#endif
  if (name == "--replays") return parse_number(value, settings.replays);
  if (name == "--mode") {
    settings.options.mode = parse_mode(value);
    return settings.options.mode.has_value();
  }
  if (name == "--without") {
    settings.options.without.push_back(fault_of(value));
    return settings.options.without.back() != FaultClass::count_;
  }
  if (name == "--suppress") {
    bool good = parse_pair(value, "-", a, b);
    settings.options.suppressed.emplace_back(a, b);
    return good;
  }
  return false;
}

bool parse_arguments(int count, char** arguments, Settings& settings) {
  bool quiet = false;
  bool any = false;
  for (int i = 1; i < count; ++i) {
    std::string_view name = arguments[i];
    if (name == "--quiet" || name == "--wide") {
      (name == "--quiet" ? quiet : settings.options.wide) = true;
      continue;
    }
    if (i + 1 >= count || !parse_option(settings, name, arguments[i + 1])) return false;
    any |= name == "--seeds" || name == "--seed";
    ++i;
  }
  if (quiet) settings.options.trace = false;
  return any;
}

std::string_view verdict_name(SeedVerdict verdict) {
  constexpr std::array<std::string_view, 3> names{"passed", "WRONG", "STUCK"};
  return names[static_cast<std::size_t>(verdict)];
}

void print_result(const SeedResult& result) {
  std::printf("seed %llu %s: mode %s, %.1f simulated seconds, %llu events, trace %016llx\n  workload %s\n  faults %s\n",
              static_cast<unsigned long long>(result.seed), std::string(verdict_name(result.verdict)).c_str(),
              std::string(mode_name(result.mode)).c_str(), static_cast<double>(result.simulated) / 1e9,
              static_cast<unsigned long long>(result.events), static_cast<unsigned long long>(result.trace_hash),
              result.workload.c_str(), result.faults.c_str());
  for (const std::string& violation : result.violations) std::printf("  %s\n", violation.c_str());
  std::fflush(stdout);
}

void print_counts(const std::map<std::string, std::uint64_t>& counts, std::string_view prefix, const char* title) {
  std::string line;
  for (const auto& [name, count] : counts)
    if (name.starts_with(prefix)) line += " " + name.substr(prefix.size()) + "=" + std::to_string(count);
  if (!line.empty()) std::printf("%s:%s\n", title, line.c_str());
}

void print_summary(const Totals& totals, double wall) {
  std::map<std::string, std::uint64_t> plain;
  for (const auto& [name, count] : totals.counts)
    if (name.find('.') == std::string::npos) plain[name] = count;
  print_counts(plain, "", "counts");
  print_counts(totals.counts, "fault.", "faults");
  print_counts(totals.counts, "verdict.", "recovery verdicts");
  print_counts(totals.counts, "errno.", "opcode.errno");
  print_counts(totals.counts, "mode.", "modes");
  print_counts(totals.counts, "pure_crash.", "crashes alone");
  double hours = static_cast<double>(totals.simulated) / 3.6e12;
  std::printf("%.2f simulated hours in %.1f s: %.0f simulated seconds a second\n", hours, wall, hours * 3600 / wall);
  std::uint64_t failed = totals.wrong + totals.stuck + totals.crashed + totals.diverged;
  std::printf("seeds %llu: passed %llu, wrong %llu, stuck %llu, crashed %llu, diverged %llu",
              static_cast<unsigned long long>(totals.seeds), static_cast<unsigned long long>(totals.seeds - failed),
              static_cast<unsigned long long>(totals.wrong), static_cast<unsigned long long>(totals.stuck),
              static_cast<unsigned long long>(totals.crashed), static_cast<unsigned long long>(totals.diverged));
  if (failed == 0 && totals.seeds > 0)
    std::printf("; no failure in %llu trials means at most %.3f %% at 95 %% confidence",
                static_cast<unsigned long long>(totals.seeds),
                std::min(100.0, 300.0 / static_cast<double>(totals.seeds)));
  std::printf("\n");
}

/// What a worker tells its parent, a line each: "B seed" before a seed, "C name count", "E seed verdict simulated" after it.
class Worker {
 public:
  Worker(const Settings& settings, int pipe) : settings_(settings), out_(fdopen(pipe, "w")) {}

  void run(std::uint64_t first, std::uint64_t stride) {
    for (std::uint64_t seed = first; seed <= settings_.last; seed += stride) {
      tell("B %llu\n", seed);
      SeedResult result = run_seed(seed, settings_.options, make_shipped_server);
      bool diverged = false;
      if (Random(split_seed(seed, "replay")).below(1000) < settings_.replays)
        diverged = run_seed(seed, settings_.options, make_shipped_server).trace_hash != result.trace_hash;
      if (diverged) result.violations.push_back("diverged: the same seed gave another trace");
      if (result.verdict != SeedVerdict::passed || diverged) print_result(result);
      for (const auto& [name, count] : result.counts)
        std::fprintf(out_, "C %s %llu\n", name.c_str(), static_cast<unsigned long long>(count));
      std::fprintf(out_, "C mode.%s 1\n", std::string(mode_name(result.mode)).c_str());
      std::fprintf(out_, "E %llu %u %lld\n", static_cast<unsigned long long>(seed),
                   diverged ? 3U : static_cast<unsigned>(result.verdict), static_cast<long long>(result.simulated));
      std::fflush(out_);
    }
  }

 private:
  void tell(const char* format, std::uint64_t seed) {
    std::fprintf(out_, format, static_cast<unsigned long long>(seed));
    std::fflush(out_);
  }
  const Settings& settings_;
  std::FILE* out_;
};

struct Job {
  pid_t process = -1;
  std::FILE* in = nullptr;
  std::uint64_t current = 0;  // the seed under way; what crashed it when the worker is gone
  bool busy = false;
  std::string text;  // told, not yet taken
};

void start_job(const Settings& settings, Job& job, std::uint64_t first) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  std::fflush(stdout);
  job.process = fork();
  if (job.process < 0) std::abort();
  if (job.process == 0) {
    close(ends[0]);
    Worker(settings, ends[1]).run(first, settings.jobs);
    std::fflush(stdout);
    _exit(0);
  }
  close(ends[1]);
  job.in = fdopen(ends[0], "r");
}

void take_line(const char* line, Job& job, Totals& totals) {
  unsigned long long seed = 0;
  unsigned long long count = 0;
  long long simulated = 0;
  unsigned verdict = 0;
  char name[128];
  if (std::sscanf(line, "B %llu", &seed) == 1) {
    job.current = seed;
    job.busy = true;
  } else if (std::sscanf(line, "C %127s %llu", name, &count) == 2) {
    totals.counts[name] += count;
  } else if (std::sscanf(line, "E %llu %u %lld", &seed, &verdict, &simulated) == 3) {
    job.busy = false;
    ++totals.seeds;
    totals.simulated += simulated;
    totals.wrong += verdict == 1;
    totals.stuck += verdict == 2;
    totals.diverged += verdict == 3;
  }
}

/// A worker has closed its pipe: done, or crashed; then another goes on with the next seed.
void end_job(const Settings& settings, Job& job, Totals& totals) {
  std::fclose(job.in);
  job.in = nullptr;
  int status = 0;
  waitpid(job.process, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::printf("seed %llu CRASHED\n", static_cast<unsigned long long>(job.current));
  ++totals.crashed;
  ++totals.seeds;
  if (job.current + settings.jobs <= settings.last) start_job(settings, job, job.current + settings.jobs);
}

/// Takes what the workers tell, from whichever tells something, until all have ended.
void drain(const Settings& settings, std::vector<Job>& jobs, Totals& totals) {
  for (;;) {
    std::vector<pollfd> waiting;
    std::vector<Job*> owners;
    for (Job& job : jobs) {
      if (job.in == nullptr) continue;
      waiting.push_back({fileno(job.in), POLLIN, 0});
      owners.push_back(&job);
    }
    if (waiting.empty()) return;
    poll(waiting.data(), waiting.size(), -1);
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      char bytes[4096];
      ssize_t got = read(waiting[i].fd, bytes, sizeof bytes);
      if (got <= 0) {
        end_job(settings, *owners[i], totals);
        continue;
      }
      owners[i]->text.append(bytes, static_cast<std::size_t>(got));
      for (std::size_t end = 0; (end = owners[i]->text.find('\n')) != std::string::npos;) {
        take_line(owners[i]->text.substr(0, end).c_str(), *owners[i], totals);
        owners[i]->text.erase(0, end + 1);
      }
    }
  }
}

int exit_code(const Totals& totals) {
  if (totals.crashed > 0) return 3;
  if (totals.wrong > 0 || totals.diverged > 0) return 1;
  return totals.stuck > 0 ? 4 : 0;
}

int run_range(const Settings& settings) {
  auto begin = std::chrono::steady_clock::now();
  Totals totals;
  std::vector<Job> jobs(settings.jobs);
  for (unsigned i = 0; i < settings.jobs; ++i)
    if (settings.first + i <= settings.last) start_job(settings, jobs[i], settings.first + i);
  drain(settings, jobs, totals);
  print_summary(totals, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return exit_code(totals);
}

int run_single(const Settings& settings) {
  auto begin = std::chrono::steady_clock::now();
  SeedResult result = run_seed(settings.first, settings.options, make_shipped_server);
  print_result(result);
  Totals totals;
  totals.seeds = 1;
  totals.simulated = result.simulated;
  totals.counts = result.counts;
  totals.wrong = result.verdict == SeedVerdict::wrong;
  totals.stuck = result.verdict == SeedVerdict::stuck;
  print_summary(totals, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return exit_code(totals);
}

/// A seed takes and gives back gigabytes in pieces of megabytes. Kept by the process, they cost no page faults next time;
/// given back to the system, they were two thirds of the time.
void keep_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace
}  // namespace millrace::sim

int main(int count, char** arguments) {
  millrace::sim::keep_memory();
  millrace::sim::Settings settings;
  if (!millrace::sim::parse_arguments(count, arguments, settings)) {
    std::fprintf(
        stderr,
        "usage: millrace-sim (--seeds A..B [--jobs N] | --seed N [--quiet]) [--mode quiet|crash|errors|damage]\n"
        "                    [--wide] [--without CLASS]… [--suppress A-B]… [--replays PER_MILLE]\n"
        "Examples:\n"
        "  millrace-sim --seeds 1..1000 --jobs 2     a range, with a summary\n"
        "  millrace-sim --seed 17                    one of them again, exactly, with its trace\n");
    return 2;
  }
  return settings.single ? millrace::sim::run_single(settings) : millrace::sim::run_range(settings);
}
