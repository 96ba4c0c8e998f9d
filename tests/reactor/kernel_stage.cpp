#include "tests/reactor/kernel_stage.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "tests/sim/sim_kernel.hpp"
#include "tests/sim/sim_world.hpp"

namespace millrace::test {

namespace {

constexpr Nanos patience = 10 * nanos_per_second;

class RealStage final : public KernelStage {
 public:
  explicit RealStage(const UringMode& mode) {
    if (mode.posix) {
      kernel_ = std::make_unique<PosixKernel>();
    } else {
      std::string why;
      auto created = UringKernel::create(mode.options, why);
      EXPECT_TRUE(created) << why;
      kernel_ = std::move(*created);
    }
    EXPECT_TRUE(kernel_->provide_buffers(buffer_count, buffer_bytes));
    const char* chosen = std::getenv("TMPDIR");
    std::filesystem::path parent = chosen != nullptr ? chosen : std::filesystem::current_path();
    std::string pattern = (parent / "kernel_stage_XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    reactor_ = std::make_unique<Reactor>(*kernel_);
  }
  ~RealStage() override {
    reactor_.reset();
    kernel_.reset();
    std::filesystem::remove_all(directory_);
  }

  Reactor& reactor() override { return *reactor_; }
  std::string directory() const override { return directory_ + "/"; }

  bool pump(const std::function<bool()>& done) override {
    for (Nanos end = kernel_->now() + patience; !done();) {
      if (kernel_->now() > end) return false;
      reactor_->turn(kernel_->now() + nanos_per_second);
    }
    return true;
  }

  void rest(Nanos duration) override {
    for (Nanos end = kernel_->now() + duration; kernel_->now() < end;) reactor_->turn(end);
  }

  std::optional<bool> has_volatile(const std::string& path) override {
    // cachestat(2), newer than Debian 12's headers.
    constexpr long system_call = 451;
    struct {
      std::uint64_t offset, length;
    } range{0, 0};
    struct {
      std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } pages{};
    const int descriptor = ::open((directory() + path).c_str(), O_RDONLY | O_CLOEXEC);
    const long failed = ::syscall(system_call, descriptor, &range, &pages, 0);
    ::close(descriptor);
    if (failed != 0) return std::nullopt;
    return pages.dirty + pages.writeback > 0;
  }

  StageImage image() override {
    StageImage image;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_)) {
      std::string name = entry.path().lexically_relative(directory_).string();
      if (entry.is_directory()) {
        image[name + "/"];
        continue;
      }
      std::ifstream file(entry.path(), std::ios::binary);
      std::string text{std::istreambuf_iterator<char>(file), {}};
      Bytes bytes = as_bytes(text.data(), text.size());
      image[name].assign(bytes.begin(), bytes.end());
    }
    return image;
  }

 private:
  std::string directory_;
  std::unique_ptr<Kernel> kernel_;
  std::unique_ptr<Reactor> reactor_;
};

/// A process that only has a reactor: the script acts from outside, between events.
class BareProgram final : public sim::SimProgram {
 public:
  explicit BareProgram(Kernel& kernel) : reactor_(kernel), list_{&reactor_} {}
  std::span<Reactor* const> reactors() override { return list_; }
  Reactor& reactor() { return reactor_; }

 private:
  Reactor reactor_;
  Reactor* list_[1];
};

class SimStage final : public KernelStage {
 public:
  explicit SimStage(std::uint64_t seed) : world_(seed, sim::FaultPlan::quiet()), node_(world_.add_node("stage")) {
    process_ = &world_.start(node_, 1, [this](std::span<Kernel* const> kernels) {
      auto program = std::make_unique<BareProgram>(*kernels.front());
      program_ = program.get();
      return program;
    });
    EXPECT_TRUE(program_->reactor().kernel().provide_buffers(buffer_count, buffer_bytes));
  }
  ~SimStage() override { world_.kill(*process_); }

  Reactor& reactor() override { return program_->reactor(); }
  std::string directory() const override { return ""; }
  bool pump(const std::function<bool()>& done) override { return done() || world_.run_until(done, patience); }
  void rest(Nanos duration) override { world_.run_for(duration); }
  StageImage image() override { return node_.disk.image(); }
  std::optional<bool> has_volatile(const std::string& path) override {
    const auto inode = node_.disk.find(path);
    return inode != nullptr && inode->file.has_volatile();
  }

 private:
  sim::SimWorld world_;
  sim::SimNode& node_;
  sim::SimProcess* process_ = nullptr;
  BareProgram* program_ = nullptr;
};

}  // namespace

std::unique_ptr<KernelStage> real_stage(const UringMode& mode) { return std::make_unique<RealStage>(mode); }
std::unique_ptr<KernelStage> sim_stage(std::uint64_t seed) { return std::make_unique<SimStage>(seed); }

}  // namespace millrace::test
