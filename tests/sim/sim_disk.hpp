// The file system of one simulated node, in memory. What processes see and what a power cut leaves are kept apart:
// a name (create, unlink, rename, mkdir) is durable only after a sync of its directory, bytes and sizes only after a sync
// of the file or a durable write. All calls are instantaneous; time and faults are the kernel's. Results are 0 or -errno.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/operation.hpp"
#include "tests/sim/sim_file.hpp"

namespace millrace::sim {

struct SimInode {
  std::uint64_t number = 0;
  bool is_directory = false;
  SimFile file;
  std::map<std::string, std::shared_ptr<SimInode>> entries;          // as processes see them
  std::map<std::string, std::shared_ptr<SimInode>> durable_entries;  // as a power cut leaves them at least
  std::set<std::uint64_t> bad_sectors;  // every read of them fails until they are written again
  bool in_page_cache = false;           // written without direct I/O since the last sync
  bool writes_fail = false;             // the device refuses every write to this file
  std::uint64_t lock_owner = 0;         // open file number that holds the lock; 0 = nobody
  std::uint64_t open_count = 0;
};
using InodePtr = std::shared_ptr<SimInode>;

/// Path ("data/shard-00/tail", no leading slash) -> bytes; a directory stands as "path/" with no bytes.
using DirectoryImage = std::map<std::string, std::vector<std::byte>>;

class SimDisk {
 public:
  SimDisk();
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  std::uint64_t capacity_bytes = std::uint64_t{64} * GiB;
  std::uint64_t capacity_inodes = 1'000'000;
  std::uint64_t foreign_bytes = 0;  // what a neighbour on the same file system takes
  bool healed = false;              // reads look below all damage

  /// nullptr when there is no such path. "" and "/" are the root.
  InodePtr find(std::string_view path) const;
  /// The same, and why there is none: -ENOENT, or -ENOTDIR where a file stands on the way.
  InodePtr find(std::string_view path, int& error) const;
  int open(std::string_view path, std::uint16_t flags, InodePtr& inode);
  int make_directory(std::string_view path);
  int rename(std::string_view from, std::string_view to);
  int unlink(std::string_view path, bool remove_directory);
  int list(std::string_view path, std::vector<DirectoryEntry>& entries) const;
  /// Space for `bytes` more, or false.
  bool has_space(std::uint64_t bytes) const { return used_bytes() + foreign_bytes + bytes <= capacity_bytes; }
  std::uint64_t used_bytes() const;
  std::uint64_t used_inodes() const;

  /// The number of the next thing that happens to this disk.
  std::uint64_t next_stamp() { return ++stamp_; }
  std::uint64_t stamp() const { return stamp_; }
  /// Makes names and content stamped up to `stamp` durable.
  void sync(SimInode& inode, std::uint64_t stamp);

  /// The power is gone and comes back: what was volatile is decided, open files and locks are forgotten.
  void power_cut(Random& random, CutProfile profile);
  /// A process ended: its locks and unlinked files go.
  void release(const InodePtr& inode, std::uint64_t open_file);

  /// Notes that media lied about this file; where it stands now is what is damaged.
  void note_damage(const SimInode& inode);
  /// The files media lied about, by the path they had then.
  const std::set<std::string>& damaged_paths() const { return damaged_paths_; }

  /// Flips some bits of one sector that holds something; says where, or nothing when there is none.
  std::string rot(Random& random);

  /// What a process would read now.
  DirectoryImage image(bool below_damage = false) const;
  /// Replaces everything with this image, durable: a test's golden directory.
  void load(const DirectoryImage& image);
  void for_each_file(const std::function<void(const std::string& path, SimInode& inode)>& visit) const;

 private:
  struct NameChange {
    InodePtr directory;
    std::string name;
    InodePtr target;  // none = the name goes away
  };
  struct Item {
    std::uint64_t stamp = 0;
    std::vector<NameChange> changes;  // all or none
  };
  static std::pair<std::string_view, std::string_view> split(std::string_view path);
  /// By name: "a/b" is below "a".
  static bool is_below(std::string_view path, std::string_view folder);
  InodePtr new_inode(bool is_directory);
  void apply(Item item);
  static bool touches_same(const Item& a, const Item& b);
  static void settle(const Item& item);
  void settle_with_dependencies(std::size_t index, std::vector<bool>& settled);
  void cut_names(Random& random, const CutChoice& choice);
  CutChoice choose(Random& random, CutProfile profile) const;
  static void visit(const std::string& prefix, SimInode& directory,
                    const std::function<void(const std::string& path, SimInode& inode)>& visitor);

  InodePtr root_;
  std::vector<Item> items_;  // volatile names, oldest first
  std::set<std::string> damaged_paths_;
  std::uint64_t stamp_ = 0;
  std::uint64_t last_inode_ = 0;
};

}  // namespace millrace::sim
