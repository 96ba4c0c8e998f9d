#include "cli/append.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>

#include "base/quantity.hpp"
#include "cli/interrupt.hpp"
#include "cli/record_input.hpp"
#include "millrace/client.hpp"
#include "sdk/latency_histogram.hpp"

namespace millrace::cli {

namespace {

using std::chrono::steady_clock;

constexpr std::uint32_t queued_batches = 8;
constexpr std::chrono::milliseconds progress_every{200};
/// How long what is in flight may take to be acknowledged after Ctrl-C.
constexpr std::chrono::seconds interrupted_wait_max{5};

/// What the I/O thread counts and the summary shows.
struct Tally {
  std::mutex mutex;
  std::uint64_t records = 0;
  std::uint64_t repeats = 0;
  LatencyHistogram commits;

  void count(const Commit& commit) {
    if (commit.error != ErrorCode::none && commit.error != ErrorCode::duplicate) return;
    const std::lock_guard lock(mutex);
    records += commit.count;
    if (commit.repeat) repeats += 1;
    commits.add(commit.acknowledged_at - commit.sent_at);
  }
};

class AppendVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  bool read_flags();
  bool open_input();
  int append_all(Client& client);
  bool append_input(Producer& producer, const Interrupt& interrupt);
  bool wait_for_answers(Producer& producer);
  void show_progress(bool force);
  void show_summary(double seconds);
  int complain(const std::string& text) const;
  std::size_t record_bytes_max() const {
    return arena_bytes_max(std::clamp(batch_records_, batch_records_usual, client_batch_records_max));
  }

  std::string server_ = "127.0.0.1:7070";
  std::string stream_;
  std::string file_;
  std::string batch_bytes_text_ = "64KiB";
  std::string retry_text_ = "30s";
  std::string linger_text_ = "0";
  std::string delimiter_text_ = "newline";
  std::uint16_t type_ = 0;
  std::uint32_t batch_records_ = 0;
  std::uint32_t in_flight_ = 16;
  bool quiet_ = false;

  std::uint64_t batch_bytes_ = 0;
  std::chrono::nanoseconds retry_{};
  std::chrono::nanoseconds linger_{};
  Delimiter delimiter_ = Delimiter::newline;
  int input_ = STDIN_FILENO;
  std::uint64_t input_records_ = 0;
  std::uint64_t payload_bytes_ = 0;
  bool on_terminal_ = false;
  steady_clock::time_point begun_{};
  steady_clock::time_point shown_{};
  Tally tally_;
};

CLI::App* AppendVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("append", "Commit records from a file or from standard input to a stream.");
  verb->add_option("--server", server_, "the server, or a leader and its followers: A,B (127.0.0.1:7070)")
      ->option_text("HOST:PORT");
  verb->add_option("--stream", stream_, "the stream; made with its first record")->option_text("NAME")->required();
  verb->add_option("--type", type_, "record type, 0 to 65535 (0)")->option_text("N");
  verb->add_option("--file", file_, "the input (standard input)")->option_text("FILE");
  verb->add_option("--delimiter", delimiter_text_,
                   "newline: a record a line; len32: u32 length, then the bytes (newline)")
      ->option_text("newline|len32");
  verb->add_option("--batch-records", batch_records_, "most records committed together (as many as fit)")
      ->option_text("N");
  verb->add_option("--batch-bytes", batch_bytes_text_, "most bytes committed together (64KiB)")->option_text("BYTES");
  verb->add_option("--in-flight", in_flight_, "batches sent and not yet acknowledged, 1 to 64 (16)")->option_text("N");
  verb->add_option("--linger", linger_text_, "how long a batch that is not full waits for more (0)")
      ->option_text("TIME");
  verb->add_option("--retry", retry_text_, "how long to wait for a server that is away or full; 0: one try (30s)")
      ->option_text("TIME");
  verb->add_flag("--quiet", quiet_, "no progress and no summary");
  const std::string record_bytes = std::to_string(input_record_bytes_max);
  verb->footer(
      "Examples:\n"
      "  millrace append --stream web/access --file access.log\n"
      "  tail -F app.log | millrace append --stream app\n"
      "  millrace append --stream blobs --delimiter len32 < blobs.bin\n"
      "A newline is not part of its record, a carriage return is. A record has at most " +
      record_bytes +
      " bytes.\n"
      "Without any record nothing is stored, and no stream is made. A server that restarts meanwhile is waited for; "
      "nothing is\n"
      "stored twice. Exit 0: every record is on disk. Ctrl-C ends the input: what was sent is waited for, and exit 130 "
      "says that\n"
      "the input may have had more; a second one ends at once.");
  return verb;
}

int AppendVerb::complain(const std::string& text) const {
  std::fprintf(stderr, "millrace append: %s\n", text.c_str());
  return exit_failed;
}

bool AppendVerb::read_flags() {
  const auto bad = [&](const char* flag, const std::string& value) {
    std::fprintf(stderr, "millrace append: --%s: \"%s\" is not understood\n", flag, value.c_str());
    return false;
  };
  const auto bytes = parse_bytes(batch_bytes_text_);
  if (!bytes || *bytes == 0) return bad("batch-bytes", batch_bytes_text_);
  batch_bytes_ = *bytes;
  const auto retry = parse_duration(retry_text_);
  if (!retry) return bad("retry", retry_text_);
  retry_ = std::chrono::nanoseconds(*retry);
  const auto linger = parse_duration(linger_text_);
  if (!linger) return bad("linger", linger_text_);
  linger_ = std::chrono::nanoseconds(*linger);
  if (delimiter_text_ != "newline" && delimiter_text_ != "len32") return bad("delimiter", delimiter_text_);
  delimiter_ = delimiter_text_ == "len32" ? Delimiter::len32 : Delimiter::newline;
  if (in_flight_ < 1 || in_flight_ > 64) return bad("in-flight", std::to_string(in_flight_));
  return true;
}

bool AppendVerb::open_input() {
  if (file_.empty() || file_ == "-") return true;
  input_ = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (input_ >= 0) return true;
  complain(file_ + ": " + std::strerror(errno));
  return false;
}

int AppendVerb::run() {
  if (!read_flags()) return exit_usage;
  if (!open_input()) return exit_failed;
  on_terminal_ = !quiet_ && ::isatty(STDERR_FILENO) == 1;

  ClientOptions options;
  options.server = server_;
  options.identity = "millrace-cli";
  options.retry = std::chrono::duration_cast<std::chrono::milliseconds>(retry_);
  // Room for the largest legal record in every batch; pages nobody touches cost nothing.
  options.batch_bytes_max = std::max<std::size_t>(batch_bytes_, input_record_bytes_max);
  options.batch_records_max = std::max(batch_records_, batch_records_usual);
  options.memory_bytes = std::size_t{in_flight_ + queued_batches} * (input_record_bytes_max + (std::size_t{4} << 20));
  auto client = Client::connect(options);
  if (!client) return complain(client.problem().text());
  return append_all(*client);
}

int AppendVerb::append_all(Client& client) {
  ProducerOptions options;
  options.stream = stream_;
  options.batch_bytes = batch_bytes_;
  if (batch_records_ != 0) options.batch_records = batch_records_;
  options.linger = std::chrono::duration_cast<std::chrono::microseconds>(linger_);
  options.in_flight = in_flight_;
  options.queued = queued_batches;
  options.on_commit = [this](const Commit& commit) { tally_.count(commit); };
  begun_ = steady_clock::now();
  auto producer = client.producer(options);
  if (!producer) return complain(producer.problem().text());
  const Interrupt interrupt;
  bool good = append_input(*producer, interrupt);
  good = wait_for_answers(*producer) && good;
  const double seconds = std::chrono::duration<double>(steady_clock::now() - begun_).count();
  show_progress(true);
  if (good && input_records_ == 0 && !quiet_ && !Interrupt::requested())
    std::fprintf(stderr,
                 "millrace append: the input is empty: nothing was stored (a stream is made with its first record)\n");
  show_summary(seconds);
  if (Interrupt::requested()) return Interrupt::exit_code();
  return good ? exit_ok : exit_failed;
}

/// As long as the retry time allows, the producer itself knows when to give up; after Ctrl-C not much longer.
bool AppendVerb::wait_for_answers(Producer& producer) {
  std::optional<steady_clock::time_point> deadline;
  for (;;) {
    const auto flushed = producer.flush(progress_every);
    if (flushed) return true;
    if (Interrupt::requested() && !deadline) deadline = steady_clock::now() + interrupted_wait_max;
    if (flushed.problem().code == ErrorCode::timed_out && producer.problem().code == ErrorCode::none &&
        (!deadline || steady_clock::now() < *deadline)) {
      show_progress(false);
      continue;
    }
    show_progress(true);
    complain(deadline ? "interrupted, and what became of the last records is not known: " + flushed.problem().text()
                      : flushed.problem().text());
    return false;
  }
}

bool AppendVerb::append_input(Producer& producer, const Interrupt& interrupt) {
  RecordInput input(input_, delimiter_, interrupt.descriptor());
  Record record;
  record.type = type_;
  for (;;) {
    // What waits for input must not wait for more: a pipe may be quiet for hours. One look at the clock a block, too.
    if (input.would_read() || record.event_time == 0)
      record.event_time = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
    const auto bytes = input.next();
    if (!bytes || Interrupt::requested()) break;
    record.payload = *bytes;
    AppendStatus status = AppendStatus::no_room;
    while ((status = producer.append(record, progress_every)) == AppendStatus::no_room && !Interrupt::requested())
      show_progress(false);
    if (status == AppendStatus::no_room) break;
    if (status == AppendStatus::failed) return false;  // flush says why
    if (status == AppendStatus::too_large) {
      complain("record " + std::to_string(input_records_) + " is too large: " + std::to_string(bytes->size()) +
               " bytes, and " + std::to_string(record_bytes_max()) + " fit a batch" +
               (batch_records_ > batch_records_usual ? " of --batch-records " + std::to_string(batch_records_) : ""));
      return false;
    }
    input_records_ += 1;
    payload_bytes_ += bytes->size();
    if (input_records_ % 4096 == 0) show_progress(false);
  }
  if (!input.error().empty()) {
    complain(input.error());
    return false;
  }
  return true;
}

void AppendVerb::show_progress(bool force) {
  if (!on_terminal_) return;
  const auto now = steady_clock::now();
  if (!force && now - shown_ < progress_every) return;
  shown_ = now;
  std::uint64_t committed = 0;
  {
    const std::lock_guard lock(tally_.mutex);
    committed = tally_.records;
  }
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  std::fprintf(stderr, "\r%llu records committed, %llu read, %.0f records/s \033[K%s",
               static_cast<unsigned long long>(committed), static_cast<unsigned long long>(input_records_),
               seconds > 0 ? static_cast<double>(committed) / seconds : 0.0, force ? "\n" : "");
}

void AppendVerb::show_summary(double seconds) {
  if (quiet_) return;
  const std::lock_guard lock(tally_.mutex);
  const LatencyHistogram& commits = tally_.commits;
  const double rate = seconds > 0 ? static_cast<double>(tally_.records) / seconds : 0.0;
  std::fprintf(stderr, "%llu records, %llu bytes, %.3f seconds, %.0f records/s, commit p50 %s p99 %s max %s",
               static_cast<unsigned long long>(tally_.records), static_cast<unsigned long long>(payload_bytes_),
               seconds, rate, format_duration(static_cast<double>(commits.roughly_at(0.5))).c_str(),
               format_duration(static_cast<double>(commits.roughly_at(0.99))).c_str(),
               format_duration(static_cast<double>(commits.max())).c_str());
  if (tally_.repeats > 0)
    std::fprintf(stderr, ", %llu batches sent again and stored once", static_cast<unsigned long long>(tally_.repeats));
  if (tally_.records < input_records_)
    std::fprintf(stderr, "; %llu records were read, and the bytes are theirs: %llu of them were not acknowledged",
                 static_cast<unsigned long long>(input_records_),
                 static_cast<unsigned long long>(input_records_ - tally_.records));
  std::fputc('\n', stderr);
}

}  // namespace

std::unique_ptr<Verb> append_verb() { return std::make_unique<AppendVerb>(); }

}  // namespace millrace::cli
