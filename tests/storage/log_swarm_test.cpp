// The log under random work and random ends: many lives over one simulated disk, each ended by a kill, a power cut or a stop.
// What was durable must be there, once, in order, with the bytes it had; what was not may be there or not, and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "base/time.hpp"
#include "reactor/file.hpp"
#include "storage/group.hpp"
#include "storage/log.hpp"
#include "storage/read_view.hpp"
#include "storage/reader.hpp"
#include "tests/sim/sim_program.hpp"

namespace millrace {
namespace {

using sim::CutProfile;
using sim::FaultClass;
using sim::FaultPlan;
using sim::SimNode;
using sim::SimWorld;

struct Attempt {
  Hash128 body_hash;
  std::uint32_t records = 0;
  bool durable = false;
  std::optional<std::uint64_t> offset;  // where a life said it stands
};

/// The client's memory: it outlives every life of the log.
struct Client {
  explicit Client(std::uint64_t seed) : random(seed) {}
  Random random;
  std::string stream_name(std::size_t number) const { return "stream-" + std::to_string(number); }

  struct Sender {
    ProducerId id{};
    std::uint32_t epoch = 0;
    std::vector<Attempt> sent;  // by sequence
    std::uint64_t next = 0;     // sequence to send next: goes back after a life ended, to send again what is not known
  };
  // One producer a stream.
  std::vector<Sender> senders = std::vector<Sender>(4);
  std::uint64_t durable_batches = 0;
  std::uint64_t repeats = 0;
  std::uint64_t lives = 0;
  std::uint64_t failures = 0;
  std::uint64_t refused_space = 0;
  std::vector<std::string> wrong;
  std::string last_diagnosis;
  std::map<std::string, int> verdicts;
};

class Acknowledger final : public LogListener {
 public:
  explicit Acknowledger(Client& client) : client_(client) {}
  void log_durable(Lsn durable) override {
    while (!waiting_.empty() && Lsn{waiting_.front().lsn} < durable) {
      Attempt& attempt = client_.senders[waiting_.front().sender].sent[waiting_.front().sequence];
      if (!attempt.durable) ++client_.durable_batches;
      attempt.durable = true;
      attempt.offset = waiting_.front().offset;
      waiting_.erase(waiting_.begin());
    }
  }
  void log_failed() override {
    ++client_.failures;
    waiting_.clear();
    rewind();
  }
  void rewind() {
    // What is not known to be durable is sent again.
    for (auto& sender : client_.senders)
      while (sender.next > 0 && !sender.sent[sender.next - 1].durable) --sender.next;
  }
  void wait_for(Lsn lsn, std::size_t sender, std::uint64_t sequence, Offset offset) {
    waiting_.push_back({lsn.value, sender, sequence, offset.value});
  }

 private:
  struct Waiting {
    std::uint64_t lsn;
    std::size_t sender;
    std::uint64_t sequence;
    std::uint64_t offset;
  };
  Client& client_;
  std::vector<Waiting> waiting_;
};

std::vector<std::byte> random_body(Random& random) {
  std::size_t length = 16 + random.below(600);
  const std::uint64_t kind = random.below(40);
  if (kind == 0) length = 1'200'000 + random.below(500'000);
  else if (kind < 4) length = 20'000 + random.below(200'000);
  std::vector<std::byte> body(length);
  const std::uint64_t seed = random.next();
  for (std::size_t i = 0; i < length; i += 8) {
    const std::uint64_t word = (seed + i) * 0x9e3779b97f4a7c15ull;
    std::memcpy(body.data() + i, &word, std::min<std::size_t>(8, length - i));
  }
  return body;
}

/// Bodies are a function of stream and sequence, so that a repeat is the same batch.
std::vector<std::byte> body_for(std::size_t sender, std::uint64_t sequence) {
  Random random(sender * 1'000'003 + sequence);
  return random_body(random);
}

void send_one(Log& log, Client& client, Acknowledger& acknowledger, std::size_t number) {
  auto& sender = client.senders[number];
  auto stream = log.declare_stream(client.stream_name(number));
  if (!stream) return;
  const std::uint64_t sequence = sender.next;
  const auto body = body_for(number, sequence);
  if (sender.sent.size() <= sequence)
    sender.sent.push_back({hash128(body), 1 + static_cast<std::uint32_t>(sequence % 5), false, std::nullopt});
  BatchHeader header;
  header.stream_id = stream->value;
  header.record_count = sender.sent[sequence].records;
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.raw_bytes = body.size();
  header.body_hash = sender.sent[sequence].body_hash;
  header.producer_id = sender.id.value;
  header.producer_epoch = sender.epoch;
  header.producer_sequence = sequence;
  auto at = log.append(header, body);
  if (!at) {
    client.refused_space += at.error().error == Error::no_space;
    if (next_step(at.error().error) != NextStep::retry)
      client.wrong.push_back("append refused: " + std::string(error_name(at.error().error)) + " detail " +
                             std::to_string(at.error().detail) + " sequence " + std::to_string(sequence));
    return;
  }
  if (at->repeat) {
    ++client.repeats;
    const auto& known = sender.sent[sequence].offset;
    if (known && sender.sent[sequence].durable && *known != at->first_offset.value)
      client.wrong.push_back("a repeat is answered with another offset");
  }
  ++sender.next;
  acknowledger.wait_for(at->lsn, number, sequence, at->first_offset);
}

struct Seen {
  std::uint64_t sequence = 0;
  std::uint64_t offset = 0;
};

void check_batch(Client& client, std::map<std::uint64_t, std::size_t>& numbers, std::vector<Seen>& seen,
                 const BatchHeader& header) {
  auto found = numbers.find(header.stream_id);
  if (found == numbers.end()) {
    client.wrong.push_back("a batch of a stream nobody wrote");
    return;
  }
  const auto& sender = client.senders[found->second];
  Seen& at = seen[found->second];
  const std::string name = "stream " + std::to_string(found->second) + " lsn " + std::to_string(header.lsn) + ": ";
  if (header.first_offset != at.offset)
    client.wrong.push_back(name + "offset " + std::to_string(header.first_offset) + " where " +
                           std::to_string(at.offset) + " is next");
  if (at.sequence >= sender.sent.size() || header.producer_sequence != at.sequence ||
      header.body_hash != sender.sent[at.sequence].body_hash)
    client.wrong.push_back(name + "something else at sequence " + std::to_string(at.sequence));
  at.offset = header.first_offset + header.record_count;
  ++at.sequence;
}

/// Reads the whole log and compares it with what was sent.
Task<> check_log(Reactor&, Log& log, Client& client) {
  std::map<std::uint64_t, std::size_t> numbers;
  for (std::size_t number = 0; number < client.senders.size(); ++number)
    numbers[stream_id_of(client.stream_name(number)).value] = number;
  std::vector<Seen> seen(client.senders.size());
  Reader reader(log.view(), ReadRequest{});
  std::vector<std::byte> target(4 * MiB);
  for (bool more = true; more && client.wrong.empty();) {
    auto reading = reader.next(target);
    auto chunk = co_await reading;
    if (!chunk) {
      if (chunk.error() != Error::not_ready && chunk.error() != Error::io_failed)
        client.wrong.push_back("read: " + std::string(error_name(chunk.error())));
      co_return Result<>{};
    }
    for (std::size_t at = 0; at < chunk->bytes && client.wrong.empty();) {
      auto header = read_batch_header(Bytes(target).subspan(at));
      if (!header) {
        client.wrong.push_back("a reader gave a batch that does not verify");
        co_return Result<>{};
      }
      check_batch(client, numbers, seen, *header);
      at += batch_span(header->body_bytes);
    }
    if (chunk->notice == ReadNotice::data_loss || chunk->notice == ReadNotice::out_of_range)
      client.wrong.push_back("a reader says a range is gone: notice " +
                             std::to_string(static_cast<int>(chunk->notice)) + " lsn " +
                             std::to_string(chunk->lost_lsn.value) + " to " + std::to_string(chunk->next_lsn.value));
    more = chunk->notice != ReadNotice::caught_up;
  }
  for (std::size_t number = 0; number < seen.size(); ++number) {
    const auto& sender = client.senders[number];
    for (std::size_t i = seen[number].sequence; i < sender.sent.size() && client.wrong.empty(); ++i)
      if (sender.sent[i].durable)
        client.wrong.push_back("stream " + std::to_string(number) + ": durable batch " + std::to_string(i) + " of " +
                               std::to_string(sender.sent.size()) + " is gone, " +
                               std::to_string(seen[number].sequence) + " are there");
  }
  co_return Result<>{};
}

struct Plan {
  LogOptions options;
  bool tidy = false;  // end with a stop
  int steps = 0;
  Client* client = nullptr;
};

Task<> register_senders(Reactor& reactor, Log& log, Client& client) {
  for (auto& sender : client.senders) {
    while (sender.epoch == 0) {
      auto registering = log.register_producer(sender.id);
      auto registered = co_await registering;
      if (registered) {
        sender.id = registered->id;
        sender.epoch = registered->epoch;
        break;
      }
      if (log.condition() == LogCondition::closed) co_return fail(Error::closed);
      const Nanos again = reactor.now() + 10 * nanos_per_milli;
      co_await Sleep(reactor, again);
    }
  }
  co_return Result<>{};
}

Task<> live(Reactor& reactor, Plan plan) {
  Client& client = *plan.client;
  auto making = Directory::make(reactor, "data");
  auto made = co_await making;
  auto naming = Directory::sync(reactor, "");
  auto named = co_await naming;
  if (!made && made.error() != Error::already_exists) co_return Result<>{};
  if (!named) co_return Result<>{};
  OpeningReport report;
  auto opening = Log::open(reactor, plan.options, report);
  auto opened = co_await opening;
  client.last_diagnosis = report.diagnosis;
  if (!opened) {
    if (!plan.tidy) co_return Result<>{};  // faults may refuse a start; the calm life at the end must not be refused
    client.wrong.push_back("refused to open: " + report.diagnosis + " " + std::string(error_name(opened.error())));
    co_return Result<>{};
  }
  ++client.verdicts[report.verdict];
  ++client.lives;
  const std::unique_ptr<Log> log = std::move(*opened);
  Acknowledger acknowledger(client);
  acknowledger.rewind();
  log->add_listener(acknowledger);
  if (report.lost_batches > 0) client.wrong.push_back("a pure crash was taken for damage: " + report.verdict);
  if (plan.steps == 0 || client.random.below(3) == 0) {
    auto checking = check_log(reactor, *log, client);
    auto checked = co_await checking;
    if (!checked) co_return fail(checked.error());
  }
  auto registering = register_senders(reactor, *log, client);
  auto registered = co_await registering;
  for (int step = 0; registered && step < plan.steps && client.wrong.empty(); ++step) {
    const std::uint64_t burst = client.random.below(12) == 0 ? 20 : 1 + client.random.below(3);
    for (std::uint64_t i = 0; i < burst; ++i)
      send_one(*log, client, acknowledger, client.random.below(client.senders.size()));
    if (client.random.below(4) == 0) continue;
    Nanos pause = static_cast<Nanos>(client.random.below(2'000'000));
    if (client.random.below(30) == 0) pause = 12 * nanos_per_second;
    else if (client.random.below(10) == 0) pause = 8 * nanos_per_milli;
    const Nanos again = reactor.now() + pause;
    co_await Sleep(reactor, again);
  }
  if (plan.tidy) {
    auto stopping = log->stop();
    auto stopped = co_await stopping;
    if (!stopped) co_return fail(stopped.error());
  }
  while (!plan.tidy) {
    // The kill comes; a log does not end with writes in flight.
    const Nanos again = reactor.now() + nanos_per_second;
    co_await Sleep(reactor, again);
  }
  log->remove_listener(acknowledger);
  co_return Result<>{};
}

struct Totals {
  std::uint64_t lives = 0, durable = 0, repeats = 0, failures = 0, refused_space = 0;
  std::map<std::string, int> verdicts;
};

void run_seed(std::uint64_t seed, const FaultPlan& faults, Totals& totals) {
  SimWorld world(seed, faults);
  SimNode& node = world.add_node("server");
  Random random(seed * 77 + 1);
  Client client(seed * 13 + 5);
  Plan plan;
  plan.client = &client;
  plan.options.directory = "data/shard-00";
  plan.options.node_meta_path = "data/node.meta";
  plan.options.segment_bytes = 16 * MiB;
  plan.options.memory_bytes = 64 * MiB;
  plan.options.tail_bytes = (random.below(2) == 0 ? 128 : 1024) * KiB;
  plan.options.separate_sync = random.below(4) == 0;
  for (int life = 0; life < 6 && client.wrong.empty(); ++life) {
    plan.steps = 20 + static_cast<int>(random.below(150));
    plan.tidy = false;
    sim::SimProcess& process = world.start(
        node, 1, sim::CoroutineProgram::factory([plan](Reactor& reactor, std::size_t) { return live(reactor, plan); }));
    // Most ends come in the middle of the traffic, some after a long lull.
    const std::uint64_t until = client.durable_batches + random.below(200);
    const bool lull = random.below(4) == 0;
    world.run_until([&] { return !process.running() || (!lull && client.durable_batches > until); },
                    30 * nanos_per_second);
    if (!lull) world.run_for(static_cast<Nanos>(random.below(300'000)));
    ASSERT_EQ(world.livelock(), "") << "seed " << seed;
    if (process.running() && random.below(3) == 0) world.kill(process);
    else world.power_cut(node, static_cast<CutProfile>(random.below(sim::cut_profiles)));
    if (random.below(4) == 0) world.jump_wall(node, static_cast<Nanos>(random.below(30)) * 3600 * nanos_per_second);
  }
  world.faults().set_calm(true);
  for (int last = 0; last < 2; ++last) {
    plan.steps = last == 0 ? 20 : 0;
    plan.tidy = true;
    sim::SimProcess& process = world.start(
        node, 1, sim::CoroutineProgram::factory([plan](Reactor& reactor, std::size_t) { return live(reactor, plan); }));
    EXPECT_TRUE(world.run_until([&] { return !process.running(); }, 600 * nanos_per_second)) << "seed " << seed;
  }
  if (client.wrong.size() > 5) client.wrong.resize(5);
  for (const auto& wrong : client.wrong) ADD_FAILURE() << "seed " << seed << ": " << wrong;
  totals.lives += client.lives;
  totals.durable += client.durable_batches;
  totals.repeats += client.repeats;
  totals.failures += client.failures;
  totals.refused_space += client.refused_space;
  for (auto& [verdict, count] : client.verdicts) totals.verdicts[verdict] += count;
}

void run_seeds(const FaultPlan& faults, std::uint64_t first, std::uint64_t count) {
  Totals totals;
  if (const char* only = std::getenv("MILLRACE_SEED")) first = std::strtoull(only, nullptr, 10), count = 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    run_seed(seed, faults, totals);
    if (testing::Test::HasFailure()) break;
  }
  std::printf("lives %lu, durable batches %lu, repeats %lu, failed commits %lu, refused for space %lu;", totals.lives,
              totals.durable, totals.repeats, totals.failures, totals.refused_space);
  for (auto& [verdict, times] : totals.verdicts) std::printf(" %s %d", verdict.c_str(), times);
  std::printf("\n");
  EXPECT_GT(totals.durable, 0u);
}

TEST(LogSwarm, CrashesAlone) { run_seeds(FaultPlan::quiet(), 1, 12); }

TEST(LogSwarm, WithADiskThatAnswersDifferently) {
  FaultPlan plan;
  plan[FaultClass::short_read] = 5000;
  plan[FaultClass::short_write] = 5000;
  plan[FaultClass::write_error_once] = 300;
  plan[FaultClass::interrupted] = 3000;
  plan[FaultClass::again] = 3000;
  plan[FaultClass::failed_sync] = 1000;
  plan[FaultClass::slow_disk] = 2000;
  plan[FaultClass::reordered] = 100'000;
  plan[FaultClass::write_zeroes_missing] = 500'000;
  run_seeds(plan, 1000, 12);
}

}  // namespace
}  // namespace millrace
