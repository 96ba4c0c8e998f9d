// Golden cases of recovery: the bytes of a segment and a tail, what is known besides, and the verdict, as one text file a row
// of the decision table. Zeros are left out, so that a segment of 16 MiB is a page of text.
#pragma once

#include <string>

#include "tests/storage/log_model.hpp"

namespace millrace::test {

struct GoldenCase {
  std::string name;
  std::string story;  // one sentence: what happened to these bytes
  Image image;
  Id128 log_id{1, 2};
  std::vector<EpochRange> led;
  std::optional<SegmentEnd> previous;
  std::optional<SegmentEnd> expected_end;
  std::uint64_t in_flight_max = 128 * KiB;

  RecoveryInput input() const;
};

/// One case a row of the table, in the table's order. The same bytes on every machine.
std::vector<GoldenCase> golden_cases();

/// The file's text: the case, then what recovery says of it.
std::string render(const GoldenCase& golden);
/// The case out of a file's text; the lines behind "expect" are left to the caller. Fails the test on a malformed file.
GoldenCase parse_golden(const std::string& text);

}  // namespace millrace::test
