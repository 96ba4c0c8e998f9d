// A day's index against what its log says: verify hands over each segment's run as it must be, then the units one after the
// other. Pure; one thread.
#pragma once

#include <string>
#include <vector>

#include "storage/index_unit.hpp"
#include "storage/verify_log.hpp"

namespace millrace {

class IndexCheck {
 public:
  /// Nothing when the run is what the log says; else one sentence, and in `stream` whose.
  static std::string compare_run(const UnitView& unit, const CheckedRun& expected, StreamId& stream);

  /// Any run or directory, in the file's order, at `offset`: remembered for the directories above it. Directories are compared
  /// with what the units below them give.
  std::string add(const UnitView& unit, std::uint64_t offset, StreamId& stream);

  /// The day table, last.
  static std::string compare_table(const UnitView& unit, const LogCheck& log, StreamId& stream);

 private:
  struct Unit {
    std::uint32_t first_segment = 0;
    std::vector<DirectoryRow> rows;  // one a stream, sorted
  };
  static Unit unit_of(const UnitView& view, std::uint64_t offset);

  std::vector<std::vector<Unit>> levels_;  // not yet covered by the directory above
};

}  // namespace millrace
