#include "cli/read.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <system_error>

#include "base/quantity.hpp"
#include "cli/interrupt.hpp"
#include "cli/loss_lines.hpp"
#include "cli/record_output.hpp"
#include "cli/record_source.hpp"

namespace millrace::cli {

namespace {

constexpr std::chrono::milliseconds look_around_every{200};

class ReadVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  bool read_flags();
  Expected<std::unique_ptr<RecordSource>> open() const;
  int read_all(RecordSource& source);
  int complain(const std::string& text) const;

  std::string server_;
  std::string data_;
  std::string stream_;
  std::string from_text_ = "earliest";
  std::string until_text_;
  std::string format_text_ = "raw";
  std::string delimiter_text_ = "newline";
  std::string retry_text_ = "10s";
  std::string count_text_;
  std::optional<std::uint16_t> type_;
  std::uint64_t count_ = 0;
  bool follow_ = false;
  bool buffered_ = false;

  ConsumerOptions options_;
  Format format_ = Format::raw;
  Delimiter delimiter_ = Delimiter::newline;
  std::chrono::milliseconds retry_{};
};

CLI::App* ReadVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("read", "Print the records of a stream.");
  auto* server =
      verb->add_option("--server", server_, "the server, or a leader and its followers: A,B (127.0.0.1:7070)")
          ->option_text("HOST:PORT");
  verb->add_option("--data", data_, "read a data directory instead, with or without its server running")
      ->option_text("DIR")
      ->excludes(server);
  verb->add_option("--stream", stream_, "the stream")->option_text("NAME")->required();
  verb->add_option("--from", from_text_, "earliest|latest|offset:N|time:RFC3339|day:YYYY-MM-DD[:ID] (earliest)")
      ->option_text("PLACE");
  verb->add_option("--until", until_text_, "the first place not printed; the same forms (the end as it is now)")
      ->option_text("PLACE");
  verb->add_option("--type", type_, "only records of this type")->option_text("N");
  verb->add_option("--count", count_text_, "stop after so many records, at least 1 (all)")->option_text("N");
  verb->add_flag("--follow", follow_, "wait for more at the end");
  verb->add_option("--format", format_text_, "raw: the record and a delimiter; json: an object a line (raw)")
      ->option_text("raw|json");
  verb->add_option("--delimiter", delimiter_text_,
                   "of raw records: newline, or len32 for u32 length and bytes (newline)")
      ->option_text("newline|len32");
  verb->add_option("--retry", retry_text_, "how long to wait for a server that is away; 0: one try (10s)")
      ->option_text("TIME");
  verb->add_flag("--buffered", buffered_, "with --data, on filesystems without direct I/O");
  verb->footer(
      "Examples:\n"
      "  millrace read --stream web/access --from time:2026-11-21T07:00:00Z --count 10\n"
      "  millrace read --stream web/access --from day:2026-11-21 --until day:2026-11-22 --format json\n"
      "  millrace read --stream app --from latest --follow\n"
      "  millrace read --data ./data --stream blobs --delimiter len32 > blobs.bin\n"
      "What was durable and is lost is named on stderr as DATA_LOSS, offsets that were asked for and are no longer "
      "kept as "
      "OUT_OF_RANGE;\n"
      "offsets=A..B includes both. What is behind is printed, and the exit status is 1.");
  return verb;
}

int ReadVerb::complain(const std::string& text) const {
  std::fprintf(stderr, "millrace read: %s\n", text.c_str());
  return exit_failed;
}

bool ReadVerb::read_flags() {
  const auto bad = [&](const char* flag, const std::string& value) {
    complain(std::string("--") + flag + ": \"" + value + "\" is not understood");
    return false;
  };
  const auto from = Place::parse(from_text_);
  if (!from) return complain("--from: " + from.problem().context), false;
  options_.from = from.value();
  if (!until_text_.empty()) {
    const auto until = Place::parse(until_text_);
    if (!until) return complain("--until: " + until.problem().context), false;
    options_.until = until.value();
  }
  if (!count_text_.empty()) {
    const auto [end, error] = std::from_chars(count_text_.data(), count_text_.data() + count_text_.size(), count_);
    if (error != std::errc() || end != count_text_.data() + count_text_.size() || count_ == 0)
      return complain("--count: \"" + count_text_ + "\" is not a number from 1 on"), false;
  }
  const auto retry = parse_duration(retry_text_);
  if (!retry) return bad("retry", retry_text_);
  retry_ = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds(*retry));
  if (format_text_ != "raw" && format_text_ != "json") return bad("format", format_text_);
  if (delimiter_text_ != "newline" && delimiter_text_ != "len32") return bad("delimiter", delimiter_text_);
  format_ = format_text_ == "json" ? Format::json : Format::raw;
  delimiter_ = delimiter_text_ == "len32" ? Delimiter::len32 : Delimiter::newline;
  options_.stream = stream_;
  options_.follow = follow_;
  options_.type = type_;
  options_.count = count_;
  return true;
}

Expected<std::unique_ptr<RecordSource>> ReadVerb::open() const {
  if (!data_.empty()) return directory_source(data_, buffered_, options_);
  return server_source(server_.empty() ? "127.0.0.1:7070" : server_, retry_, options_);
}

int ReadVerb::run() {
  if (!read_flags()) return exit_usage;
  auto source = open();
  if (!source) return complain(source.problem().text());
  return read_all(**source);
}

int ReadVerb::read_all(RecordSource& source) {
  RecordOutput output(STDOUT_FILENO, format_, delimiter_);
  // What stands before a loss is printed first.
  LossLines losses(stream_, [&output](const std::string& line) {
    output.flush();
    std::fputs(line.c_str(), stderr);
  });
  const Interrupt interrupt;
  for (;;) {
    const ReadResult& result = source.next(std::chrono::nanoseconds(0));
    const ReadResult* current = &result;
    if (result.event == ReadEvent::timed_out) {
      // Nothing more at once: show what there is before waiting.
      losses.flush();
      if (!output.flush()) break;
      current = &source.next(look_around_every);
    }
    if (Interrupt::requested()) break;
    if (current->event == ReadEvent::data_loss) losses.add(*current);
    else if (current->event != ReadEvent::day_finished) losses.flush();
    if (current->event == ReadEvent::record && !output.put(current->record)) break;
    if (current->event == ReadEvent::end) break;
    if (current->event == ReadEvent::failed) {
      output.flush();
      return complain(current->problem.text());
    }
  }
  losses.flush();
  output.flush();
  if (!output.error().empty()) return complain(output.error());
  // Who follows has no other end than this.
  if (Interrupt::requested() && !follow_) return Interrupt::exit_code();
  return losses.any() ? exit_failed : exit_ok;
}

}  // namespace

std::unique_ptr<Verb> read_verb() { return std::make_unique<ReadVerb>(); }

}  // namespace millrace::cli
