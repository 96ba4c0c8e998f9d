#include "tests/sim/checker/failures_check.hpp"

#include <algorithm>

namespace millrace::checker {

namespace {

constexpr std::int64_t milli = 1'000'000;
constexpr std::int64_t second = 1'000 * milli;
constexpr std::int64_t told_after = milli;  // the write's completion waits for the server's turn
constexpr std::int64_t second_failure =
    60 * second;                                   // architecture: reopened once, closed after another one within this
constexpr std::int64_t room_noticed = 5 * second;  // by then the server has looked again
constexpr std::uint16_t error_closed = 206;
constexpr std::uint16_t error_no_space = 3;

class FailuresCheck {
 public:
  FailuresCheck(const History& history, const ParsedLog& log, Report& report, const BrokenReport& broken)
      : history_(history), log_(log), report_(report), broken_(broken) {}

  void run() {
    for (const FailedCommit& failure : history_.failed_commits) {
      // Damage may have taken the epoch batch, retention its segment.
      if (!history_.damage_injected && !history_.retention_ran) check_reopened(failure);
      check_second(failure);
    }
    for (const Answer& answer : history_.answers) {
      if (answer.error == error_closed) check_closed(answer);
      if (answer.error == error_no_space) check_no_space(answer);
    }
  }

 private:
  static std::string place(std::uint32_t shard, std::int64_t at) {
    return "shard-" + std::to_string(shard) + " at " + std::to_string(at / milli) + " ms";
  }
  std::int64_t life_end(std::int64_t at) const {
    auto end = std::lower_bound(history_.ends.begin(), history_.ends.end(), at);
    return end == history_.ends.end() ? INT64_MAX : *end;
  }
  std::int64_t life_begin(std::int64_t at) const {
    auto end = std::lower_bound(history_.ends.begin(), history_.ends.end(), at);
    return end == history_.ends.begin() ? 0 : *std::prev(end);
  }
  bool acknowledged_new(const Answer& answer, std::uint32_t shard) const {
    return answer.error == 0 && !answer.repeat && answer.shard == shard;
  }
  std::int64_t sent(const Answer& answer) const { return history_.attempts[answer.attempt].sent_at; }

  void check_reopened(const FailedCommit& failure) {
    std::uint64_t before = 0;
    std::uint64_t after = UINT64_MAX;
    for (const Answer& answer : history_.answers) {
      if (!acknowledged_new(answer, failure.shard)) continue;
      if (answer.at < failure.at) before = std::max(before, answer.lsn);
      if (sent(answer) > failure.at + told_after) after = std::min(after, answer.lsn);
    }
    if (after == UINT64_MAX) return;
    bool taken = std::any_of(log_.batches.begin(), log_.batches.end(), [&](const Batch& batch) {
      return batch.shard == failure.shard && batch.kind == 3 && batch.lsn > before && batch.lsn < after;
    });
    if (!taken)
      broken_("P19", place(failure.shard, failure.at),
              "lsn " + std::to_string(after) + " was acknowledged after a failed commit write, without a new epoch");
  }

  /// Another failure of this life, with something acknowledged in between that was sent after the first: the shard had reopened.
  void check_second(const FailedCommit& failure) {
    const std::int64_t end = life_end(failure.at);
    for (const FailedCommit& first : history_.failed_commits) {
      if (first.shard != failure.shard || first.at >= failure.at || life_end(first.at) != end) continue;
      if (failure.at - first.at > second_failure) continue;
      bool reopened = false;
      const Answer* late = nullptr;
      for (const Answer& answer : history_.answers) {
        if (!acknowledged_new(answer, failure.shard)) continue;
        if (sent(answer) > first.at + told_after && answer.at < failure.at) reopened = true;
        if (sent(answer) > failure.at + told_after && answer.at < end) late = &answer;
      }
      if (reopened && late != nullptr)
        broken_("P19", place(failure.shard, failure.at),
                "lsn " + std::to_string(late->lsn) + " was acknowledged after a second failed commit write");
    }
  }

  void check_closed(const Answer& answer) {
    ++report_.refused_as_closed;
    // An answer of a life that has just ended may still be under way.
    const std::int64_t begin = life_begin(std::max<std::int64_t>(answer.at - room_noticed, 0));
    bool failed = std::any_of(
        history_.failed_commits.begin(), history_.failed_commits.end(),
        [&](const FailedCommit& f) { return f.shard == answer.shard && f.at >= begin && f.at < answer.at; });
    if (!failed)
      broken_("P22", place(answer.shard, answer.at), "the shard is closed, and no commit write of it failed");
  }

  void check_no_space(const Answer& answer) {
    ++report_.refused_for_space;
    bool was_short = std::any_of(history_.short_of_space.begin(), history_.short_of_space.end(), [&](const auto& span) {
      return span.first <= answer.at && answer.at <= span.second + room_noticed;
    });
    if (!was_short) broken_("P22", place(answer.shard, answer.at), "refused for want of space, and there is room");
  }

  const History& history_;
  const ParsedLog& log_;
  Report& report_;
  const BrokenReport& broken_;
};

}  // namespace

void check_after_failures(const History& history, const ParsedLog& log, Report& report, const BrokenReport& broken) {
  FailuresCheck(history, log, report, broken).run();
}

}  // namespace millrace::checker
