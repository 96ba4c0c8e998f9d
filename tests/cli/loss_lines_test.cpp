#include "cli/loss_lines.hpp"

#include <gtest/gtest.h>

namespace millrace::cli {
namespace {

ReadResult loss(std::uint64_t first, std::uint64_t end, ErrorCode code = ErrorCode::data_loss) {
  ReadResult result;
  result.event = ReadEvent::data_loss;
  result.loss_first = first;
  result.loss_end = end;
  result.problem.code = code;
  return result;
}

struct LossLinesTest : testing::Test {
  std::string said;
  LossLines lines{"s", [this](const std::string& line) { said += line; }};
};

TEST_F(LossLinesTest, NeighboursAreOneLine) {
  lines.add(loss(3, 7));
  lines.add(loss(7, 9));
  lines.add(loss(9, 10));
  EXPECT_EQ(said, "");
  lines.flush();
  lines.flush();
  EXPECT_EQ(said, "DATA_LOSS stream=s offsets=3..9: these records were durable and are lost\n");
  EXPECT_TRUE(lines.any());
}

TEST_F(LossLinesTest, OthersAreNot) {
  EXPECT_FALSE(lines.any());
  lines.add(loss(0, 5, ErrorCode::out_of_range));
  lines.add(loss(5, 6));
  lines.add(loss(8, 9));
  lines.flush();
  lines.add(loss(9, 11));
  lines.flush();
  EXPECT_EQ(said,
            "OUT_OF_RANGE stream=s offsets=0..4: these records are no longer kept\n"
            "DATA_LOSS stream=s offsets=5..5: these records were durable and are lost\n"
            "DATA_LOSS stream=s offsets=8..8: these records were durable and are lost\n"
            "DATA_LOSS stream=s offsets=9..10: these records were durable and are lost\n");
}

}  // namespace
}  // namespace millrace::cli
