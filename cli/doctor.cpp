#include "cli/doctor.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace millrace {

namespace {

const char* finding_name(Finding finding) {
  switch (finding) {
    case Finding::ok: return "ok";
    case Finding::costs: return "costs you";
    case Finding::broken: return "broken";
  }
  return "?";
}

void print_text(const DoctorRows& rows) {
  std::size_t width = 0;
  for (const DoctorRow& row : rows) width = std::max(width, row.check.size());
  for (const DoctorRow& row : rows) {
    fmt::print("{:<9}  {:<{}}  {}\n", finding_name(row.finding), row.check, width, row.found);
    if (!row.advice.empty()) fmt::print("{:<9}  {:<{}}  -> {}\n", "", "", width, row.advice);
  }
}

void print_json(const DoctorRows& rows) {
  nlohmann::json list = nlohmann::json::array();
  for (const DoctorRow& row : rows)
    list.push_back(
        {{"check", row.check}, {"finding", finding_name(row.finding)}, {"found", row.found}, {"advice", row.advice}});
  fmt::print("{}\n", nlohmann::json{{"rows", list}}.dump(2));
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
  if (::access(options.directory.c_str(), W_OK | X_OK) != 0) {
    fmt::print(stderr, "millrace doctor: {} is not a directory this user can write to; name another with --data\n",
               options.directory);
    return 2;
  }
  bool terminal = ::isatty(STDERR_FILENO) != 0;
  DoctorProgress progress = [terminal](const std::string& step) {
    if (terminal) fmt::print(stderr, "\r\033[K{} …", step);
    else fmt::print(stderr, "doctor: {}\n", step);
    std::fflush(stderr);
  };
  DoctorRows rows;
  examine_host(rows, progress);
  examine_disk(options.directory, rows, progress);
  if (terminal) fmt::print(stderr, "\r\033[K");
  options.json ? print_json(rows) : print_text(rows);
  bool broken =
      std::any_of(rows.begin(), rows.end(), [](const DoctorRow& row) { return row.finding == Finding::broken; });
  return broken ? 1 : 0;
}

}  // namespace millrace
