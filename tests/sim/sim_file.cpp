#include "tests/sim/sim_file.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace millrace::sim {

namespace {
constexpr std::uint64_t page_sectors = block_bytes / sector_bytes;
constexpr Sector zeros{};
}  // namespace

std::uint64_t SimFile::allocation_needed(std::uint64_t offset, std::uint64_t length) const {
  if (length == 0) return 0;
  std::uint64_t needed = 0;
  for (std::uint64_t page = offset / block_bytes; page <= (offset + length - 1) / block_bytes; ++page)
    if (page >= allocated_.size() || !allocated_[page]) ++needed;
  return needed * block_bytes;
}

void SimFile::mark_allocated(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  std::uint64_t last = (offset + length - 1) / block_bytes;
  if (allocated_.size() <= last) allocated_.resize(last + 1, false);
  for (std::uint64_t page = offset / block_bytes; page <= last; ++page) {
    if (allocated_[page]) continue;
    allocated_[page] = true;
    ++allocated_count_;
  }
}

/// The value processes see, or nullptr for zeros; damage not considered.
const std::byte* SimFile::find(std::uint64_t sector) const {
  auto found = pages_.find(sector / page_sectors);
  if (found == pages_.end()) return nullptr;
  auto index = static_cast<std::uint8_t>(sector % page_sectors);
  const Page& page = found->second;
  for (auto version = page.versions.rbegin(); version != page.versions.rend(); ++version)
    if (version->index == index) return version->bytes ? version->bytes->data() : nullptr;
  return page.durable ? page.durable->data() + index * sector_bytes : nullptr;
}

Sector SimFile::sector(std::uint64_t sector, bool healed) const {
  if (!healed)
    if (auto damaged = overlay_.find(sector); damaged != overlay_.end()) return damaged->second;
  Sector value{};
  if (const std::byte* bytes = find(sector)) std::memcpy(value.data(), bytes, sector_bytes);
  return value;
}

std::size_t SimFile::read(std::uint64_t offset, MutableBytes target, bool healed) const {
  if (offset >= size_) return 0;
  std::size_t length = std::min<std::uint64_t>(target.size(), size_ - offset);
  std::memset(target.data(), 0, length);
  copy_out(offset, target.first(length), healed);
  return length;
}

std::vector<std::byte> SimFile::content(bool healed) const {
  std::vector<std::byte> bytes(size_);
  copy_out(0, bytes, healed);
  return bytes;
}

/// Copies what is not zero over zeros.
void SimFile::copy_out(std::uint64_t offset, MutableBytes target, bool healed) const {
  std::uint64_t end = offset + target.size();
  auto copy = [&](std::uint64_t sector, const std::byte* bytes) {
    std::uint64_t from = std::max(sector * sector_bytes, offset);
    std::uint64_t to = std::min((sector + 1) * sector_bytes, end);
    if (from < to) std::memcpy(target.data() + (from - offset), bytes + from % sector_bytes, to - from);
  };
  for (auto at = pages_.lower_bound(offset / block_bytes); at != pages_.end() && at->first * block_bytes < end; ++at)
    for (std::uint64_t sector = at->first * page_sectors; sector < (at->first + 1) * page_sectors; ++sector)
      if (const std::byte* bytes = find(sector)) copy(sector, bytes);
  if (!healed)
    for (auto at = overlay_.lower_bound(offset / sector_bytes); at != overlay_.end() && at->first * sector_bytes < end;
         ++at)
      copy(at->first, at->second.data());
}

void SimFile::make_durable(Page& page, std::uint8_t index, const std::byte* bytes) {
  if (bytes == nullptr) bytes = zeros.data();
  if (!page.durable) page.durable = std::make_unique<PageBytes>();
  std::memcpy(page.durable->data() + index * sector_bytes, bytes, sector_bytes);
}

void SimFile::store_sector(std::uint64_t stamp, std::uint64_t sector, const std::byte* bytes, bool durable,
                           bool by_resize) {
  overlay_.erase(sector);
  bool zero = bytes == nullptr || std::memcmp(bytes, zeros.data(), sector_bytes) == 0;
  auto found = pages_.find(sector / page_sectors);
  if (found == pages_.end()) {
    if (zero) return;  // zeros over zeros that nothing else can become
    found = pages_.try_emplace(sector / page_sectors).first;
  }
  Page& page = found->second;
  auto index = static_cast<std::uint8_t>(sector % page_sectors);
  if (const std::byte* old = find(sector)) {
    if (overwritten_.size() == overwritten_max) overwritten_.pop_front();
    auto& kept = overwritten_.emplace_back(sector, Sector{});
    std::memcpy(kept.second.data(), old, sector_bytes);
  }
  if (durable) {
    std::erase_if(page.versions, [&](const Version& version) { return version.index == index; });
    if (page.versions.empty()) dirty_.erase(found->first);
    make_durable(page, index, bytes);
    return;
  }
  Version version{stamp, index, by_resize, nullptr};
  if (!zero) {
    version.bytes = std::make_unique<Sector>();
    std::memcpy(version.bytes->data(), bytes, sector_bytes);
  }
  page.versions.push_back(std::move(version));
  dirty_.insert(found->first);
}

void SimFile::write(std::uint64_t stamp, std::uint64_t offset, Bytes bytes, bool durable) {
  if (bytes.empty()) return;
  std::uint64_t end = offset + bytes.size();
  for (std::uint64_t number = offset / sector_bytes; number * sector_bytes < end; ++number) {
    std::uint64_t from = std::max(number * sector_bytes, offset);
    std::uint64_t to = std::min((number + 1) * sector_bytes, end);
    if (to - from == sector_bytes) {
      store_sector(stamp, number, bytes.data() + (from - offset), durable, false);
      continue;
    }
    Sector merged = sector(number, true);
    std::memcpy(merged.data() + from % sector_bytes, bytes.data() + (from - offset), to - from);
    store_sector(stamp, number, merged.data(), durable, false);
  }
  mark_allocated(offset, bytes.size());
  if (end > size_) set_size(stamp, end, durable);
  else if (durable && end > durable_size_) set_size(stamp, size_, true);
}

void SimFile::zero_range(std::uint64_t stamp, std::uint64_t begin, std::uint64_t end, bool by_resize) {
  // Only pages that exist can hold anything but zeros.
  std::vector<std::uint64_t> touched;
  for (auto at = pages_.lower_bound(begin / block_bytes); at != pages_.end() && at->first * block_bytes < end; ++at)
    touched.push_back(at->first);
  for (std::uint64_t page : touched) {
    for (std::uint64_t number = page * page_sectors; number < (page + 1) * page_sectors; ++number) {
      std::uint64_t from = std::max(number * sector_bytes, begin);
      std::uint64_t to = std::min((number + 1) * sector_bytes, end);
      if (from >= to) continue;
      Sector value = sector(number, true);
      std::memset(value.data() + from % sector_bytes, 0, to - from);
      store_sector(stamp, number, value.data(), false, by_resize);
    }
  }
  for (auto at = overlay_.lower_bound(begin / sector_bytes); at != overlay_.end() && at->first * sector_bytes < end;)
    at = overlay_.erase(at);
}

void SimFile::write_zeroes(std::uint64_t stamp, std::uint64_t offset, std::uint64_t length) {
  zero_range(stamp, offset, offset + length, false);
  allocate(stamp, offset, length);
}

void SimFile::allocate(std::uint64_t stamp, std::uint64_t offset, std::uint64_t length) {
  mark_allocated(offset, length);
  if (offset + length > size_) set_size(stamp, offset + length, false);
}

void SimFile::resize(std::uint64_t stamp, std::uint64_t size) {
  if (size < size_) {
    zero_range(stamp, size, align_up(std::max(size_, durable_size_), block_bytes), true);
    std::uint64_t pages = align_up(size, block_bytes) / block_bytes;
    for (std::uint64_t page = pages; page < allocated_.size(); ++page) allocated_count_ -= allocated_[page];
    if (allocated_.size() > pages) allocated_.resize(pages);
  }
  if (size != size_) set_size(stamp, size, false);
}

void SimFile::set_size(std::uint64_t stamp, std::uint64_t size, bool durable) {
  bool shrunk = false;
  for (std::uint64_t before = durable_size_; const SizeChange& change : size_changes_)
    shrunk |= std::exchange(before, change.size) > change.size;
  // The journal keeps its order: a durable size takes the cut before it along, zeros and all.
  if (durable && shrunk) sync(size_changes_.back().stamp);
  size_ = size;
  if (durable) {
    durable_size_ = size;
    size_changes_.clear();
  } else {
    size_changes_.push_back({stamp, size});
  }
}

void SimFile::sync(std::uint64_t stamp) {
  for (auto at = dirty_.begin(); at != dirty_.end();) {
    Page& page = pages_.at(*at);
    for (std::uint8_t index = 0; index < page_sectors; ++index) {
      auto newest = page.versions.end();
      for (auto version = page.versions.begin(); version != page.versions.end(); ++version)
        if (version->index == index && version->stamp <= stamp) newest = version;
      if (newest == page.versions.end()) continue;
      make_durable(page, index, newest->bytes ? newest->bytes->data() : nullptr);
      auto keep = newest + 1;
      page.versions.erase(
          std::remove_if(page.versions.begin(), keep, [&](const Version& version) { return version.index == index; }),
          keep);
    }
    at = page.versions.empty() ? dirty_.erase(at) : std::next(at);
  }
  std::size_t done = 0;
  while (done < size_changes_.size() && size_changes_[done].stamp <= stamp) durable_size_ = size_changes_[done++].size;
  size_changes_.erase(size_changes_.begin(), size_changes_.begin() + static_cast<std::ptrdiff_t>(done));
}

void SimFile::abandon() {
  for (std::uint64_t number : dirty_)
    for (Version& version : pages_.at(number).versions) version.stamp = never_synced;
}

void SimFile::settle(Random& random) {
  // A change of size stays as it is: no zeros that belong to one may be dropped without it.
  for (const SizeChange& change : size_changes_)
    if (change.size < durable_size_) return abandon();
  for (std::uint64_t number : dirty_) cut_page(pages_.at(number), random, {CutProfile::uniform, 0, 0}, never_synced);
  dirty_.clear();
}

void SimFile::collect_stamps(std::set<std::uint64_t>& stamps) const {
  for (std::uint64_t number : dirty_)
    for (const Version& version : pages_.at(number).versions) stamps.insert(version.stamp);
}

void SimFile::cut_page(Page& page, Random& random, const CutChoice& choice, std::uint64_t size_stamp) {
  for (std::uint8_t index = 0; index < page_sectors; ++index) {
    // Entry 0 is the durable value; a change of size that survived leaves nothing older to choose from.
    std::vector<const Version*> values{nullptr};
    for (const Version& version : page.versions) {
      if (version.index != index) continue;
      if (version.by_resize && version.stamp > size_stamp) continue;
      if (version.by_resize) values.clear();
      values.push_back(&version);
    }
    std::size_t chosen = values.size() - 1;
    switch (choice.profile) {
      case CutProfile::uniform: chosen = random.below(values.size()); break;
      case CutProfile::all_old: chosen = 0; break;
      case CutProfile::all_new: break;
      case CutProfile::one_torn:
        while (chosen > 0 && values[chosen] != nullptr && values[chosen]->stamp == choice.torn_stamp &&
               random.below(2) == 0)
          --chosen;
        break;
      case CutProfile::last_writes_lost:
        while (chosen > 0 && values[chosen] != nullptr && values[chosen]->stamp > choice.lost_after) --chosen;
        break;
    }
    const Version* winner = values[chosen];
    if (winner != nullptr) make_durable(page, index, winner->bytes ? winner->bytes->data() : nullptr);
  }
  page.versions.clear();
}

void SimFile::cut(Random& random, const CutChoice& choice) {
  std::size_t kept = size_changes_.size();
  if (choice.profile == CutProfile::uniform) kept = random.below(kept + 1);
  if (choice.profile == CutProfile::all_old) kept = 0;
  if (choice.profile == CutProfile::last_writes_lost)
    while (kept > 0 && size_changes_[kept - 1].stamp > choice.lost_after) --kept;
  std::uint64_t size_stamp = kept > 0 ? size_changes_[kept - 1].stamp : 0;
  if (kept > 0) durable_size_ = size_changes_[kept - 1].size;
  for (std::uint64_t number : dirty_) cut_page(pages_.at(number), random, choice, size_stamp);
  dirty_.clear();
  size_changes_.clear();
  size_ = durable_size_;
  for (auto at = pages_.lower_bound(align_up(size_, block_bytes) / block_bytes); at != pages_.end();)
    at = pages_.erase(at);
  if (auto last = pages_.find(size_ / block_bytes); last != pages_.end() && last->second.durable)
    std::memset(last->second.durable->data() + size_ % block_bytes, 0, block_bytes - size_ % block_bytes);
  std::uint64_t pages = align_up(size_, block_bytes) / block_bytes;
  for (std::uint64_t page = pages; page < allocated_.size(); ++page) allocated_count_ -= allocated_[page];
  if (allocated_.size() > pages) allocated_.resize(pages);
  overwritten_.clear();
}

const std::pair<std::uint64_t, Sector>* SimFile::overwritten_in(std::uint64_t offset, std::uint64_t length) const {
  for (const auto& entry : overwritten_)
    if (entry.first * sector_bytes >= offset && (entry.first + 1) * sector_bytes <= offset + length) return &entry;
  return nullptr;
}

bool SimFile::some_page(std::uint64_t n, std::uint64_t& page) const {
  if (pages_.empty()) return false;
  page = std::next(pages_.begin(), static_cast<std::ptrdiff_t>(n % pages_.size()))->first;
  return true;
}

}  // namespace millrace::sim
