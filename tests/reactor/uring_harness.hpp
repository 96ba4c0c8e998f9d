// Drives a kernel by hand, one operation at a time: io_uring in every mode it can fall back to, and the posix kernel.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "reactor/posix_kernel.hpp"
#include "reactor/uring_kernel.hpp"

namespace millrace::test {

struct UringMode {
  const char* name;
  UringOptions options;
  bool posix = false;  // the kernel without io_uring; options then say what it has none of
};

inline void PrintTo(const UringMode& mode, std::ostream* out) { *out << mode.name; }

inline std::vector<UringMode> all_modes() {
  std::vector<UringMode> modes{{"everything", {}}};
  auto add = [&modes](const char* name, auto change) {
    UringOptions options;
    change(options);
    modes.push_back({name, options});
  };
  add("sq_array", [](UringOptions& o) { o.no_sq_array = false; });
  add("no_defer_taskrun", [](UringOptions& o) { o.defer_taskrun = false; });
  add("no_multishot", [](UringOptions& o) { o.multishot = false; });
  add("no_provided_ring", [](UringOptions& o) { o.provided_ring = false; });
  add("no_registered_memory", [](UringOptions& o) { o.registered_memory = false; });
  add("no_registered_files", [](UringOptions& o) { o.registered_files = false; });
  add("no_no_iowait", [](UringOptions& o) { o.no_iowait = false; });
  add("eventfd_wake", [](UringOptions& o) { o.message_wake = false; });
  add("tiny_queues", [](UringOptions& o) { o.submission_entries = 4, o.completion_entries = 8; });
  add("nothing", [](UringOptions& o) {
    o.no_sq_array = o.defer_taskrun = o.multishot = o.provided_ring = false;
    o.registered_memory = o.registered_files = o.message_wake = o.no_iowait = false;
  });
  modes.push_back({"posix", modes.back().options, true});
  return modes;
}

class UringTest : public ::testing::TestWithParam<UringMode> {
 protected:
  static constexpr std::size_t buffer_count = 8;
  static constexpr std::size_t buffer_bytes = 1024;

  void SetUp() override {
    make_kernel();
    ASSERT_NE(kernel_, nullptr);
    ASSERT_TRUE(kernel_->provide_buffers(buffer_count, buffer_bytes));
    const char* chosen = std::getenv("TMPDIR");  // has direct I/O, as the current folder has; /tmp may not
    std::filesystem::path parent = chosen != nullptr ? chosen : std::filesystem::current_path();
    std::string pattern = (parent / "uring_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    kernel_.reset();
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  void make_kernel() {
    uring_ = nullptr;
    posix_ = nullptr;
    if (GetParam().posix) {
      auto posix = std::make_unique<PosixKernel>();
      posix_ = posix.get();
      kernel_ = std::move(posix);
      return;
    }
    std::string why;
    auto created = UringKernel::create(GetParam().options, why);
    ASSERT_TRUE(created) << why;
    uring_ = created->get();
    kernel_ = std::move(*created);
  }
  UringKernel::Counters counters() const {
    UringKernel::Counters none;
    if (posix_ != nullptr) none.starved = posix_->starved();
    return uring_ != nullptr ? uring_->counters() : none;
  }

  std::string path(const char* name) const { return directory_ + "/" + name; }

  /// One poll; what came is appended to completions_.
  std::size_t poll(Nanos wait = nanos_per_second) {
    std::array<Completion, 4> batch;
    std::size_t count = kernel_->poll(batch, wait == 0 ? wait_never : kernel_->now() + wait);
    completions_.insert(completions_.end(), batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  /// The next completion of `operation`, removed from completions_. Fails the test after ten seconds.
  Completion next(const Operation& operation) {
    Nanos end = kernel_->now() + 10 * nanos_per_second;
    for (;;) {
      for (auto it = completions_.begin(); it != completions_.end(); ++it) {
        if (it->operation != &operation) continue;
        Completion found = *it;
        completions_.erase(it);
        return found;
      }
      if (kernel_->now() > end) {
        ADD_FAILURE() << "no completion within ten seconds";
        return Completion{nullptr, -ETIME, {}, false};
      }
      poll();
    }
  }
  std::int32_t run(Operation& operation) {
    kernel_->submit(operation);
    Completion done = next(operation);
    EXPECT_FALSE(done.more);
    return done.result;
  }
  std::int32_t close_descriptor(std::int32_t descriptor) {
    Operation close;
    close.code = OperationCode::close;
    close.descriptor = descriptor;
    return run(close);
  }
  std::int32_t open_file(const std::string& name, unsigned flags) {
    Operation open;
    open.code = OperationCode::open_file;
    open.path = name.c_str();
    open.open_flags = static_cast<std::uint16_t>(flags);
    open.mode = 0644;
    return run(open);
  }
  /// A connected pair over loopback: {server side, client side}.
  std::array<std::int32_t, 2> connected_pair() {
    Address at{"127.0.0.1", 0};
    Operation listen;
    listen.code = OperationCode::listen;
    listen.address = &at;
    listen.length = 16;
    std::int32_t listener = run(listen);
    EXPECT_GE(listener, 0);
    Operation accept;
    accept.code = OperationCode::accept;
    accept.descriptor = listener;
    kernel_->submit(accept);
    Operation connect;
    connect.code = OperationCode::connect;
    connect.address = &at;
    std::int32_t client = run(connect);
    std::int32_t server = next(accept).result;
    EXPECT_GE(client, 0);
    EXPECT_GE(server, 0);
    EXPECT_EQ(close_descriptor(listener), 0);
    return {server, client};
  }

  std::unique_ptr<Kernel> kernel_;
  UringKernel* uring_ = nullptr;  // kernel_, when it is one
  PosixKernel* posix_ = nullptr;
  std::string directory_;
  std::vector<Completion> completions_;
};

inline std::string mode_name(const ::testing::TestParamInfo<UringMode>& info) { return info.param.name; }

}  // namespace millrace::test
