#include "replica/compare.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/hash.hpp"
#include "reactor/file.hpp"
#include "replica/peer.hpp"
#include "storage/aligned_memory.hpp"
#include "storage/group.hpp"
#include "storage/names.hpp"
#include "storage/node_meta_file.hpp"
#include "storage/opening.hpp"
#include "storage/segment_header.hpp"

namespace millrace {

namespace {

constexpr std::size_t read_bytes = 1 * MiB;
/// How often, and how long apart, a difference is looked at again before it is believed.
constexpr int looks_max = 6;
constexpr Nanos look_again_after = 50 * nanos_per_milli;

class Comparison {
 public:
  Comparison(Reactor& reactor, std::string directory, CompareOptions options, CompareVisitor& visitor,
             std::string& complaint)
      : reactor_(reactor),
        directory_(std::move(directory)),
        options_(std::move(options)),
        visitor_(visitor),
        complaint_(complaint),
        memory_(read_bytes + 2 * block_bytes) {}
  Reactor& reactor() { return reactor_; }

  Task<CompareReport> run();

 private:
  struct Segment {
    SegmentKey key{};
    Id128 id{};
    std::uint64_t end = 0;  // what of it is compared
    bool newest = false;
    bool there = false;  // the node has it
  };

  Task<> compare_shard(ShardIndex shard);
  Task<> list_segments();
  Task<> look_at(Segment segment);
  Task<std::uint64_t> walk_groups(std::string path, Segment segment);
  Task<> compare_chain(Segment& segment);
  Task<> compare_segment(const Segment& segment, bool closed_there);
  Task<> compare_pieces(const Segment& segment, wire::RangeGiven given, std::vector<std::uint64_t> sums);
  Task<> look_closer(const Segment& segment, std::uint64_t begin, std::uint64_t end);
  Task<Bytes> read(std::string path, std::uint64_t begin, std::uint64_t end);
  Task<File> open_file(std::string path);
  std::string path_of(SegmentKey key) const { return segment_path(shard_directory_, key); }
  void tell(const Segment& segment, std::uint64_t offset, std::string what);
  Failure complain(Error error, std::string text) {
    complaint_ = std::move(text);
    return fail(error);
  }

  Reactor& reactor_;
  const std::string directory_;
  const CompareOptions options_;
  CompareVisitor& visitor_;
  std::string& complaint_;
  AlignedMemory memory_;
  NodeSlot node_;
  CompareReport report_;
  CompareProgress progress_;

  // Of the shard being compared.
  ShardIndex shard_{};
  std::string shard_directory_;
  std::unique_ptr<Peer> peer_;
  std::vector<Segment> segments_;
  std::string open_path_;
  File file_;          // of open_path_
  bool told_ = false;  // a difference of the segment being compared
};

Task<CompareReport> Comparison::run() {
  auto peeking = peek_node_meta(reactor_, directory_ + "/node.meta", options_.buffered);
  auto node = co_await peeking;
  if (!node)
    co_return complain(node.error(),
                       directory_ + "/node.meta: " +
                           (node.error() == Error::not_found ? "there is none, so this is no data directory of millrace"
                                                             : std::string(error_text(node.error()))));
  node_ = *node;
  report_.shards = node_.shard_count;
  for (std::uint32_t shard = 0; shard < node_.shard_count; ++shard) {
    const ShardIndex index{shard};
    peer_ = std::make_unique<Peer>(reactor_, options_.node);
    auto comparing = compare_shard(index);
    auto compared = co_await comparing;
    auto closing = peer_->close();
    auto closed = co_await closing;
    static_cast<void>(closed);
    if (compared) continue;
    if (complaint_.empty())
      complaint_ = options_.node.host + ":" + std::to_string(options_.node.port) + ": " +
                   (peer_->refusal().empty() ? std::string(error_text(compared.error())) : peer_->refusal());
    co_return fail(compared.error());
  }
  co_return report_;
}

Task<> Comparison::compare_shard(ShardIndex shard) {
  shard_ = shard;
  shard_directory_ = shard_path(directory_, shard);
  auto greeting = peer_->greet(shard, "millrace-verify");
  auto welcome = co_await greeting;
  if (!welcome) co_return fail(welcome.error());
  if (welcome->log_id != node_.log_id || welcome->cluster_id != node_.cluster_id ||
      welcome->shard_count != node_.shard_count)
    co_return complain(Error::foreign, "the server holds another log than " + directory_ +
                                           ": their cluster id, log id or shard count differ");
  auto listing = list_segments();
  auto listed = co_await listing;
  if (!listed) co_return fail(listed.error());
  for (Segment& segment : segments_) {
    auto comparing = compare_chain(segment);
    auto compared = co_await comparing;
    if (!compared) co_return fail(compared.error());
  }
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (!segments_[i].there) continue;
    const bool closed_there = i + 1 < segments_.size() && segments_[i + 1].there;
    auto comparing = compare_segment(segments_[i], closed_there);
    auto compared = co_await comparing;
    if (!compared) co_return fail(compared.error());
  }
  co_return Result<>{};
}

Task<> Comparison::list_segments() {
  segments_.clear();
  auto listing = list_days(reactor_, shard_directory_);
  auto days = co_await listing;
  if (!days) co_return complain(days.error(), shard_directory_ + ": " + std::string(error_text(days.error())));
  for (const Day day : *days) {
    auto listing_day = list_day(reactor_, shard_directory_, day);
    auto files = co_await listing_day;
    if (!files && files.error() == Error::not_found) continue;  // retention took it meanwhile
    if (!files) co_return fail(files.error());
    for (const std::uint32_t number : files->segments) {
      auto looking = look_at(Segment{.key = {day, number}});
      auto looked = co_await looking;
      if (!looked) co_return fail(looked.error());
    }
  }
  if (segments_.empty()) co_return Result<>{};
  Segment& newest = segments_.back();
  newest.newest = true;
  auto walking = walk_groups(path_of(newest.key), newest);
  auto end = co_await walking;
  if (!end) co_return fail(end.error());
  newest.end = *end;
  for (const Segment& segment : segments_) progress_.bytes_total += segment.end;
  co_return Result<>{};
}

/// A file that was begun becomes a segment to compare.
Task<> Comparison::look_at(Segment segment) {
  const std::string path = path_of(segment.key);
  auto opening = open_file(path);
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return Result<>{};
  if (!file) co_return complain(file.error(), path + ": " + std::string(error_text(file.error())));
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  segment.end = status->size;
  auto reading = file->read_exact(0, memory_.bytes().first(block_bytes));
  auto read = co_await reading;
  if (read && all_zero(memory_.bytes().first(block_bytes))) co_return Result<>{};  // named ahead
  const auto header =
      read ? read_segment_header(memory_.bytes().first(block_bytes), OpenFor::reading) : fail(Error::corrupt);
  if (header) segment.id = header->segment_id;
  segments_.push_back(segment);
  co_return Result<>{};
}

/// Where the last whole group ends.
Task<std::uint64_t> Comparison::walk_groups(std::string path, Segment segment) {
  std::uint64_t at = block_bytes;
  while (at + block_bytes <= segment.end) {
    auto reading = read(path, at, at + block_bytes);
    auto block = co_await reading;
    if (!block) break;
    const auto header = read_group_header(*block, at, segment.id);
    if (!header) break;
    at += group_span(*header);
  }
  co_return std::min(at, segment.end);
}

/// One block tells of everything before it: the header holds the chain, and the id of the segment before.
Task<> Comparison::compare_chain(Segment& segment) {
  told_ = false;
  auto asking = peer_->ask_range({.kind = wire::RangeKind::sums,
                                  .day = segment.key.day,
                                  .number = segment.key.number,
                                  .segment_id = segment.id,
                                  .end = block_bytes});
  auto given = co_await asking;
  if (!given) {
    if (given.error() == Error::out_of_range) ++report_.expired;
    else if (given.error() == Error::not_found) ++report_.not_there;
    else if (given.error() == Error::foreign) tell(segment, 0, "the server has another segment at this place");
    else co_return fail(given.error());
    co_return Result<>{};
  }
  segment.there = true;
  ++report_.chains;
  if (given->end != block_bytes) co_return Result<>{};
  const std::uint64_t sum = given->sum(0);
  auto reading = read(path_of(segment.key), 0, block_bytes);
  auto block = co_await reading;
  if (block && hash64(*block) == sum) co_return Result<>{};
  auto looking = look_closer(segment, 0, block_bytes);
  auto looked = co_await looking;
  segment.there = !told_;
  co_return std::move(looked);
}

Task<> Comparison::compare_segment(const Segment& segment, bool closed_there) {
  told_ = false;
  ++report_.segments;
  for (std::uint64_t at = 0; at < segment.end && !told_;) {
    const std::uint64_t end = std::min(segment.end, at + wire::sums_range_max);
    auto asking = peer_->ask_range({.kind = wire::RangeKind::sums,
                                    .day = segment.key.day,
                                    .number = segment.key.number,
                                    .segment_id = segment.id,
                                    .begin = at,
                                    .end = end});
    auto given = co_await asking;
    if (!given && (given.error() == Error::out_of_range || given.error() == Error::not_found)) co_return Result<>{};
    if (!given) co_return fail(given.error());
    std::vector<std::uint64_t> sums(given->sums());
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = given->sum(i);
    auto comparing = compare_pieces(segment, *given, std::move(sums));
    auto compared = co_await comparing;
    if (!compared) co_return fail(compared.error());
    if (given->end < end) {
      if (closed_there && !segment.newest && !told_) tell(segment, given->end, "the server's file ends here");
      break;
    }
    at = end;
  }
  co_return Result<>{};
}

Task<> Comparison::compare_pieces(const Segment& segment, wire::RangeGiven given, std::vector<std::uint64_t> sums) {
  const std::string path = path_of(segment.key);
  progress_.file = path.substr(directory_.size() + 1);
  for (std::uint64_t at = given.begin; at < given.end && !told_;) {
    const std::uint64_t end = std::min(given.end, at + read_bytes);
    auto reading = read(path, at, end);
    auto bytes = co_await reading;
    // What cannot be read in one piece is looked at piece by piece.
    std::vector<std::uint64_t> here;
    for (std::uint64_t piece = at; piece < end; piece += wire::sums_piece_bytes)
      here.push_back(bytes ? hash64(bytes->subspan(piece - at, std::min(wire::sums_piece_bytes, end - piece))) : 0);
    for (std::size_t i = 0; i < here.size() && !told_; ++i) {
      const std::uint64_t begin = at + i * wire::sums_piece_bytes;
      if (bytes && here[i] == sums[(begin - given.begin) / wire::sums_piece_bytes]) continue;
      auto looking = look_closer(segment, begin, std::min(end, begin + wire::sums_piece_bytes));
      auto looked = co_await looking;
      if (!looked) co_return fail(looked.error());
    }
    report_.bytes += end - at;
    progress_.bytes_done += end - at;
    visitor_.progress(progress_);
    at = end;
  }
  co_return Result<>{};
}

/// The byte, and whether it stays: what is being written on either side may differ for a moment.
Task<> Comparison::look_closer(const Segment& segment, std::uint64_t begin, std::uint64_t end) {
  std::string what;
  std::uint64_t offset = begin;
  for (int look = 0; look < looks_max; ++look) {
    if (look > 0) {
      const Nanos again = reactor().now() + look_again_after;
      co_await Sleep(reactor(), again);
    }
    auto asking = peer_->ask_range({.kind = wire::RangeKind::bytes,
                                    .day = segment.key.day,
                                    .number = segment.key.number,
                                    .segment_id = segment.id,
                                    .begin = begin,
                                    .end = end});
    auto given = co_await asking;
    if (!given && given.error() == Error::out_of_range) co_return Result<>{};  // expired meanwhile
    if (!given && given.error() != Error::io_failed) co_return fail(given.error());
    file_ = File();  // another may have its name by now
    auto reading = read(path_of(segment.key), begin, end);
    auto bytes = co_await reading;
    offset = begin;
    if (!given) what = "the server cannot read this";
    else if (!bytes) what = "this cannot be read here: " + std::string(error_text(bytes.error()));
    else {
      const std::size_t both = std::min(given->body.size(), bytes->size());
      const auto [here, there] = std::mismatch(bytes->begin(), bytes->begin() + both, given->body.begin());
      if (here == bytes->begin() + both) co_return Result<>{};
      offset = begin + static_cast<std::uint64_t>(here - bytes->begin());
      std::array<char, 64> text{};
      std::snprintf(text.data(), text.size(), "0x%02x here, 0x%02x at the server", static_cast<unsigned>(*here),
                    static_cast<unsigned>(*there));
      what = text.data();
    }
  }
  tell(segment, offset, what);
  co_return Result<>{};
}

void Comparison::tell(const Segment& segment, std::uint64_t offset, std::string what) {
  told_ = true;
  ++report_.differences;
  visitor_.difference({shard_, path_of(segment.key).substr(directory_.size() + 1), offset, std::move(what)});
}

Task<File> Comparison::open_file(std::string path) {
  auto opening = File::open(reactor_, std::move(path), open_read | direct_flag(options_.buffered));
  auto file = co_await opening;
  co_return std::move(file);
}

/// [begin, end) of the file, at most read_bytes; valid until the next read.
Task<Bytes> Comparison::read(std::string path, std::uint64_t begin, std::uint64_t end) {
  if (!file_.is_open() || open_path_ != path) {
    auto opening = open_file(path);
    auto file = co_await opening;
    if (!file) co_return fail(file.error());
    file_ = std::move(*file);
    open_path_ = std::move(path);
  }
  const std::uint64_t from = align_down(begin, block_bytes);
  auto reading = file_.read_exact(from, memory_.bytes().first(align_up(end, block_bytes) - from));
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  co_return Bytes(memory_.bytes().subspan(begin - from, end - begin));
}

}  // namespace

Task<CompareReport> compare_directory(Reactor& reactor, std::string directory, CompareOptions options,
                                      CompareVisitor& visitor, std::string& complaint) {
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  Comparison comparison(reactor, std::move(directory), std::move(options), visitor, complaint);
  auto running = comparison.run();
  auto report = co_await running;
  co_return std::move(report);
}

}  // namespace millrace
