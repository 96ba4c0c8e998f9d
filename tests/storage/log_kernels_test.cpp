// The log's promises over the kernels of this machine: a real Log appends over io_uring and over the posix kernel, the power
// is cut at some write, and what was acknowledged is looked for in what the cut left (WatchedKernel says what that is). Each
// life is a process of its own, so that a kill is one. Bugs of the storage layer that concern the kernel die here on both.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>

#include "reactor/posix_kernel.hpp"
#include "reactor/uring_kernel.hpp"
#include "storage/log.hpp"
#include "tests/storage/mini_log.hpp"
#include "tests/storage/watched_kernel.hpp"

namespace millrace::test {

namespace {

namespace fs = std::filesystem;

constexpr const char* stream_name = "watched";
constexpr Nanos patience = 200 * nanos_per_second;  // the machine may be busy with others

enum class Until : std::uint8_t {
  groups,     // so many groups were written
  overtaken,  // and a completion was handed over before an earlier one
  holding,    // and one that has happened was not handed over yet
  open,       // the log is open: what it found is what it would serve
  read_back,  // and everything was read and compared
};

struct KernelMode {
  const char* name;
  UringOptions options;
  bool posix = false;
};

void PrintTo(const KernelMode& mode, std::ostream* out) { *out << mode.name; }

struct Life {
  KernelMode mode;
  fs::path data;
  fs::path durable;  // shadow of a life before; empty = all that is there is durable
  fs::path shadow;   // where this one's goes
  Mischief mischief;
  bool separate_sync = false;
  Until until = Until::groups;
  std::uint64_t groups = 0;
  std::uint64_t seed = 0;
};

std::vector<std::byte> body_of(std::uint64_t sequence, std::uint64_t seed) {
  const std::uint64_t dice = hash64(as_bytes(reinterpret_cast<const char*>(&sequence), sizeof(sequence)), seed);
  std::vector<std::byte> body(dice % 3 == 0 ? 40'000 + dice % 50'000 : 100 + dice % 3000);
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<std::byte>((dice >> (i % 7 * 8)) + i);
  return body;
}

/// One process: a log, its producer, and what was acknowledged to it.
class Living final : public LogListener {
 public:
  explicit Living(const Life& life) : life_(life) {
    std::string why;
    auto inner = life.mode.posix ? Result<std::unique_ptr<Kernel>>(std::make_unique<PosixKernel>())
                                 : Result<std::unique_ptr<Kernel>>(*UringKernel::create(life.mode.options, why));
    kernel_ = std::make_unique<WatchedKernel>(std::move(*inner), life.data, life.durable, life.mischief);
    reactor_ = std::make_unique<Reactor>(*kernel_);
    options_.directory = (life.data / "shard-00").string();
    options_.node_meta_path = (life.data / "node.meta").string();
    options_.segment_bytes = 16 * MiB;
    options_.memory_bytes = 64 * MiB;
    options_.separate_sync = life.separate_sync;
  }

  /// Ends the process. Exit status 0 and what was acknowledged in `shadow`.acked, or 1 and why in `shadow`.trouble.
  [[noreturn]] void live() {
    reactor_->spawn(run(*this));
    for (const Nanos end = kernel_->now() + patience; !over();) {
      if (kernel_->now() > end) complain("it did not come to its end");
      reactor_->turn(kernel_->now() + 10 * nanos_per_milli);
    }
    if (kernel_->torn_by_us() > 0) complain("memory changed while it was being written");
    kernel_->write_shadow(life_.shadow);
    std::ofstream(life_.shadow.string() + ".acked") << acknowledged_;
    ::_exit(0);
  }

  void log_durable(Lsn durable) override {
    while (acknowledged_ < placed_.size() && placed_[acknowledged_] < durable) ++acknowledged_;
  }
  /// Not acknowledged = unknown: asked again with the same sequence.
  void log_failed() override { placed_.resize(acknowledged_); }

 private:
  bool over() const {
    if (life_.until == Until::open || life_.until == Until::read_back) return finished_;
    if (kernel_->groups() < life_.groups || acknowledged_ == 0) return false;
    if (life_.until == Until::overtaken) return kernel_->out_of_order();
    return life_.until != Until::holding || kernel_->holding();
  }
  [[noreturn]] void complain(const std::string& why) {
    std::ofstream(life_.shadow.string() + ".trouble") << why << "; " << report_.step << " " << report_.diagnosis;
    ::_exit(1);
  }

  static Task<> run(Living& self) {
    auto opening = Log::open(*self.reactor_, self.options_, self.report_);
    auto opened = co_await opening;
    if (!opened) self.complain("the log does not open");
    self.log_ = std::move(*opened);
    self.log_->add_listener(self);
    if (self.life_.until == Until::open || self.life_.until == Until::read_back) {
      auto reading = read(self);
      co_return co_await reading;
    }
    auto appending = append(self);
    co_return co_await appending;
  }

  static Task<> read(Living& self) {
    ReadRequest request;
    request.stream = stream_id_of(stream_name);
    auto reading = read_to_end(self.log_->view(), request, 256 * KiB);
    auto back = co_await reading;
    if (!back->ended && back->ended.error() != Error::unknown_stream) self.complain("reading failed");
    for (const std::string& notice : back->notices) self.complain("reading found: " + notice);
    for (std::size_t i = 0; i < back->headers.size(); ++i) {
      const auto body = body_of(i, self.life_.seed);
      if (back->headers[i].body_hash != hash128(body))
        self.complain("batch " + std::to_string(i) + " is not what was sent");
    }
    self.acknowledged_ = back->headers.size();
    self.finished_ = true;
    co_return Result<>{};
  }

  static Task<> append(Living& self) {
    Reactor& reactor = *self.reactor_;
    ProducerRegistration producer;
    for (;;) {
      auto registering = self.log_->register_producer(ProducerId{});
      auto registered = co_await registering;
      if (registered) {
        producer = *registered;
        break;
      }
      const Nanos again = reactor.now() + nanos_per_milli;
      co_await Sleep(reactor, again);
    }
    for (;;) {
      const bool placed = self.append_one(producer);
      // Some come one by one, which is what the tail is for.
      const bool alone = placed && self.placed_.size() % 16 < 4;
      if (placed && !alone) continue;
      const Nanos again = reactor.now() + nanos_per_milli / 2;
      co_await Sleep(reactor, again);
    }
  }

  bool append_one(const ProducerRegistration& producer) {
    auto stream = log_->declare_stream(stream_name);
    if (!stream) return false;
    const std::uint64_t sequence = placed_.size();
    const auto body = body_of(sequence, life_.seed);
    BatchHeader header;
    header.stream_id = stream->value;
    header.record_count = 1;
    header.body_bytes = static_cast<std::uint32_t>(body.size());
    header.raw_bytes = header.body_bytes;
    header.body_hash = hash128(body);
    header.producer_id = producer.id.value;
    header.producer_epoch = producer.epoch;
    header.producer_sequence = sequence;
    auto placed = log_->append(header, body);
    if (placed) placed_.push_back(placed->lsn);
    return placed.has_value();
  }

  const Life life_;
  std::unique_ptr<WatchedKernel> kernel_;
  std::unique_ptr<Reactor> reactor_;
  LogOptions options_;
  OpeningReport report_;
  std::unique_ptr<Log> log_;
  std::vector<Lsn> placed_;  // by sequence
  std::size_t acknowledged_ = 0;
  bool finished_ = false;
};

/// The number of batches acknowledged; nothing, and a failure of the test, when the life went wrong.
std::optional<std::uint64_t> live(const Life& life) {
  const pid_t child = ::fork();
  if (child == 0) Living(life).live();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  std::string trouble;
  std::getline(std::ifstream(life.shadow.string() + ".trouble"), trouble);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status << ": " << trouble;
  std::uint64_t acknowledged = 0;
  if (!(std::ifstream(life.shadow.string() + ".acked") >> acknowledged)) return std::nullopt;
  return acknowledged;
}

std::vector<KernelMode> log_modes() {
  UringOptions plain;
  plain.no_sq_array = plain.defer_taskrun = plain.multishot = plain.provided_ring = plain.no_iowait = false;
  plain.registered_memory = plain.registered_files = plain.message_wake = false;
  return {{"everything", {}}, {"nothing", plain}, {"posix", {}, true}};
}

std::string mode_name(const ::testing::TestParamInfo<KernelMode>& info) { return info.param.name; }

class LogOverKernels : public ::testing::TestWithParam<KernelMode> {
 protected:
  void SetUp() override {
    const char* chosen = std::getenv("TMPDIR");
    const fs::path parent = chosen != nullptr ? chosen : fs::current_path();
    std::string pattern = (parent / "log_kernels_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  Life life_in(const char* data, std::uint64_t seed) const {
    Life life{.mode = GetParam(), .data = folder_ / data, .durable = {}, .shadow = {}, .mischief = {}};
    fs::create_directories(life.data);
    life.shadow = folder_ / (std::string(data) + "-left");
    life.seed = seed;
    return life;
  }
  /// What the cut left opens, and has at least what was acknowledged, in order and byte for byte.
  void expect_kept(const char* left, std::uint64_t acknowledged, std::uint64_t seed) {
    Life after = life_in(left, seed);
    after.until = Until::read_back;
    const auto found = live(after);
    ASSERT_TRUE(found) << "after " << acknowledged << " acknowledged";
    EXPECT_GE(*found, acknowledged);
    EXPECT_GT(acknowledged, 0U);
  }
  void cut_and_look(Mischief mischief, Until until = Until::groups, bool separate_sync = false) {
    for (std::uint64_t seed = 1; seed <= 2 && !HasFailure(); ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      Life life = life_in("data", seed);
      life.mischief = mischief;
      life.until = until;
      life.separate_sync = separate_sync;
      life.groups = 8 + 8 * seed;
      const auto acknowledged = live(life);
      ASSERT_TRUE(acknowledged);
      expect_kept("data-left", *acknowledged, seed);
      fs::remove_all(folder_ / "data");
      fs::remove_all(folder_ / "data-left");
      fs::remove_all(folder_ / "data-left-left");
    }
  }

  fs::path folder_;
};

INSTANTIATE_TEST_SUITE_P(Modes, LogOverKernels, ::testing::ValuesIn(log_modes()), mode_name);

TEST_P(LogOverKernels, what_is_acknowledged_survives_a_power_cut) { cut_and_look({}); }
TEST_P(LogOverKernels, the_same_with_a_sync_after_each_write) { cut_and_look({}, Until::groups, true); }
TEST_P(LogOverKernels, short_writes_are_written_again) { cut_and_look({.shorten_every = 3}); }
TEST_P(LogOverKernels, a_failed_write_is_not_made_good_by_a_sync) { cut_and_look({.fail_at = 5}); }
TEST_P(LogOverKernels, an_earlier_write_that_ends_later) { cut_and_look({.hold_every = 3}, Until::overtaken); }

/// A process dies with writes on their way: what the next one finds may be in the page cache or the drive's alone.
TEST_P(LogOverKernels, what_a_killed_process_left_is_made_durable_before_it_is_believed) {
  for (std::uint64_t seed = 1; seed <= 2 && !HasFailure(); ++seed) {
    Life killed = life_in("killed", seed);
    killed.mischief.hold_every = 3;
    killed.until = Until::holding;
    killed.groups = 6 + 6 * seed;
    const auto acknowledged = live(killed);
    ASSERT_TRUE(acknowledged);
    Life next = life_in("killed", seed);
    next.durable = killed.shadow;
    next.shadow = folder_ / "next-left";
    next.until = Until::open;
    const auto served = live(next);
    ASSERT_TRUE(served);
    EXPECT_GE(*served, *acknowledged);
    expect_kept("next-left", *served, seed);
    for (const char* name : {"killed", "killed-left", "next-left", "next-left-left"}) fs::remove_all(folder_ / name);
  }
}

}  // namespace

}  // namespace millrace::test
