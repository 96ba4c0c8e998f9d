#include "cli/verify.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/progress.hpp"
#include "cli/verify_against.hpp"
#include "server/verify_run.hpp"

namespace millrace::cli {

namespace {

/// Prints damages as they are found, or keeps them for JSON.
class Findings final : public VerifyVisitor {
 public:
  explicit Findings(bool json) : json_(json) {}

  void damage(const Damage& damage) override {
    if (json_) damages_.push_back(as_json(damage));
    else print(damage);
  }
  void note(const std::string& text) override {
    if (json_) {
      notes_.push_back(text);
      return;
    }
    progress_.clear();
    std::fprintf(stderr, "note: %s\n", text.c_str());
  }
  void progress(const VerifyProgress& progress) override {
    progress_.show(progress.file, progress.bytes_done, progress.bytes_total);
  }
  void end() { progress_.clear(); }
  nlohmann::json damages() { return damages_; }
  nlohmann::json notes() { return notes_; }

 private:
  static nlohmann::json as_json(const Damage& damage);
  void print(const Damage& damage);

  const bool json_;
  Progress progress_;
  nlohmann::json damages_ = nlohmann::json::array();
  nlohmann::json notes_ = nlohmann::json::array();
};

nlohmann::json Findings::as_json(const Damage& damage) {
  nlohmann::json json;
  json["kind"] = damage_name(damage.kind);
  json["shard"] = damage.shard.value;
  json["file"] = damage.file;
  if (damage.end != 0) json["bytes"] = {damage.begin, damage.end};
  if (damage.end_lsn.value != 0) json["lsns"] = {damage.first_lsn.value, damage.end_lsn.value};
  if (damage.stream.value != 0) {
    json["stream"] = damage.stream_name;
    json["stream_id"] = fmt::format("{:016x}", damage.stream.value);
    json["offsets"] = {damage.first_offset.value, damage.end_offset.value};
  }
  json["what"] = damage.what;
  return json;
}

void Findings::print(const Damage& damage) {
  progress_.clear();
  std::string place = fmt::format("shard {}", damage.shard.value);
  if (!damage.file.empty()) place += fmt::format(", {}", damage.file);
  if (damage.end != 0) place += fmt::format(", bytes {}..{}", damage.begin, damage.end - 1);
  if (damage.end_lsn.value != 0) place += fmt::format(", lsn {}..{}", damage.first_lsn.value, damage.end_lsn.value - 1);
  if (damage.stream.value != 0) {
    std::string name = damage.stream_name.empty() ? fmt::format("{:016x}", damage.stream.value) : damage.stream_name;
    place += fmt::format(", stream {} offsets {}..{}", name, damage.first_offset.value, damage.end_offset.value - 1);
  }
  std::printf("DAMAGE %s: %s: %s\n", std::string(damage_name(damage.kind)).c_str(), place.c_str(), damage.what.c_str());
}

class VerifyVerb final : public Verb {
 public:
  CLI::App* declare(CLI::App& app) override;
  int run() override;

 private:
  void print(const VerifyReport& report, Findings& findings) const;

  std::string data_;
  std::string against_;
  bool buffered_ = false;
  bool json_ = false;
};

CLI::App* VerifyVerb::declare(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("verify", "Check every hash, chain, index entry and seal of a data directory.");
  verb->add_option("--data", data_, "the data directory; may be live, stopped or a copy")
      ->option_text("DIR")
      ->required();
  verb->add_option("--against", against_, "compare with this server instead: chains, then every byte both have durably")
      ->option_text("HOST:PORT");
  verb->add_flag("--buffered", buffered_, "read without direct I/O, for filesystems that have none");
  verb->add_flag("--json", json_, "one JSON object on stdout");
  verb->footer(
      "A place A..B includes both; in JSON it is [first, end), as everywhere in Millrace's JSON.\n"
      "--against holds the directory against a leader, a follower or a restored server of the same log; either may be "
      "live,\n"
      "and ahead or behind.\n"
      "Nothing is written. Exit status 0: all is well; 1: damage or a difference, each with its exact place; 2: wrong "
      "usage.\n"
      "Examples:\n"
      "  millrace verify --data /var/lib/millrace\n"
      "  millrace verify --data ./copy --json | jq '.damages[].what'\n"
      "  millrace verify --data ./follower --against 127.0.0.1:7070");
  return verb;
}

void VerifyVerb::print(const VerifyReport& report, Findings& findings) const {
  if (json_) {
    nlohmann::json json;
    json["shards"] = report.shards;
    json["days"] = report.days;
    json["days_finished"] = report.days_finished;
    json["segments"] = report.segments;
    json["groups"] = report.groups;
    json["batches"] = report.batches;
    json["records"] = report.records;
    json["bytes"] = report.bytes;
    json["index_entries"] = report.index_entries;
    json["index_runs"] = report.index_runs;
    json["index_runs_lacking"] = report.index_runs_lacking;
    json["tail_batches"] = report.tail_batches;
    json["state_files"] = report.state_files;
    json["pool_segments"] = report.pool_segments;
    json["quarantine_files"] = report.quarantine_files;
    json["quarantine_bytes"] = report.quarantine_bytes;
    json["damage_count"] = report.damages;
    json["damages"] = findings.damages();
    json["notes"] = findings.notes();
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return;
  }
  std::printf(
      "%s: %llu records in %llu batches, %llu groups, %llu segments, %llu days (%llu finished), %llu index entries "
      "of %llu closed segments; %s read\n",
      report.damages == 0 ? "sound" : "DAMAGED", static_cast<unsigned long long>(report.records),
      static_cast<unsigned long long>(report.batches), static_cast<unsigned long long>(report.groups),
      static_cast<unsigned long long>(report.segments), static_cast<unsigned long long>(report.days),
      static_cast<unsigned long long>(report.days_finished), static_cast<unsigned long long>(report.index_entries),
      static_cast<unsigned long long>(report.index_runs), human_bytes(report.bytes).c_str());
  // A young log has no state file yet, which is no damage; one that does not verify has a note of its own.
  std::printf("beside the log: %llu state file%s, %llu segments prepared, %llu files (%s) in quarantine\n",
              static_cast<unsigned long long>(report.state_files), report.state_files == 1 ? "" : "s",
              static_cast<unsigned long long>(report.pool_segments),
              static_cast<unsigned long long>(report.quarantine_files), human_bytes(report.quarantine_bytes).c_str());
}

int VerifyVerb::run() {
  if (!against_.empty()) return verify_against({data_, against_, buffered_, json_});
  Findings findings(json_);
  auto report = run_verify(data_, buffered_, findings);
  findings.end();
  if (!report) {
    const bool no_direct = !buffered_ && report.error() == Error::invalid_argument;
    const bool foreign = report.error() == Error::not_found;
    const std::string why = no_direct ? "this filesystem has no direct I/O; use --buffered"
                            : foreign ? "there is none, so this is no data directory of millrace"
                                      : std::string(error_text(report.error()));
    std::fprintf(stderr, "millrace verify: %s%s: %s\n", data_.c_str(), foreign ? "/node.meta" : "", why.c_str());
    return exit_failed;
  }
  print(*report, findings);
  return report->damages == 0 ? exit_ok : exit_failed;
}

}  // namespace

std::unique_ptr<Verb> verify_verb() { return std::make_unique<VerifyVerb>(); }

}  // namespace millrace::cli
