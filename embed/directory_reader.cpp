#include "embed/directory_reader.hpp"

#include <algorithm>

#include "embed/shard_directory.hpp"
#include "storage/names.hpp"
#include "storage/node_meta_file.hpp"
#include "storage/read_around.hpp"

namespace millrace {

namespace {

constexpr Nanos poll_every = 20 * nanos_per_milli;

Result<> not_empty(const std::string& directory) {
  if (directory.empty()) return fail(Error::invalid_argument);
  return {};
}

DirectoryStream describe(const ShardDirectory& shard, const Stream& stream) {
  return {.id = stream.id,
          .name = std::string(stream.name),
          .shard = shard.facts().shard,
          .first_offset = stream.first(),
          .next_offset = shard.stream_bounds(stream.id).next,
          .day = stream.day};
}

}  // namespace

struct DirectoryReader::Impl {
  DirectoryOptions options;
  NodeSlot node;
  std::vector<std::unique_ptr<ShardDirectory>> shards;
  std::vector<DirectoryShard> facts;
  bool polling = false;
  bool stopping = false;
  bool refreshing = false;
  Signal refreshed;

  ShardDirectory& shard_of(StreamId stream) { return *shards[stream.value % shards.size()]; }
};

DirectoryReader::DirectoryReader(Reactor& reactor, std::shared_ptr<Impl> impl)
    : reactor_(reactor), impl_(std::move(impl)) {}

DirectoryReader::~DirectoryReader() { impl_->stopping = true; }

Task<std::unique_ptr<DirectoryReader>> DirectoryReader::open(Reactor& reactor, DirectoryOptions options,
                                                             std::string& diagnosis) {
  if (auto named = not_empty(options.directory); !named) co_return fail(named.error());
  auto impl = std::make_shared<Impl>();
  impl->options = std::move(options);
  const std::string path = impl->options.directory + "/node.meta";
  auto opening = File::open(reactor, path, open_read | direct_flag(impl->options.buffered));
  auto file = co_await opening;
  if (!file) {
    diagnosis = path + (file.error() == Error::not_found ? ": there is none, so this is no data directory of millrace"
                                                         : ": " + std::string(error_text(file.error())));
    if (file.error() == Error::invalid_argument || file.error() == Error::unsupported) {
      diagnosis = path + ": this filesystem has no direct I/O; use --buffered";
      co_return fail(Error::unsupported);
    }
    co_return fail(file.error());
  }
  AlignedMemory slots(2 * block_bytes);
  auto reading = read_around(*file, 0, slots.bytes());
  auto got = co_await reading;
  if (!got) co_return fail(got.error());
  auto node = choose_node_slot(slots.bytes().first(block_bytes), slots.bytes().subspan(block_bytes), OpenFor::reading);
  if (!node) {
    diagnosis = path + (node.error() == Error::unsupported_version
                            ? ": was written by a newer millrace"
                            : ": neither of its two slots verifies; restore it from a copy");
    co_return fail(node.error());
  }
  impl->node = node->value;
  for (std::uint32_t number = 0; number < impl->node.shard_count; ++number) {
    const ShardIndex shard{number};
    auto reading_slots = read_around(*file, shard_slot_offset(shard, 0), slots.bytes());
    auto read = co_await reading_slots;
    if (!read) co_return fail(read.error());
    ShardSlot slot;
    slot.shard = shard;
    auto chosen = choose_shard_slot(slots.bytes().first(block_bytes), slots.bytes().subspan(block_bytes), shard,
                                    OpenFor::reading);
    if (chosen) slot = chosen->value;
    else if (read->bytes == slots.size() && !all_zero(slots.bytes())) {
      diagnosis = path + ": no slot of shard " + std::to_string(number) + " verifies; restore it from a copy";
      co_return fail(chosen.error());
    }
    impl->shards.push_back(std::make_unique<ShardDirectory>(reactor, impl->options, impl->node, slot));
    auto opening_shard = impl->shards.back()->open(diagnosis);
    auto opened = co_await opening_shard;
    if (!opened) {
      if (diagnosis.empty()) diagnosis = impl->options.directory + ": " + std::string(error_text(opened.error()));
      co_return fail(opened.error());
    }
    impl->facts.push_back(impl->shards.back()->facts());
  }
  co_return std::unique_ptr<DirectoryReader>(new DirectoryReader(reactor, std::move(impl)));
}

std::uint32_t DirectoryReader::shard_count() const { return impl_->node.shard_count; }
std::int32_t DirectoryReader::day_offset_seconds() const { return impl_->node.day_offset_seconds; }
const std::vector<DirectoryShard>& DirectoryReader::shards() const { return impl_->facts; }

std::vector<DirectoryStream> DirectoryReader::streams() const {
  std::vector<DirectoryStream> result;
  for (const auto& shard : impl_->shards) {
    const Catalogue& catalogue = shard->tables().streams();
    for (std::uint32_t number = 0; number < catalogue.size(); ++number) {
      if (catalogue.at(number).exists()) result.push_back(describe(*shard, catalogue.at(number)));
    }
  }
  std::sort(result.begin(), result.end(),
            [](const DirectoryStream& a, const DirectoryStream& b) { return a.name < b.name; });
  return result;
}

Result<DirectoryStream> DirectoryReader::find_stream(std::string_view name) const {
  const StreamId id = stream_id_of(name);
  const ShardDirectory& shard = impl_->shard_of(id);
  const std::uint32_t number = shard.tables().streams().find(id);
  if (number == Catalogue::none || !shard.tables().streams().at(number).exists()) return fail(Error::unknown_stream);
  return describe(shard, shard.tables().streams().at(number));
}

Task<Offset> DirectoryReader::first_readable(StreamId stream) {
  auto finding = impl_->shard_of(stream).first_offset(stream);
  co_return co_await finding;
}

Result<std::unique_ptr<Reader>> DirectoryReader::read_stream(StreamId stream, const Seek& from, bool follow) {
  ShardDirectory& shard = impl_->shard_of(stream);
  if (!shard.stream_bounds(stream).known) return fail(Error::unknown_stream);
  if (follow) start_polling();
  ReadRequest request;
  request.stream = stream;
  request.from = from;
  request.follow = follow;
  return std::make_unique<Reader>(shard.view(), request);
}

Result<std::unique_ptr<Reader>> DirectoryReader::read_shard(ShardIndex shard, const Seek& from, bool follow) {
  if (shard.value >= impl_->shards.size()) return fail(Error::invalid_argument);
  if (follow) start_polling();
  ReadRequest request;
  request.from = from;
  request.follow = follow;
  return std::make_unique<Reader>(impl_->shards[shard.value]->view(), request);
}

Task<> DirectoryReader::refresh() {
  auto refreshing = refresh_all(impl_);
  co_return co_await refreshing;
}

// One at a time: the second waits for the first, which is as fresh.
Task<> DirectoryReader::refresh_all(std::shared_ptr<Impl> impl) {
  if (impl->refreshing) {
    while (impl->refreshing) co_await impl->refreshed.wait();
    co_return Result<>{};
  }
  impl->refreshing = true;
  Result<> outcome;
  for (std::size_t i = 0; i < impl->shards.size() && outcome; ++i) {
    auto refreshing = impl->shards[i]->refresh();
    outcome = co_await refreshing;
    impl->facts[i] = impl->shards[i]->facts();
  }
  impl->refreshing = false;
  impl->refreshed.notify();
  co_return outcome;
}

void DirectoryReader::start_polling() {
  if (impl_->polling) return;
  impl_->polling = true;
  reactor_.spawn(poll(reactor_, impl_));
}

// A live server tells nobody: whoever follows looks again and again. A look that fails is repeated by the next.
Task<> DirectoryReader::poll(Reactor& reactor, std::shared_ptr<Impl> impl) {
  while (!impl->stopping) {
    const Nanos again = reactor.now() + poll_every;
    co_await Sleep(reactor, again);
    if (impl->stopping) break;
    auto refreshing = refresh_all(impl);
    auto refreshed = co_await refreshing;
    static_cast<void>(refreshed);
  }
  co_return Result<>{};
}

}  // namespace millrace
