// The bytes of one simulated file. A sector is its durable value and an ordered list of volatile ones; what processes see
// is the last of them. Zeros cost nothing: pages exist only where something else was written.
//
// Stamps order everything that happened to a disk; the caller hands out growing ones.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "reactor/random.hpp"

namespace millrace::sim {

inline constexpr std::size_t sector_bytes = 512;
using Sector = std::array<std::byte, sector_bytes>;

/// How a power cut chooses among the values a volatile sector may have.
enum class CutProfile : std::uint8_t { uniform, all_old, all_new, one_torn, last_writes_lost };
inline constexpr std::size_t cut_profiles = 5;

struct CutChoice {
  CutProfile profile = CutProfile::uniform;
  std::uint64_t torn_stamp = 0;  // one_torn: the write whose sectors are mixed
  std::uint64_t lost_after = 0;  // last_writes_lost: what is younger than this stamp is gone
};

class SimFile {
 public:
  std::uint64_t size() const { return size_; }
  std::uint64_t durable_size() const { return durable_size_; }
  std::uint64_t allocated_bytes() const { return allocated_count_ * block_bytes; }
  /// Bytes this write or allocation would newly take from the device.
  std::uint64_t allocation_needed(std::uint64_t offset, std::uint64_t length) const;

  /// What a process reads: fewer bytes than asked for only at the end. `healed` looks below the damage.
  std::size_t read(std::uint64_t offset, MutableBytes target, bool healed) const;

  /// The whole file as a process would read it.
  std::vector<std::byte> content(bool healed) const;

  /// Stores bytes. `durable` puts them, and the size they need, past any power cut at once.
  void write(std::uint64_t stamp, std::uint64_t offset, Bytes bytes, bool durable);
  void write_zeroes(std::uint64_t stamp, std::uint64_t offset, std::uint64_t length);
  void allocate(std::uint64_t stamp, std::uint64_t offset, std::uint64_t length);
  void resize(std::uint64_t stamp, std::uint64_t size);

  /// Everything stamped up to `stamp` is durable now.
  void sync(std::uint64_t stamp);
  /// A sync that failed: what is volatile stays visible, but no later sync will ever write it out.
  void abandon();
  /// The same for bytes no page cache holds (direct I/O): each sector has reached the device or is gone, visibly.
  void settle(Random& random);
  bool has_volatile() const { return !dirty_.empty() || !size_changes_.empty(); }
  void collect_stamps(std::set<std::uint64_t>& stamps) const;
  /// The power is gone: every volatile thing gets one of the values it may have.
  void cut(Random& random, const CutChoice& choice);

  /// Damage lies over the true bytes until the sector is written again.
  void damage(std::uint64_t sector, const Sector& bytes) { overlay_[sector] = bytes; }
  void clear_damage() { overlay_.clear(); }
  std::size_t damaged_sectors() const { return overlay_.size(); }
  Sector sector(std::uint64_t sector, bool healed) const;
  /// An older value of a sector in the range, for a stale read; nullptr when there was none lately.
  const std::pair<std::uint64_t, Sector>* overwritten_in(std::uint64_t offset, std::uint64_t length) const;
  /// The n-th page (modulo how many there are) that is not all zero; false when the file has none.
  bool some_page(std::uint64_t n, std::uint64_t& page) const;

 private:
  using PageBytes = std::array<std::byte, block_bytes>;
  struct Version {
    std::uint64_t stamp = 0;
    std::uint8_t index = 0;         // sector within the page
    bool by_resize = false;         // zeros that stand or fall with a change of size
    std::unique_ptr<Sector> bytes;  // none = zeros
  };
  struct Page {
    std::unique_ptr<PageBytes> durable;  // none = zeros
    std::vector<Version> versions;       // oldest first
  };
  struct SizeChange {
    std::uint64_t stamp;
    std::uint64_t size;
  };
  static constexpr std::uint64_t never_synced = ~std::uint64_t{0};
  static constexpr std::size_t overwritten_max = 32;

  void copy_out(std::uint64_t offset, MutableBytes target, bool healed) const;
  const std::byte* find(std::uint64_t sector) const;
  void store_sector(std::uint64_t stamp, std::uint64_t sector, const std::byte* bytes, bool durable, bool by_resize);
  static void make_durable(Page& page, std::uint8_t index, const std::byte* bytes);
  void zero_range(std::uint64_t stamp, std::uint64_t begin, std::uint64_t end, bool by_resize);
  void set_size(std::uint64_t stamp, std::uint64_t size, bool durable);
  void mark_allocated(std::uint64_t offset, std::uint64_t length);
  void cut_page(Page& page, Random& random, const CutChoice& choice, std::uint64_t size_stamp);

  std::uint64_t size_ = 0;
  std::uint64_t durable_size_ = 0;
  std::vector<SizeChange> size_changes_;
  std::map<std::uint64_t, Page> pages_;
  std::set<std::uint64_t> dirty_;  // pages with versions
  std::vector<bool> allocated_;    // by page
  std::uint64_t allocated_count_ = 0;
  std::map<std::uint64_t, Sector> overlay_;
  std::deque<std::pair<std::uint64_t, Sector>> overwritten_;
};

}  // namespace millrace::sim
