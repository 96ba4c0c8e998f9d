#include "storage/quarantine.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/bytes.hpp"
#include "storage/names.hpp"
#include "storage/read_around.hpp"

namespace millrace {

namespace {
constexpr std::size_t piece_bytes = 1 * MiB;
constexpr unsigned numbers_max = 10'000;
}  // namespace

Task<std::string> quarantine_range(File& file, std::string shard_directory, std::string what, Lsn lsn,
                                   std::uint64_t begin, std::uint64_t end, bool buffered) {
  MR_ASSERT(begin < end && is_aligned(begin, block_bytes) && is_aligned(end, block_bytes));
  Reactor& reactor = file.reactor();
  const std::string directory = quarantine_path(shard_directory);
  const std::string stem = directory + "/" + what + "-" + std::to_string(lsn.value) + "-";
  std::string path;
  Result<File> copy = fail(Error::already_exists);
  for (unsigned number = 0; number < numbers_max && !copy && copy.error() == Error::already_exists; ++number) {
    path = stem + std::to_string(number);
    auto creating = File::open(reactor, path, open_write | open_create | open_exclusive | direct_flag(buffered));
    copy = co_await creating;
  }
  if (!copy) co_return fail(copy.error());
  AlignedMemory piece(std::min<std::uint64_t>(piece_bytes, end - begin));
  for (std::uint64_t at = begin; at < end; at += piece.size()) {
    const MutableBytes bytes = piece.bytes().first(std::min<std::uint64_t>(piece.size(), end - at));
    auto reading = read_around(file, at, bytes);
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (read->bytes < bytes.size()) co_return fail(Error::out_of_range);
    auto writing = copy->write_exact(at - begin, bytes, false);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
  }
  auto syncing = copy->sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto naming = make_name_durable(reactor, directory);
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  co_return path;
}

Task<> zero_range(File& file, std::uint64_t begin, std::uint64_t end) {
  const AlignedMemory zeros(std::min<std::uint64_t>(piece_bytes, end - begin));
  for (std::uint64_t at = begin; at < end; at += zeros.size()) {
    const Bytes bytes = zeros.bytes().first(std::min<std::uint64_t>(zeros.size(), end - at));
    auto writing = file.write_exact(at, bytes, false);
    auto written = co_await writing;
    if (!written) co_return fail(written.error());
  }
  auto syncing = file.sync(true);
  auto synced = co_await syncing;
  co_return std::move(synced);
}

}  // namespace millrace
