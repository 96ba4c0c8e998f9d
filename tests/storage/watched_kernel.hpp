// A kernel of this machine under observation: what would a power cut leave? It passes everything on, and keeps a shadow of
// the directory that holds only what the system has promised: bytes of durable writes that completed, bytes a sync covered,
// names their directory's sync covered. On the way it does what a system may do: shortens a write, fails one, hands over one
// completion later than the next. So the storage layer's promises are judged over the real io_uring and the real posix
// kernel, as the simulator judges them over its own.
//
// Thread: the reactor's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "reactor/kernel.hpp"

namespace millrace::test {

/// Counted over writes to segments in place, which are groups; 0 = never.
struct Mischief {
  std::uint64_t shorten_every = 0;  // the system takes one block less of a write longer than one
  std::uint64_t fail_at = 0;        // this one: -EIO, and nothing of it is on the disk
  std::uint64_t hold_every = 0;     // its completion is handed over after that of the next write, or a little later
};

class WatchedKernel final : public Kernel {
 public:
  /// `root` is the directory whose shadow is kept; what is in it now counts as durable as far as `durable` (a directory a
  /// shadow was written to; empty = all of it) has it.
  WatchedKernel(std::unique_ptr<Kernel> inner, std::filesystem::path root, const std::filesystem::path& durable,
                Mischief mischief);

  void submit(Operation& operation) override;
  std::size_t poll(std::span<Completion> target, Nanos deadline) override;
  Nanos now() override { return inner_->now(); }
  Nanos wall_now() override { return inner_->wall_now(); }
  void wake() override { inner_->wake(); }
  std::uint64_t seed() override { return inner_->seed(); }
  std::size_t register_memory(MutableBytes memory) override { return inner_->register_memory(memory); }
  Result<> provide_buffers(std::size_t count, std::size_t each) override {
    return inner_->provide_buffers(count, each);
  }
  void recycle(const ProvidedBuffer& buffer) override { inner_->recycle(buffer); }
  const KernelFeatures& features() const override { return inner_->features(); }

  /// Writes to segments in place asked for so far.
  std::uint64_t groups() const { return group_writes_; }
  /// Some completion is being held back while a later one was handed over.
  bool out_of_order() const { return overtaken_; }
  /// A write has happened, and its completion was not handed over yet.
  bool holding() const { return !held_.empty(); }
  /// Writes of which the memory was changed while they were in flight.
  std::uint64_t torn_by_us() const { return torn_by_us_; }
  /// What a power cut now would leave, into a new directory.
  void write_shadow(const std::filesystem::path& target) const;

 private:
  using FileKey = std::string;                     // inode and birth: numbers are used again
  using Listing = std::map<std::string, FileKey>;  // name -> file; folders have an empty key
  struct Flight {
    std::uint32_t length = 0;  // as asked; the operation's may be shortened meanwhile
    std::uint64_t hash = 0;
    bool durable = false;
    bool group = false;  // to a segment in place
    bool failing = false;
    bool held = false;
  };

  static FileKey key_of(int descriptor);
  static FileKey key_of(const std::filesystem::path& path);
  static Listing list(const std::filesystem::path& folder);
  static std::vector<std::byte> content_of(int descriptor);
  static bool is_of_segment(int descriptor);
  void begin_write(Operation& operation);
  void ended(Operation& operation, Completion& completion);
  void ended_write(Operation& operation, Completion& completion);
  bool hold(const Completion& completion);
  std::size_t release(std::span<Completion> target, std::size_t count, bool all);
  void adopt(const std::filesystem::path& folder, const std::filesystem::path& durable);
  void write_folder(const std::string& folder, const std::filesystem::path& target) const;

  std::unique_ptr<Kernel> inner_;
  const std::filesystem::path root_;
  const Mischief mischief_;
  std::map<const Operation*, Flight> flights_;
  std::map<int, std::string> folders_;            // open directories, by descriptor
  std::map<std::string, Listing> durable_names_;  // folder, relative to the root ("" = root itself)
  std::map<FileKey, std::vector<std::byte>> durable_bytes_;
  std::vector<Completion> held_;
  int held_polls_ = 0;
  bool overtaken_ = false;
  std::uint64_t group_writes_ = 0;
  std::uint64_t torn_by_us_ = 0;
};

}  // namespace millrace::test
