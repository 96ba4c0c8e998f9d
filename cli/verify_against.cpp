#include "cli/verify_against.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/host_port.hpp"
#include "cli/progress.hpp"
#include "cli/verb.hpp"
#include "server/verify_run.hpp"

namespace millrace::cli {

namespace {

using nlohmann::json;

/// Prints differences as they are found, or keeps them for JSON.
class Differences final : public CompareVisitor {
 public:
  explicit Differences(bool as_json) : as_json_(as_json) {}

  void difference(const Difference& difference) override {
    if (as_json_) {
      list_.push_back({{"shard", difference.shard.value},
                       {"file", difference.file},
                       {"offset", difference.offset},
                       {"what", difference.what}});
      return;
    }
    progress_.clear();
    fmt::print("DIFFERS {}, byte {}: {}\n", difference.file, difference.offset, difference.what);
  }
  void progress(const CompareProgress& progress) override {
    progress_.show(progress.file, progress.bytes_done, progress.bytes_total);
  }
  void end() { progress_.clear(); }
  const json& list() const { return list_; }

 private:
  const bool as_json_;
  Progress progress_;
  json list_ = json::array();
};

/// The first numeric address behind a name.
std::optional<Address> address_of(const std::string& text) {
  const auto named = split_host_port(text);
  if (!named || named->port == 0) return std::nullopt;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const char* host = named->host.empty() ? "127.0.0.1" : named->host.c_str();
  if (::getaddrinfo(host, nullptr, &hints, &found) != 0) return std::nullopt;
  std::array<char, NI_MAXHOST> numeric{};
  const int failed =
      ::getnameinfo(found->ai_addr, found->ai_addrlen, numeric.data(), numeric.size(), nullptr, 0, NI_NUMERICHOST);
  ::freeaddrinfo(found);
  if (failed != 0) return std::nullopt;
  return Address{numeric.data(), named->port};
}

void print(const AgainstWanted& wanted, const CompareReport& report, const Differences& differences) {
  if (wanted.json) {
    const json all = {{"shards", report.shards},
                      {"segments", report.segments},
                      {"chains", report.chains},
                      {"bytes", report.bytes},
                      {"segments_not_there", report.not_there},
                      {"segments_expired", report.expired},
                      {"difference_count", report.differences},
                      {"differences", differences.list()}};
    fmt::print("{}\n", all.dump(2, ' ', false, json::error_handler_t::replace));
    return;
  }
  fmt::print("{}: {} chains and {} in {} segments compared with {}", report.differences == 0 ? "equal" : "DIFFERENT",
             report.chains, human_bytes(report.bytes), report.segments, wanted.server);
  if (report.not_there > 0) fmt::print("; {} segments are not there yet", report.not_there);
  if (report.expired > 0) fmt::print("; {} segments are not kept there any more", report.expired);
  fmt::print("\n");
}

}  // namespace

int verify_against(const AgainstWanted& wanted) {
  const auto address = address_of(wanted.server);
  if (!address) {
    std::fprintf(stderr, "millrace verify: --against: \"%s\" is no HOST:PORT that can be resolved\n",
                 wanted.server.c_str());
    return exit_usage;
  }
  Differences differences(wanted.json);
  std::string complaint;
  const CompareOptions options{.node = *address, .buffered = wanted.buffered};
  const auto report = run_compare(wanted.data, options, differences, complaint);
  differences.end();
  if (!report) {
    std::fprintf(stderr, "millrace verify: %s\n", complaint.c_str());
    return exit_failed;
  }
  print(wanted, *report, differences);
  if (report->segments == 0 && report->not_there + report->expired > 0) {
    std::fprintf(stderr, "millrace verify: the server has none of these segments, so nothing could be compared\n");
    return exit_failed;
  }
  return report->differences == 0 ? exit_ok : exit_failed;
}

}  // namespace millrace::cli
