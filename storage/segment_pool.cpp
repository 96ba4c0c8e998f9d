#include "storage/segment_pool.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/names.hpp"

namespace millrace {

namespace {
constexpr std::string_view unfinished_suffix = ".tmp";
constexpr std::uint64_t write_zeroes_step = 8 * MiB;
constexpr Nanos pace_step = nanos_per_milli;
constexpr Nanos idle_step = 20 * nanos_per_milli;  // how long nothing must have come to count as idle
constexpr std::int64_t load_factor = 2;            // zeros written for each byte appended
}  // namespace

SegmentPool::SegmentPool(Reactor& reactor, SegmentPoolOptions options, const PoolPressure& pressure)
    : reactor_(reactor), options_(std::move(options)), pressure_(pressure), zeros_(chunk_bytes) {}

std::string SegmentPool::path_of(std::string_view name) const {
  return pool_path(options_.shard_directory) + "/" + std::string(name);
}

std::string SegmentPool::new_name() { return pool_name({reactor_.random().next(), reactor_.random().next()}); }

Task<> SegmentPool::open() {
  const std::string directory = pool_path(options_.shard_directory);
  auto listing = Directory::list(reactor_, directory);
  auto entries = co_await listing;
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    if (entry.is_directory || !entry.name.starts_with("seg-")) continue;
    auto asking = Directory::status_of(reactor_, path_of(entry.name));
    auto status = co_await asking;
    if (!status) co_return fail(status.error());
    const bool finished = !entry.name.ends_with(unfinished_suffix);
    if (finished && status->size == options_.segment_bytes) {
      ready_.push_back(entry.name);
    } else if (finished) {
      // Made for another segment size.
      auto removing = Directory::remove_file(reactor_, path_of(entry.name));
      auto removed = co_await removing;
      if (!removed) co_return fail(removed.error());
    } else {
      stale_.push_back(entry.name.substr(0, entry.name.size() - unfinished_suffix.size()));
    }
  }
  co_return Result<>{};
}

Task<> SegmentPool::prepare_first() {
  if (!ready_.empty()) co_return Result<>{};
  auto preparing = prepare_one();
  auto prepared = co_await preparing;
  // A full disk is a state, not a failure to start.
  if (!prepared && prepared.error() != Error::no_space) co_return fail(prepared.error());
  co_return Result<>{};
}

void SegmentPool::start() {
  MR_ASSERT(!running_);
  running_ = true;
  stopping_ = false;
  reactor_.spawn(run());
}

Task<> SegmentPool::stop() {
  stopping_ = true;
  wake_.notify();
  while (running_) co_await ended_.wait();
  co_return Result<>{};
}

Task<> SegmentPool::run() {
  while (!stopping_) {
    if (ready_.size() >= options_.segments && stale_.empty()) {
      co_await wake_.wait();
      continue;
    }
    auto preparing = prepare_one();
    auto prepared = co_await preparing;
    if (!prepared && !stopping_) {
      const Nanos again = reactor_.now() + look_again_after;
      co_await Sleep(reactor_, again);
    }
  }
  running_ = false;
  ended_.notify();
  co_return Result<>{};
}

Task<bool> SegmentPool::has_space() {
  auto asking = Directory::filesystem_of(reactor_, options_.shard_directory);
  auto filesystem = co_await asking;
  if (!filesystem) co_return fail(filesystem.error());
  free_bytes_ = filesystem->free_bytes;
  const bool unknown = filesystem->total_bytes == 0;  // ramfs and the like do not say; the write will
  out_of_space_ = !unknown && free_bytes_ < options_.segment_bytes + reserve_bytes;
  co_return !out_of_space_;
}

Task<> SegmentPool::prepare_one() {
  if (!stale_.empty()) {
    const std::string name = stale_.back();
    stale_.pop_back();
    auto preparing = prepare_file(name, true);
    auto prepared = co_await preparing;
    if (!prepared) stale_.push_back(name);
    co_return std::move(prepared);
  }
  auto asking = has_space();
  auto space = co_await asking;
  if (!space) co_return fail(space.error());
  if (!*space) co_return fail(Error::no_space);
  const std::string name = new_name();
  auto preparing = prepare_file(name, false);
  auto prepared = co_await preparing;
  if (!prepared) {
    if (prepared.error() == Error::no_space) out_of_space_ = true;
    // What it took goes back at once; a file that cannot be removed is found and zeroed at the next start.
    auto removing = Directory::remove_file(reactor_, path_of(name) + std::string(unfinished_suffix));
    auto removed = co_await removing;
    static_cast<void>(removed);
  }
  co_return std::move(prepared);
}

Task<> SegmentPool::prepare_file(std::string name, bool recycled) {
  const std::string unfinished = path_of(name) + std::string(unfinished_suffix);
  const unsigned creating = recycled ? 0u : static_cast<unsigned>(open_create | open_exclusive);
  auto opening = File::open(reactor_, unfinished, open_read | open_write | creating | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto allocating = file->allocate(0, options_.segment_bytes);
  auto allocated = co_await allocating;
  if (!allocated && allocated.error() != Error::unsupported) co_return fail(allocated.error());
  if (recycled) {
    auto truncating = file->truncate(options_.segment_bytes);
    auto truncated = co_await truncating;
    if (!truncated) co_return fail(truncated.error());
  }
  auto zeroing = zero(*file, recycled);
  auto zeroed = co_await zeroing;
  if (!zeroed) co_return fail(zeroed.error());
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto renaming = Directory::rename_file(reactor_, unfinished, path_of(name));
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor_, pool_path(options_.shard_directory));
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  ready_.push_back(name);
  out_of_space_ = false;
  co_return Result<>{};
}

Task<> SegmentPool::zero(File& file, [[maybe_unused]] bool recycled) {
  if (mutant("stale_segment_not_zeroed"))
    if (recycled) co_return Result<>{};
  for (std::uint64_t at = 0; at < options_.segment_bytes; at += write_zeroes_step) {
    const std::uint64_t length = std::min(write_zeroes_step, options_.segment_bytes - at);
    auto zeroing = file.write_zeroes(at, length);
    auto zeroed = co_await zeroing;
    if (!zeroed) {
      if (zeroed.error() != Error::unsupported) co_return fail(zeroed.error());
      auto by_hand = zero_by_hand(file);
      auto done = co_await by_hand;
      co_return std::move(done);
    }
    prepared_bytes_ += length;
    auto pacing = pace();
    auto paced = co_await pacing;
    if (!paced) co_return fail(paced.error());
  }
  co_return Result<>{};
}

Task<> SegmentPool::zero_by_hand(File& file) {
  for (std::uint64_t at = 0; at < options_.segment_bytes; at += chunk_bytes) {
    const std::uint64_t length = std::min<std::uint64_t>(chunk_bytes, options_.segment_bytes - at);
    const Bytes chunk = zeros_.bytes().first(length);
    auto writing = file.write_exact(at, chunk, false);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
    prepared_bytes_ += length;
    credit_ -= static_cast<std::int64_t>(length);
    auto pacing = pace();
    auto paced = co_await pacing;
    if (!paced) co_return fail(paced.error());
  }
  co_return Result<>{};
}

// As fast as the disk goes while nothing is appended, or while the pool is empty. Else twice what is appended, and nothing at all
// while more than a quarter of the pool is ready: a burst has the disk for itself.
Task<> SegmentPool::pace() {
  for (;;) {
    if (stopping_ || pressure_.given_up()) co_return fail(Error::cancelled);
    const std::uint64_t appended = pressure_.appended_bytes();
    const auto came = static_cast<std::int64_t>(appended - paced_appended_);
    paced_appended_ = appended;
    credit_ = std::min(credit_ + load_factor * came, static_cast<std::int64_t>(write_zeroes_step));
    const bool plenty = ready_.size() > std::max<std::size_t>(options_.segments / 4, 1);
    if (came == 0 || ready_.empty() || (credit_ >= 0 && !plenty)) {
      credit_ = std::max<std::int64_t>(credit_, 0);
      co_return Result<>{};
    }
    const Nanos again = reactor_.now() + (plenty ? idle_step : pace_step);
    co_await Sleep(reactor_, again);
  }
}

// Reserved extents read as zeros too.
Task<> SegmentPool::reserve_file(std::string path) {
  auto opening = File::open(reactor_, path,
                            open_read | open_write | open_create | open_exclusive | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto allocating = file->allocate(0, options_.segment_bytes);
  auto allocated = co_await allocating;
  if (!allocated) co_return fail(allocated.error());
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  co_return std::move(synced);
}

Task<std::string> SegmentPool::make_quickly() {
  auto asking = has_space();
  auto space = co_await asking;
  if (!space) co_return fail(space.error());
  if (!*space) co_return fail(Error::no_space);
  const std::string name = new_name();
  const std::string unfinished = path_of(name) + std::string(unfinished_suffix);
  auto reserving = reserve_file(unfinished);
  auto done = co_await reserving;
  if (done) {
    auto renaming = Directory::rename_file(reactor_, unfinished, path_of(name));
    done = co_await renaming;
  }
  if (!done) {
    auto removing = Directory::remove_file(reactor_, unfinished);
    auto removed = co_await removing;
    static_cast<void>(removed);
    co_return fail(done.error());
  }
  co_return name;
}

Task<File> SegmentPool::take(SegmentKey key) {
  std::string name;
  if (!ready_.empty()) {
    name = ready_.front();
    ready_.erase(ready_.begin());
    wake_.notify();
  } else {
    auto making = make_quickly();
    auto made = co_await making;
    if (!made) {
      if (made.error() == Error::no_space) out_of_space_ = true;
      co_return fail(made.error());
    }
    name = *made;
  }
  const std::string path = segment_path(options_.shard_directory, key);
  auto renaming = Directory::rename_file(reactor_, path_of(name), path);
  auto renamed = co_await renaming;
  if (!renamed) {
    ready_.push_back(name);
    co_return fail(renamed.error());
  }
  auto naming = make_name_durable(reactor_, day_path(options_.shard_directory, key.day));
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  auto opening = File::open(reactor_, path, open_read | open_write | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  co_return std::move(*file);
}

Task<> SegmentPool::give_back(std::string path) {
  const std::string name = new_name();
  auto renaming = Directory::rename_file(reactor_, path, path_of(name));
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor_, pool_path(options_.shard_directory));
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  ready_.push_back(name);
  co_return Result<>{};
}

Task<> SegmentPool::recycle(std::string path) {
  if (ready_.size() + stale_.size() >= options_.segments + recycled_max) {
    auto removing = Directory::remove_file(reactor_, path);
    auto removed = co_await removing;
    co_return std::move(removed);
  }
  const std::string name = new_name();
  auto renaming = Directory::rename_file(reactor_, path, path_of(name) + std::string(unfinished_suffix));
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor_, pool_path(options_.shard_directory));
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  stale_.push_back(name);
  wake_.notify();
  co_return Result<>{};
}

}  // namespace millrace
