#include "tests/sim/checker/checker.hpp"

#include <algorithm>
#include <set>
#include <tuple>

#include "tests/sim/checker/failures_check.hpp"
#include "tests/sim/checker/fields.hpp"
#include "tests/sim/checker/index_check.hpp"

namespace millrace::checker {

namespace {

using AttemptKey =
    std::tuple<std::uint64_t, std::uint32_t, std::uint64_t, std::uint64_t>;  // producer, epoch, stream, sequence

/// The log as a map from (stream, offset) to the record's hash, id and day.
struct Content {
  struct Entry {
    std::uint64_t payload_hash, id;
    std::uint32_t day;
  };
  std::map<std::uint64_t, std::map<std::uint64_t, Entry>> streams;
};

class Checking {
 public:
  Checking(const History& history, const ParsedLog& log, Report& report)
      : history_(history), log_(log), report_(report) {}

  void run() {
    index_attempts();
    read_log();
    check_answers();
    check_reads();
    check_cut_away();
    check_after_failures(history_, log_, report_,
                         [this](const std::string& promise, const std::string& where, const std::string& what) {
                           broken(promise, where, what);
                         });
  }

 private:
  void broken(const std::string& promise, const std::string& where, const std::string& what) {
    report_.violations.push_back({promise, where, what});
  }

  static std::string place(std::uint64_t stream, std::uint64_t offset) {
    return "stream " + hex(stream) + " offset " + std::to_string(offset);
  }

  void index_attempts() {
    for (std::size_t i = 0; i < history_.attempts.size(); ++i) {
      const Attempt& a = history_.attempts[i];
      attempts_[{a.producer, a.producer_epoch, a.stream, a.sequence}] = i;
    }
  }

  // P03 (all of a batch or nothing, and sent by someone), P05 (log order = send order), P08 (one copy).
  void read_log() {
    std::set<AttemptKey> seen;
    std::map<std::tuple<std::uint64_t, std::uint64_t>, std::pair<std::uint32_t, std::uint64_t>>
        next;  // (producer, stream) -> (epoch, sequence)
    std::vector<Record> records;
    for (const Batch& b : log_.batches) {
      if (b.kind != 0) continue;
      ++report_.batches;
      std::string where = place(b.stream, b.first_offset);
      if (!records_of(b, records)) {
        broken("P03", where, "the body is not what the format says");
        continue;
      }
      report_.records += records.size();
      auto& content = content_.streams[b.stream];
      for (std::uint32_t i = 0; i < records.size(); ++i)
        content[b.first_offset + i] = {hash(records[i].payload), b.first_id + i, b.day};
      AttemptKey key{b.producer, b.producer_epoch, b.stream, b.sequence};
      auto attempt = attempts_.find(key);
      if (attempt == attempts_.end()) {
        broken("P03", where,
               "a batch nobody sent: producer " + hex(b.producer) + " sequence " + std::to_string(b.sequence));
        continue;
      }
      if (!seen.insert(key).second)
        broken("P08", where, "stored twice: producer " + hex(b.producer) + " sequence " + std::to_string(b.sequence));
      const auto& sent = history_.attempts[attempt->second].payload_hashes;
      bool same = sent.size() == records.size();
      for (std::size_t i = 0; same && i < sent.size(); ++i) same = sent[i] == hash(records[i].payload);
      if (!same) broken("P03", where, "other records than were sent under this sequence");
      auto& order = next[{b.producer, b.stream}];
      if (b.producer_epoch < order.first) broken("P09", where, "an older epoch of the producer after a newer one");
      if (b.producer_epoch > order.first) order = {b.producer_epoch, b.sequence};
      if (b.sequence < order.second)
        broken("P05", where, "sequence " + std::to_string(b.sequence) + " after " + std::to_string(order.second));
      if (b.sequence > order.second && log_.holes.empty() && !history_.damage_injected && !history_.retention_ran)
        broken("P09", where, "sequence " + std::to_string(b.sequence) + " skips " + std::to_string(order.second));
      order.second = b.sequence + 1;
    }
  }

  // Damage may hit a batch and the few newest records of its durability with it; not so many.
  static constexpr std::size_t durable_records_min = 8;

  bool reported_lost(std::uint64_t stream, std::uint64_t offset) const {
    return std::any_of(history_.losses.begin(), history_.losses.end(), [&](const LossNotice& n) {
      return n.stream == stream && !n.by_retention && offset >= n.first && offset < n.next;
    });
  }

  bool was_read_last(std::uint64_t stream, std::uint64_t offset) {
    if (history_.last_reader == 0) return false;
    if (last_reads_.empty())
      for (const Read& read : history_.reads)
        if (read.reader >= history_.last_reader) last_reads_.emplace(read.stream, read.offset);
    return last_reads_.contains({stream, offset});
  }

  // The first offset of [first, next) of whose loss nobody was told, or `next`. A loss may span 2^40 offsets.
  std::uint64_t not_reported_lost(std::uint64_t stream, std::uint64_t first, std::uint64_t next) const {
    while (first < next) {
      std::uint64_t reached = first;
      for (const LossNotice& n : history_.losses)
        if (n.stream == stream && n.first <= first) reached = std::max(reached, n.next);
      if (reached == first) return first;
      first = reached;
    }
    return next;
  }

  // Commits that were handed over after this batch was acknowledged, and acknowledged themselves before anything could
  // have cut the log: the header of each records this batch as durable. Counted by the slice of time they fall into, since
  // one group may hold many.
  std::size_t recorded_durable(const Answer& answer) const {
    constexpr std::int64_t slice = 20'000'000;
    auto cut = std::upper_bound(history_.disturbances.begin(), history_.disturbances.end(), answer.at);
    std::int64_t until = cut == history_.disturbances.end() ? INT64_MAX : *cut;
    std::set<std::int64_t> slices;
    for (const Answer& later : history_.answers) {
      std::int64_t sent = history_.attempts[later.attempt].sent_at;
      if (later.error == 0 && !later.repeat && later.shard == answer.shard && later.lsn > answer.lsn &&
          sent > answer.at && later.at < until)
        slices.insert(sent / slice);
    }
    return slices.size();
  }

  // P01, P07, P08.
  void check_answers() {
    std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint64_t> last_lsn;  // (connection, shard)
    std::map<std::size_t, std::uint64_t> told;                                  // attempt -> first offset
    for (const Answer& answer : history_.answers) {
      if (answer.error != 0) continue;
      const Attempt& attempt = history_.attempts[answer.attempt];
      std::string where = place(attempt.stream, answer.first_offset);
      auto& last = last_lsn[{answer.connection, answer.shard}];
      if (!answer.repeat && answer.lsn < last)
        broken("P07", where, "acknowledged lsn " + std::to_string(answer.lsn) + " after " + std::to_string(last));
      if (!answer.repeat) last = answer.lsn;
      auto [earlier, first_time] = told.emplace(answer.attempt, answer.first_offset);
      if (!first_time && earlier->second != answer.first_offset)
        broken("P08", where, "acknowledged before at offset " + std::to_string(earlier->second));
      if (!first_time) continue;
      check_acknowledged(attempt, answer, where);
    }
  }

  void check_acknowledged(const Attempt& attempt, const Answer& answer, const std::string& where) {
    const auto& content = content_.streams[attempt.stream];
    bool begins_after = !content.empty() && history_.retention_ran && answer.first_offset < content.begin()->first;
    for (std::size_t i = 0; i < attempt.payload_hashes.size(); ++i) {
      ++report_.acknowledged_records;
      auto found = content.find(answer.first_offset + i);
      if (found != content.end() && found->second.payload_hash == attempt.payload_hashes[i]) continue;
      if (begins_after || (history_.retention_ran && content.empty())) continue;
      if (found != content.end()) {
        broken("P01", where, "acknowledged record " + std::to_string(i) + " has other bytes");
        continue;
      }
      if (history_.damage_injected && reported_lost(attempt.stream, answer.first_offset + i)) {
        ++report_.lost_acknowledged_reported;
        continue;
      }
      ++report_.lost_acknowledged_silent;
      // Rotten on the disk, and still whole in the server's memory: that is not gone.
      if (history_.damage_injected && was_read_last(attempt.stream, answer.first_offset + i)) continue;
      std::size_t knew = history_.damage_injected ? recorded_durable(answer) : 0;
      bool explained = knew < durable_records_min;
      broken(history_.damage_injected ? "P18" : "P01", where,
             "acknowledged record " + std::to_string(i) + " is gone and nobody says so" +
                 (explained ? "" : ", unexplained: " + std::to_string(knew) + " later commits recorded it as durable"));
      return;
    }
  }

  // What is said to be taken by retention is before everything that is left. (Damage may hide it for a while.)
  void check_cut_away() {
    for (const LossNotice& notice : history_.losses) {
      if (!notice.by_retention || history_.damage_injected) continue;
      const auto& content = content_.streams[notice.stream];
      if (!content.empty() && content.begin()->first < notice.next)
        broken("P18", place(notice.stream, content.begin()->first), "said to be cut away, and is there");
    }
  }

  // P04 and P06: what a reader saw is what is there, and a cursor's offsets rise without a gap it was not told of.
  void check_reads() {
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> next;  // (reader, stream)
    for (const Read& read : history_.reads) {
      std::string where = place(read.stream, read.offset);
      const auto& content = content_.streams[read.stream];
      auto found = content.find(read.offset);
      if (found == content.end()) {
        bool dropped = history_.retention_ran && (content.empty() || read.offset < content.begin()->first);
        if (!dropped && !(history_.damage_injected && reported_lost(read.stream, read.offset)))
          broken("P06", where, "a reader saw a record that is not there");
      } else if (found->second.payload_hash != read.payload_hash) {
        broken("P06", where, "a reader saw other bytes");
      } else if (found->second.id != read.id || found->second.day != read.day) {
        broken("P06", where, "a reader saw another day or id");
      }
      auto [position, first_time] = next.emplace(std::pair{read.reader, read.stream}, read.offset + 1);
      if (first_time) continue;
      if (read.offset < position->second) broken("P04", where, "a cursor went back");
      if (std::uint64_t missing = not_reported_lost(read.stream, position->second, read.offset); missing < read.offset)
        broken("P18", place(read.stream, missing), "a cursor skipped a record and was not told");
      position->second = read.offset + 1;
    }
  }

  const History& history_;
  const ParsedLog& log_;
  Report& report_;
  std::map<AttemptKey, std::size_t> attempts_;
  Content content_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> last_reads_;
};

}  // namespace

Report check(const Image& image, const History& history, const Options& options) {
  Report report;
  ParsedLog log = parse(image, options);
  report.violations = log.violations;
  report.groups = log.groups;
  check_indexes(image, log, report.violations);
  Checking(history, log, report).run();
  return report;
}

std::optional<Violation> compare(const Image& left, const Image& right, const std::string& promise) {
  for (const auto& [path, bytes] : left) {
    auto other = right.find(path);
    if (other == right.end()) return Violation{promise, path, "is missing on one side"};
    if (bytes.size() != other->second.size()) return Violation{promise, path, "differs in length"};
    if (std::memcmp(bytes.data(), other->second.data(), bytes.size()) == 0) continue;
    std::size_t at = 0;
    while (bytes[at] == other->second[at]) ++at;
    return Violation{promise, path + " @" + hex(at), "differs"};
  }
  for (const auto& [path, bytes] : right)
    if (left.find(path) == left.end()) return Violation{promise, path, "is missing on one side"};
  return std::nullopt;
}

}  // namespace millrace::checker
