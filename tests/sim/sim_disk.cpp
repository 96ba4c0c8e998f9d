#include "tests/sim/sim_disk.hpp"

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"

namespace millrace::sim {

SimDisk::SimDisk() : root_(new_inode(true)) {}

InodePtr SimDisk::new_inode(bool is_directory) {
  auto inode = std::make_shared<SimInode>();
  inode->number = ++last_inode_;
  inode->is_directory = is_directory;
  return inode;
}

InodePtr SimDisk::find(std::string_view path) const {
  int error = 0;
  return find(path, error);
}

InodePtr SimDisk::find(std::string_view path, int& error) const {
  error = 0;
  InodePtr at = root_;
  while (!path.empty()) {
    std::size_t slash = std::min(path.find('/'), path.size());
    std::string_view name = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (name.empty() || name == ".") continue;
    auto found = at->is_directory ? at->entries.find(std::string(name)) : at->entries.end();
    if (found == at->entries.end()) {
      error = at->is_directory ? -ENOENT : -ENOTDIR;
      return nullptr;
    }
    at = found->second;
  }
  return at;
}

std::pair<std::string_view, std::string_view> SimDisk::split(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

bool SimDisk::is_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

void SimDisk::apply(Item item) {
  for (const NameChange& change : item.changes) {
    if (change.target) change.directory->entries[change.name] = change.target;
    else change.directory->entries.erase(change.name);
  }
  items_.push_back(std::move(item));
}

int SimDisk::open(std::string_view path, std::uint16_t flags, InodePtr& inode) {
  int error = 0;
  inode = find(path, error);
  if (inode) {
    if ((flags & open_create) && (flags & open_exclusive)) return -EEXIST;
    if (inode->is_directory && (flags & (open_write | open_create))) return -EISDIR;
    if (!inode->is_directory && (flags & open_directory)) return -ENOTDIR;
    if (inode->is_directory && (flags & open_direct)) return -EINVAL;
    if ((flags & open_truncate) && (flags & open_write)) inode->file.resize(next_stamp(), 0);
    return 0;
  }
  if (!(flags & open_create)) return error;
  auto [parent_path, name] = split(path);
  InodePtr parent = find(parent_path, error);
  if (!parent) return error;
  if (!parent->is_directory) return -ENOTDIR;
  if (used_inodes() >= capacity_inodes) return -ENOSPC;
  inode = new_inode(false);
  apply({next_stamp(), {{parent, std::string(name), inode}}});
  return 0;
}

int SimDisk::make_directory(std::string_view path) {
  if (find(path)) return -EEXIST;
  auto [parent_path, name] = split(path);
  int error = 0;
  InodePtr parent = find(parent_path, error);
  if (!parent) return error;
  if (!parent->is_directory) return -ENOTDIR;
  if (used_inodes() >= capacity_inodes || !has_space(block_bytes)) return -ENOSPC;
  apply({next_stamp(), {{parent, std::string(name), new_inode(true)}}});
  return 0;
}

int SimDisk::rename(std::string_view from, std::string_view to) {
  // In the order in which Linux looks.
  auto [from_parent, from_name] = split(from);
  auto [to_parent, to_name] = split(to);
  int error = 0;
  InodePtr source = find(from_parent, error);
  if (!source) return error;
  if (!source->is_directory) return -ENOTDIR;
  InodePtr target = find(to_parent, error);
  if (!target) return error;
  if (!target->is_directory) return -ENOTDIR;
  InodePtr moved = find(from, error);
  if (!moved) return error;
  if (is_below(to, from)) return moved->is_directory ? -EINVAL : -ENOTDIR;
  if (is_below(from, to)) return -ENOTEMPTY;
  if (InodePtr replaced = find(to)) {
    if (replaced == moved) return 0;
    if (replaced->is_directory != moved->is_directory) return replaced->is_directory ? -EISDIR : -ENOTDIR;
    if (replaced->is_directory && !replaced->entries.empty()) return -ENOTEMPTY;
  }
  apply({next_stamp(), {{source, std::string(from_name), nullptr}, {target, std::string(to_name), moved}}});
  return 0;
}

int SimDisk::unlink(std::string_view path, bool remove_directory) {
  int error = 0;
  InodePtr inode = find(path, error);
  if (!inode) return error;
  if (inode->is_directory != remove_directory) return remove_directory ? -ENOTDIR : -EISDIR;
  if (!inode->entries.empty()) return -ENOTEMPTY;
  auto [parent_path, name] = split(path);
  apply({next_stamp(), {{find(parent_path), std::string(name), nullptr}}});
  return 0;
}

int SimDisk::list(std::string_view path, std::vector<DirectoryEntry>& entries) const {
  entries.clear();
  int error = 0;
  InodePtr inode = find(path, error);
  if (!inode) return error;
  if (!inode->is_directory) return -ENOTDIR;
  for (const auto& [name, entry] : inode->entries) entries.push_back({name, entry->is_directory});
  return static_cast<int>(entries.size());
}

void SimDisk::visit(const std::string& prefix, SimInode& directory,
                    const std::function<void(const std::string&, SimInode&)>& visitor) {
  for (const auto& [name, inode] : directory.entries) {
    std::string path = prefix + name;
    if (inode->is_directory) {
      visitor(path + "/", *inode);
      visit(path + "/", *inode, visitor);
    } else {
      visitor(path, *inode);
    }
  }
}

void SimDisk::for_each_file(const std::function<void(const std::string&, SimInode&)>& visitor) const {
  visit("", *root_, [&](const std::string& path, SimInode& inode) {
    if (!inode.is_directory) visitor(path, inode);
  });
}

std::uint64_t SimDisk::used_bytes() const {
  std::uint64_t used = 0;
  visit("", *root_, [&](const std::string&, SimInode& inode) {
    used += inode.is_directory ? block_bytes : inode.file.allocated_bytes();
  });
  return used;
}

std::uint64_t SimDisk::used_inodes() const {
  std::uint64_t used = 1;
  visit("", *root_, [&](const std::string&, SimInode&) { ++used; });
  return used;
}

bool SimDisk::touches_same(const Item& a, const Item& b) {
  for (const NameChange& x : a.changes)
    for (const NameChange& y : b.changes)
      if (x.directory == y.directory && x.name == y.name) return true;
  return false;
}

void SimDisk::settle(const Item& item) {
  for (const NameChange& change : item.changes) {
    if (change.target) change.directory->durable_entries[change.name] = change.target;
    else change.directory->durable_entries.erase(change.name);
  }
}

void SimDisk::settle_with_dependencies(std::size_t index, std::vector<bool>& settled) {
  // The journal never makes a name's later state durable without its earlier ones.
  for (std::size_t before = 0; before < index; ++before)
    if (!settled[before] && touches_same(items_[before], items_[index])) settle_with_dependencies(before, settled);
  settle(items_[index]);
  settled[index] = true;
}

void SimDisk::sync(SimInode& inode, std::uint64_t stamp) {
  if (!inode.is_directory) {
    inode.file.sync(stamp);
    return;
  }
  std::vector<bool> settled(items_.size(), false);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (settled[i] || items_[i].stamp > stamp) continue;
    for (const NameChange& change : items_[i].changes) {
      if (change.directory.get() != &inode) continue;
      settle_with_dependencies(i, settled);
      break;
    }
  }
  std::size_t at = 0;
  std::erase_if(items_, [&](const Item&) { return settled[at++]; });
}

CutChoice SimDisk::choose(Random& random, CutProfile profile) const {
  std::set<std::uint64_t> stamps;
  for (const Item& item : items_) stamps.insert(item.stamp);
  for_each_file([&](const std::string&, SimInode& inode) { inode.file.collect_stamps(stamps); });
  CutChoice choice{profile, 0, 0};
  if (stamps.empty()) return choice;
  auto pick = [&] { return *std::next(stamps.begin(), static_cast<std::ptrdiff_t>(random.below(stamps.size()))); };
  choice.torn_stamp = pick();
  choice.lost_after = pick() - random.below(2);
  return choice;
}

void SimDisk::cut_names(Random& random, const CutChoice& choice) {
  std::vector<bool> dropped(items_.size(), false);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    bool keep = true;
    if (choice.profile == CutProfile::uniform) keep = random.below(2) == 0;
    if (choice.profile == CutProfile::all_old) keep = false;
    if (choice.profile == CutProfile::last_writes_lost) keep = items_[i].stamp <= choice.lost_after;
    for (std::size_t before = 0; before < i && keep; ++before)
      if (dropped[before] && touches_same(items_[before], items_[i])) keep = false;
    dropped[i] = !keep;
    if (keep) settle(items_[i]);
  }
  items_.clear();
}

void SimDisk::power_cut(Random& random, CutProfile profile) {
  CutChoice choice = choose(random, profile);
  // Files are decided before names: a file whose name is lost still takes its draws, in the order of the old tree.
  visit("", *root_, [&](const std::string&, SimInode& inode) {
    inode.lock_owner = 0;
    inode.open_count = 0;
    if (!inode.is_directory) inode.file.cut(random, choice);
  });
  cut_names(random, choice);
  std::function<void(SimInode&)> restore = [&](SimInode& directory) {
    directory.entries = directory.durable_entries;
    for (const auto& [name, inode] : directory.entries) {
      if (inode->is_directory) restore(*inode);
      else if (inode->file.has_volatile()) inode->file.cut(random, choice);  // unlinked before, back again
    }
  };
  restore(*root_);
}

void SimDisk::release(const InodePtr& inode, std::uint64_t open_file) {
  if (inode->lock_owner == open_file) inode->lock_owner = 0;
  if (inode->open_count > 0) --inode->open_count;
}

void SimDisk::note_damage(const SimInode& inode) {
  bool found = false;
  for_each_file([&](const std::string& path, SimInode& other) {
    if (&other != &inode) return;
    damaged_paths_.insert(path);
    found = true;
  });
  // Unlinked and still open: it may have been anywhere.
  if (!found) damaged_paths_.insert("");
}

std::string SimDisk::rot(Random& random) {
  std::vector<std::pair<std::string, SimInode*>> files;
  std::uint64_t page = 0;
  for_each_file([&](const std::string& path, SimInode& inode) {
    if (inode.file.some_page(0, page)) files.emplace_back(path, &inode);
  });
  if (files.empty()) return "";
  auto& [path, inode] = files[random.below(files.size())];
  (void)inode->file.some_page(random.next(), page);
  std::uint64_t number = page * (block_bytes / sector_bytes) + random.below(block_bytes / sector_bytes);
  if (number * sector_bytes >= inode->file.size()) number = page * (block_bytes / sector_bytes);
  Sector bytes = inode->file.sector(number, false);
  for (std::uint64_t flips = 1 + random.below(8); flips > 0; --flips)
    bytes[random.below(sector_bytes)] ^= static_cast<std::byte>(1U << random.below(8));
  inode->file.damage(number, bytes);
  damaged_paths_.insert(path);
  return path + " at " + std::to_string(number * sector_bytes);
}

DirectoryImage SimDisk::image(bool below_damage) const {
  DirectoryImage image;
  visit("", *root_, [&](const std::string& path, SimInode& inode) {
    std::vector<std::byte>& bytes = image[path];
    if (inode.is_directory) return;
    bytes = inode.file.content(below_damage || healed);
  });
  return image;
}

void SimDisk::load(const DirectoryImage& image) {
  root_ = new_inode(true);
  items_.clear();
  for (const auto& [path, bytes] : image) {
    for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
      if (!find(path.substr(0, slash))) MR_ASSERT(make_directory(path.substr(0, slash)) == 0);
    if (path.ends_with('/')) continue;
    InodePtr inode;
    MR_ASSERT(open(path, open_create | open_write, inode) == 0);
    inode->file.write(next_stamp(), 0, bytes, true);
    if (inode->file.size() < bytes.size()) inode->file.resize(next_stamp(), bytes.size());
    inode->file.sync(stamp_);
  }
  for (const Item& item : items_) settle(item);
  items_.clear();
}

}  // namespace millrace::sim
