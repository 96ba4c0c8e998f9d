// The file operations of SimKernel: when each takes effect, and what may go wrong with it.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "tests/sim/sim_kernel.hpp"

namespace millrace::sim {

namespace {
constexpr std::byte poison{0xa5};
constexpr Nanos slow_max = 5'000'000'000;
constexpr std::uint64_t ext4_magic = 0xef53;
bool needs_descriptor(const Operation& operation) {
  switch (operation.code) {
    case OperationCode::read:
    case OperationCode::write:
    case OperationCode::sync:
    case OperationCode::allocate:
    case OperationCode::write_zeroes:
    case OperationCode::truncate:
    case OperationCode::map_file:
    case OperationCode::lock: return true;
    case OperationCode::stat_file: return operation.descriptor >= 0;
    default: return false;
  }
}
/// Bytes of simulated disk traffic a second.
constexpr std::uint64_t device_bytes_per_us = 1'500;
}  // namespace

Nanos SimKernel::disk_latency(const Operation& operation) {
  std::uint64_t least = 3'000;
  std::uint64_t spread = 20'000;
  std::uint64_t times = node_.tempo.other;
  switch (operation.code) {
    case OperationCode::read: least = 40'000, spread = 60'000, times = node_.tempo.read; break;
    case OperationCode::write:
      least = operation.durable ? 60'000 : 20'000, spread = operation.durable ? 120'000 : 40'000;
      times = operation.durable ? node_.tempo.durable_write : node_.tempo.write;
      break;
    case OperationCode::sync: least = 80'000, spread = 300'000, times = node_.tempo.sync; break;
    case OperationCode::write_zeroes: least = 100'000, spread = 100'000; break;
    default: break;
  }
  Nanos latency =
      static_cast<Nanos>((least + disk_random_.below(spread)) * times + operation.length / device_bytes_per_us * 1'000);
  if (world_.strike(FaultClass::reordered, node_))
    latency += static_cast<Nanos>(world_.faults().detail(FaultClass::reordered).below(5'000'000));
  if (world_.strike(FaultClass::slow_disk, node_))
    latency += static_cast<Nanos>(world_.faults().detail(FaultClass::slow_disk).below(slow_max));
  return latency;
}

void SimKernel::begin_file(Flights::iterator at) {
  Flight& flight = at->second;
  Operation& operation = *flight.operation;
  flight.stamp = node_.disk.stamp();
  if (needs_descriptor(operation)) {
    if (std::int32_t error = claim(flight); error < 0 || !flight.inode) {
      finish_later(flight.id, error < 0 ? error : -EINVAL, 500);
      return;
    }
  }
  Nanos latency = disk_latency(operation);
  if (operation.code == OperationCode::read && operation.length > 0)
    std::memset(operation.data, static_cast<int>(poison), operation.length);
  if (operation.code == OperationCode::write) {
    // The device may fetch the bytes at once, at the end, or any time between.
    std::uint64_t when = disk_random_.below(4);
    if (when == 0) take_sample(at);
    if (when == 1)
      run_later<&SimKernel::take_sample>(flight.id,
                                         static_cast<Nanos>(disk_random_.below(static_cast<std::uint64_t>(latency))));
    if (operation.durable && node_.on_durable_write) node_.on_durable_write(operation.length, latency);
  }
  run_later<&SimKernel::complete_file>(flight.id, latency);
}

void SimKernel::take_sample(Flights::iterator at) {
  Flight& flight = at->second;
  if (flight.sampled) return;
  const Operation& operation = *flight.operation;
  flight.sample.assign(operation.data, operation.data + operation.length);
  flight.sampled = true;
}

void SimKernel::complete_file(Flights::iterator at) {
  int failed = 0;
  if (world_.before_file_operation) failed = world_.before_file_operation(node_, *at->second.operation);
  const std::int32_t result = failed != 0 ? -failed : do_file(at->second);
  if (result < 0) note_failed_commit(at->second, result);
  finish(at, result);
}

/// What a commit writes goes to a segment or to the tail; a group that crosses the border of an extent goes there in pieces.
void SimKernel::note_failed_commit(const Flight& flight, std::int32_t result) {
  if (flight.operation->code != OperationCode::write || !flight.operation->durable || !flight.inode) return;
  if (result == -EINTR || result == -EAGAIN || result == -EBADF) return;
  node_.disk.for_each_file([&](const std::string& path, SimInode& inode) {
    const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
    if (&inode == flight.inode.get() && (name == "tail" || name.starts_with("data0")))
      node_.failed_commits.push_back({static_cast<std::uint32_t>(shard_), world_.now()});
  });
}

/// Faults that keep an operation from happening at all.
bool SimKernel::mistreated(const Operation& operation, std::int32_t& result) {
  result = 0;
  if (!node_.faulty_disk) return false;
  switch (operation.code) {
    case OperationCode::open_file:
      if (world_.strike(FaultClass::too_many_files, node_)) result = -EMFILE;
      else if ((operation.open_flags & open_create) && world_.strike(FaultClass::no_space, node_)) result = -ENOSPC;
      break;
    case OperationCode::read:
      if (world_.strike(FaultClass::interrupted, node_)) result = -EINTR;
      else if (world_.strike(FaultClass::again, node_)) result = -EAGAIN;
      else if (world_.strike(FaultClass::read_error_once, node_)) result = -EIO;
      break;
    case OperationCode::write:
      if (world_.strike(FaultClass::interrupted, node_)) result = -EINTR;
      else if (world_.strike(FaultClass::again, node_)) result = -EAGAIN;
      break;
    case OperationCode::allocate:
    case OperationCode::truncate:
    case OperationCode::write_zeroes:
      if (world_.strike(FaultClass::interrupted, node_)) result = -EINTR;
      else if (operation.code != OperationCode::truncate && world_.strike(FaultClass::no_space, node_))
        result = -ENOSPC;
      break;
    case OperationCode::rename:
    case OperationCode::make_directory:
    case OperationCode::unlink:
      if (world_.strike(FaultClass::write_error_once, node_)) result = -EIO;
      else if (operation.code != OperationCode::unlink && world_.strike(FaultClass::no_space, node_)) result = -ENOSPC;
      break;
    default: break;
  }
  return result != 0;
}

/// What no descriptor opened this way, or no length, allows.
std::int32_t SimKernel::refused(const Operation& operation) {
  if (!needs_descriptor(operation)) return 0;
  auto* open = process_.descriptor(operation.descriptor);
  if (open == nullptr) return 0;  // closed while this was in flight
  bool writes = (open->flags & open_write) != 0;
  bool reads = (open->flags & open_read) != 0;
  switch (operation.code) {
    case OperationCode::read: return reads ? 0 : -EBADF;
    case OperationCode::write: return writes ? 0 : -EBADF;
    case OperationCode::allocate:
    case OperationCode::write_zeroes: return operation.extent == 0 ? -EINVAL : writes ? 0 : -EBADF;
    case OperationCode::truncate: return writes ? 0 : -EINVAL;
    default: return 0;
  }
}

std::int32_t SimKernel::do_file(Flight& flight) {
  const Operation& operation = *flight.operation;
  std::int32_t result = refused(operation);
  if (result != 0 || mistreated(operation, result)) return result;
  switch (operation.code) {
    case OperationCode::open_file: return do_open(flight);
    case OperationCode::read: return do_read(flight);
    case OperationCode::write: return do_write(flight);
    case OperationCode::sync: return do_sync(flight);
    case OperationCode::allocate:
    case OperationCode::write_zeroes: return do_allocate(flight);
    case OperationCode::truncate: flight.inode->file.resize(node_.disk.next_stamp(), operation.extent); return 0;
    case OperationCode::stat_file:
    case OperationCode::stat_filesystem: return do_stat(flight);
    case OperationCode::map_file: return do_map(flight);
    case OperationCode::lock: return do_lock(flight);
    default: return do_names(flight);
  }
}

std::int32_t SimKernel::do_open(Flight& flight) {
  const Operation& operation = *flight.operation;
  InodePtr inode;
  int result = node_.disk.open(operation.path, operation.open_flags, inode);
  if (result < 0) return result;
  std::uint64_t number = world_.next_number();
  std::int32_t descriptor = process_.add_descriptor({number, operation.open_flags, inode, nullptr});
  if (descriptor >= 0) ++inode->open_count;
  return descriptor;
}

std::int32_t SimKernel::do_read(Flight& flight) {
  const Operation& operation = *flight.operation;
  SimInode& inode = *flight.inode;
  if (inode.is_directory) return -EISDIR;
  std::size_t length = operation.length;
  if (auto* file = process_.descriptor(operation.descriptor); file != nullptr && (file->flags & open_direct))
    if (operation.offset % sector_bytes != 0 || length % sector_bytes != 0 ||
        reinterpret_cast<std::uintptr_t>(operation.data) % sector_bytes != 0)
      return -EINVAL;
  if (node_.faulty_disk && length > sector_bytes && world_.strike(FaultClass::short_read, node_))
    length = sector_bytes * (1 + world_.faults().detail(FaultClass::short_read).below(length / sector_bytes));
  if (!node_.disk.healed && !inode.bad_sectors.empty()) {
    auto bad = inode.bad_sectors.lower_bound(operation.offset / sector_bytes);
    if (bad != inode.bad_sectors.end() && *bad * sector_bytes < operation.offset + length) return -EIO;
  }
  return read_damaged(flight, length);
}

std::int32_t SimKernel::read_damaged(Flight& flight, std::size_t length) {
  const Operation& operation = *flight.operation;
  SimFile& file = flight.inode->file;
  MutableBytes target(operation.data, length);
  std::size_t got = file.read(operation.offset, target, node_.disk.healed);
  if (got == 0 || !node_.faulty_disk) return static_cast<std::int32_t>(got);
  if (world_.strike(FaultClass::read_error_sticky, node_)) {
    auto& random = world_.faults().detail(FaultClass::read_error_sticky);
    node_.disk.note_damage(*flight.inode);
    flight.inode->bad_sectors.insert((operation.offset + random.below(got)) / sector_bytes);
    return -EIO;
  }
  if (const auto* old = file.overwritten_in(operation.offset, got);
      old != nullptr && world_.strike(FaultClass::stale_read, node_)) {
    std::memcpy(operation.data + (old->first * sector_bytes - operation.offset), old->second.data(), sector_bytes);
    node_.disk.note_damage(*flight.inode);
  }
  return static_cast<std::int32_t>(got);
}

/// Writes that succeed and are not where they should be: the true bytes stay below the damage.
bool SimKernel::store_wrongly(Flight& flight, Bytes bytes) {
  if (!node_.faulty_disk || bytes.size() < sector_bytes || flight.operation->offset % sector_bytes != 0) return false;
  bool lost = world_.strike(FaultClass::lost_write, node_);
  bool misdirected = !lost && world_.strike(FaultClass::misdirected_write, node_);
  if (!lost && !misdirected) return false;
  node_.disk.note_damage(*flight.inode);
  SimFile& file = flight.inode->file;
  std::uint64_t first = flight.operation->offset / sector_bytes;
  std::size_t count = bytes.size() / sector_bytes;
  std::vector<Sector> before;
  for (std::size_t i = 0; i < count; ++i) before.push_back(file.sector(first + i, false));
  file.write(node_.disk.next_stamp(), flight.operation->offset, bytes, flight.operation->durable);
  for (std::size_t i = 0; i < count; ++i) file.damage(first + i, before[i]);
  if (misdirected && file.size() >= sector_bytes) {
    auto& random = world_.faults().detail(FaultClass::misdirected_write);
    std::uint64_t page = 0;
    std::uint64_t target = file.some_page(random.next(), page) ? page * (block_bytes / sector_bytes) : 0;
    for (std::size_t i = 0; i < count && (target + i + 1) * sector_bytes <= file.size(); ++i) {
      Sector wrong;
      std::memcpy(wrong.data(), bytes.data() + i * sector_bytes, sector_bytes);
      file.damage(target + i, wrong);
    }
  }
  return true;
}

void SimKernel::store(Flight& flight, Bytes bytes, bool durable) {
  world_.mix(12, flight.operation->offset, hash64(bytes));
  if (store_wrongly(flight, bytes)) return;
  if (durable && node_.faulty_disk && world_.strike(FaultClass::lying_flush, node_)) {
    durable = false;
    node_.disk.note_damage(*flight.inode);
  }
  flight.inode->file.write(node_.disk.next_stamp(), flight.operation->offset, bytes, durable);
  auto& bad = flight.inode->bad_sectors;
  if (!bad.empty())
    bad.erase(bad.lower_bound(flight.operation->offset / sector_bytes),
              bad.lower_bound((flight.operation->offset + bytes.size()) / sector_bytes));
  if (node_.faulty_disk && world_.strike(FaultClass::duplicated_write, node_)) {
    // The same bytes arrive again a little later; harmless unless somebody wrote there meanwhile.
    node_.disk.note_damage(*flight.inode);
    auto delay = static_cast<Nanos>(world_.faults().detail(FaultClass::duplicated_write).below(20'000'000));
    world_.after(delay, [this, inode = flight.inode, offset = flight.operation->offset,
                         copy = std::vector(bytes.begin(), bytes.end())] {
      if (offset + copy.size() <= inode->file.size()) inode->file.write(node_.disk.next_stamp(), offset, copy, false);
    });
  }
}

std::int32_t SimKernel::do_write(Flight& flight) {
  const Operation& operation = *flight.operation;
  SimInode& inode = *flight.inode;
  std::size_t length = operation.length;
  auto* open = process_.descriptor(operation.descriptor);
  if (open != nullptr && (open->flags & open_direct))
    if (operation.offset % sector_bytes != 0 || length % sector_bytes != 0 ||
        reinterpret_cast<std::uintptr_t>(operation.data) % sector_bytes != 0)
      return -EINVAL;
  inode.in_page_cache |= open != nullptr && !(open->flags & open_direct);
  Bytes bytes(operation.data, length);
  if (flight.sampled) bytes = flight.sample;
  if (inode.writes_fail && !node_.disk.healed) return -EIO;
  if (node_.faulty_disk) {
    bool sticky = world_.strike(FaultClass::write_error_sticky, node_);
    if (sticky || world_.strike(FaultClass::write_error_once, node_)) {
      // A failed write may have reached the device all the same, wholly or in part.
      inode.writes_fail |= sticky;
      std::uint64_t reached = disk_random_.below(length / sector_bytes + 1) * sector_bytes;
      inode.file.write(node_.disk.next_stamp(), operation.offset, bytes.first(reached), false);
      return -EIO;
    }
    if (length > sector_bytes && world_.strike(FaultClass::short_write, node_))
      bytes = bytes.first(sector_bytes *
                          (1 + world_.faults().detail(FaultClass::short_write).below(length / sector_bytes)));
    if (world_.strike(FaultClass::no_space, node_)) return -ENOSPC;
  }
  while (!bytes.empty()) {
    std::uint64_t needed = inode.file.allocation_needed(operation.offset, bytes.size());
    if (needed == 0 || node_.disk.has_space(needed)) break;
    bytes = bytes.first(bytes.size() / 2 / block_bytes * block_bytes);
  }
  if (bytes.empty() && length > 0) return -ENOSPC;
  store(flight, bytes, operation.durable);
  return static_cast<std::int32_t>(bytes.size());
}

std::int32_t SimKernel::do_sync(Flight& flight) {
  if (node_.faulty_disk && world_.strike(FaultClass::failed_sync, node_)) {
    // The dirty state is discarded: the next sync succeeds and writes nothing.
    if (flight.inode->in_page_cache) flight.inode->file.abandon();
    else flight.inode->file.settle(world_.faults().detail(FaultClass::failed_sync));
    flight.inode->in_page_cache = false;
    return -EIO;
  }
  if (node_.faulty_disk && world_.strike(FaultClass::lying_flush, node_)) {
    // A directory that lies loses names of anything below it.
    if (flight.inode->is_directory) node_.disk.note_damage(SimInode{});
    else node_.disk.note_damage(*flight.inode);
    return 0;
  }
  // Only what had completed before the sync was handed over.
  node_.disk.sync(*flight.inode, flight.stamp);
  return 0;
}

std::int32_t SimKernel::do_allocate(Flight& flight) {
  const Operation& operation = *flight.operation;
  SimFile& file = flight.inode->file;
  if (operation.code == OperationCode::write_zeroes && !has_write_zeroes_) return -EOPNOTSUPP;
  std::uint64_t needed = file.allocation_needed(operation.offset, operation.extent);
  if (needed > 0 && !node_.disk.has_space(needed)) return -ENOSPC;
  if (operation.code == OperationCode::write_zeroes)
    file.write_zeroes(node_.disk.next_stamp(), operation.offset, operation.extent);
  else file.allocate(node_.disk.next_stamp(), operation.offset, operation.extent);
  return 0;
}

std::int32_t SimKernel::do_names(Flight& flight) {
  const Operation& operation = *flight.operation;
  switch (operation.code) {
    case OperationCode::rename: return node_.disk.rename(operation.path, operation.path_to);
    case OperationCode::unlink: return node_.disk.unlink(operation.path, operation.remove_directory);
    case OperationCode::make_directory: return node_.disk.make_directory(operation.path);
    case OperationCode::read_directory: return node_.disk.list(operation.path, *operation.entries);
    default: return -ENOSYS;
  }
}

std::int32_t SimKernel::do_stat(Flight& flight) {
  const Operation& operation = *flight.operation;
  if (operation.code == OperationCode::stat_filesystem) {
    if (!node_.disk.find(operation.path)) return -ENOENT;
    std::uint64_t taken = node_.disk.used_bytes() + node_.disk.foreign_bytes;
    *operation.filesystem = {
        node_.disk.capacity_bytes, node_.disk.capacity_bytes - std::min(taken, node_.disk.capacity_bytes),
        node_.disk.capacity_inodes - std::min(node_.disk.used_inodes(), node_.disk.capacity_inodes), ext4_magic};
    return 0;
  }
  int error = 0;
  InodePtr inode = flight.inode ? flight.inode : node_.disk.find(operation.path, error);
  if (!inode) return error;
  *operation.status = {inode->file.size(), inode->file.allocated_bytes(), inode->is_directory, sector_bytes};
  return 0;
}

// Always at the same places: what is written across one goes out in pieces.
std::int32_t SimKernel::do_map(Flight& flight) {
  const Operation& operation = *flight.operation;
  constexpr std::uint64_t apart = 577 * block_bytes;
  operation.borders->clear();
  const std::uint64_t end = operation.offset + operation.extent;
  for (std::uint64_t at = (operation.offset / apart + 1) * apart; at < end; at += apart)
    operation.borders->push_back(at);
  return static_cast<std::int32_t>(operation.borders->size());
}

std::int32_t SimKernel::do_lock(Flight& flight) {
  if (flight.inode->lock_owner != 0 && flight.inode->lock_owner != flight.open_file) return -EAGAIN;
  flight.inode->lock_owner = flight.open_file;
  return 0;
}

void SimKernel::resolve_at_death(Flight& flight) {
  Operation& operation = *flight.operation;
  if (!is_file_operation(operation.code)) return;
  if (needs_descriptor(operation) && !flight.inode) return;
  std::uint64_t fate = disk_random_.below(3);
  if (fate == 0) return;  // it never happened
  switch (operation.code) {
    case OperationCode::write: {
      Bytes bytes = flight.sampled ? Bytes(flight.sample) : Bytes(operation.data, operation.length);
      std::uint64_t sectors = bytes.size() / sector_bytes;
      if (fate == 1 && sectors > 0) bytes = bytes.first(disk_random_.below(sectors + 1) * sector_bytes);
      if (flight.inode->writes_fail ||
          !node_.disk.has_space(flight.inode->file.allocation_needed(operation.offset, bytes.size())))
        return;
      world_.mix(13, operation.offset, hash64(bytes));
      flight.inode->file.write(node_.disk.next_stamp(), operation.offset, bytes, false);
      return;
    }
    case OperationCode::sync: node_.disk.sync(*flight.inode, flight.stamp); return;
    case OperationCode::truncate: flight.inode->file.resize(node_.disk.next_stamp(), operation.extent); return;
    case OperationCode::allocate:
    case OperationCode::write_zeroes: do_allocate(flight); return;
    case OperationCode::open_file: {
      InodePtr inode;
      if (operation.open_flags & (open_create | open_truncate))
        node_.disk.open(operation.path, operation.open_flags, inode);
      return;
    }
    case OperationCode::rename:
    case OperationCode::unlink:
    case OperationCode::make_directory: do_names(flight); return;
    default: return;
  }
}

}  // namespace millrace::sim
