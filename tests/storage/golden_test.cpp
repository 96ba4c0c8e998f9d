// Every row of recovery's table has a golden file: bytes that were written once, and the verdict they must give for ever.
// With MILLRACE_WRITE_GOLDEN=1 in the environment the files are written anew; the difference is then for a person to read.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/storage/golden.hpp"

namespace millrace::test {
namespace {

std::string file_of(const std::string& name) {
  return std::string(MR_SOURCE_ROOT) + "/tests/golden/recovery/" + name + ".txt";
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(RecoveryGolden, EveryRowHasItsCase) {
  std::vector<GoldenCase> cases = golden_cases();
  ASSERT_EQ(cases.size(), recovery_rows);
  for (std::size_t row = 0; row < cases.size(); ++row)
    EXPECT_EQ(cases[row].name, recovery_row_name(static_cast<RecoveryRow>(row)));
}

TEST(RecoveryGolden, FilesGiveTheVerdictsTheyGaveWhenWritten) {
  for (const GoldenCase& made : golden_cases()) {
    std::string path = file_of(made.name);
    if (std::getenv("MILLRACE_WRITE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << render(made);
    std::string text = read_text(path);
    ASSERT_FALSE(text.empty()) << path;
    // The file's own bytes, not those the model makes today, are recovered; then both must be the same.
    EXPECT_EQ(render(parse_golden(text)), text) << path;
    EXPECT_EQ(render(made), text) << path;
    EXPECT_NE(text.find("\nexpect\nrow " + made.name + "\n"), std::string::npos) << path;
  }
}

TEST(RecoveryGolden, EveryRowIsArguedFor) {
  std::string page = read_text(std::string(MR_SOURCE_ROOT) + "/storage/RECOVERY.md");
  for (std::size_t row = 0; row < recovery_rows; ++row) {
    std::string name(recovery_row_name(static_cast<RecoveryRow>(row)));
    EXPECT_NE(page.find("| " + name + " |"), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace millrace::test
