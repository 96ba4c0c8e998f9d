#include "cli/loss_lines.hpp"

#include <utility>

namespace millrace::cli {

LossLines::LossLines(std::string stream, std::function<void(const std::string& line)> print)
    : stream_(std::move(stream)), print_(std::move(print)) {}

void LossLines::add(const ReadResult& loss) {
  any_ = true;
  const bool damaged = loss.problem.code != ErrorCode::out_of_range;
  if (first_ < end_ && damaged == damaged_ && loss.loss_first == end_) {
    end_ = loss.loss_end;
    return;
  }
  flush();
  damaged_ = damaged;
  first_ = loss.loss_first;
  end_ = loss.loss_end;
}

void LossLines::flush() {
  if (first_ < end_)
    print_((damaged_ ? "DATA_LOSS stream=" : "OUT_OF_RANGE stream=") + stream_ + " offsets=" + std::to_string(first_) +
           ".." + std::to_string(end_ - 1) + ": " +
           (damaged_ ? "these records were durable and are lost" : "these records are no longer kept") + "\n");
  first_ = end_;
}

}  // namespace millrace::cli
