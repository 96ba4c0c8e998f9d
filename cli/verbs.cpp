#include "cli/append.hpp"
#include "cli/doctor.hpp"
#include "cli/promote.hpp"
#include "cli/read.hpp"
#include "cli/serve.hpp"
#include "cli/stat.hpp"
#include "cli/status.hpp"
#include "cli/verb.hpp"
#include "cli/verify.hpp"
#include "cli/version.hpp"

namespace millrace::cli {

std::vector<std::unique_ptr<Verb>> all_verbs() {
  std::vector<std::unique_ptr<Verb>> verbs;
  verbs.push_back(serve_verb());
  verbs.push_back(append_verb());
  verbs.push_back(read_verb());
  verbs.push_back(stat_verb());
  verbs.push_back(status_verb());
  verbs.push_back(promote_verb());
  verbs.push_back(verify_verb());
  verbs.push_back(doctor_verb());
  verbs.push_back(version_verb());
  verbs.push_back(help_verb());
  return verbs;
}

}  // namespace millrace::cli
