#include "storage/verify.hpp"
#include "storage/names.hpp"

#include <algorithm>
#include <array>

#include "base/time.hpp"
#include "storage/tail_slot.hpp"
#include "storage/verify_walk.hpp"

namespace millrace {

namespace {

constexpr std::size_t feed_bytes = 1 * MiB;
constexpr int live_attempts_max =
    4;  // how often a segment that is written to is read again before its damage is believed

}  // namespace

std::string_view damage_name(DamageKind kind) {
  static constexpr std::array<std::string_view, 14> names{
      "node_meta",   "missing", "unreadable", "segment_header", "link",        "lost_batches", "lost_records",
      "stray_bytes", "body",    "order",      "index_unit",     "index_entry", "finish",       "seal"};
  return names[static_cast<std::size_t>(kind)];
}

Task<VerifyReport> verify_directory(Reactor& reactor, std::string directory, VerifyOptions options,
                                    VerifyVisitor& visitor) {
  VerifyWalk walk(reactor, std::move(directory), options, visitor);
  auto walking = walk.run();
  auto report = co_await walking;
  co_return std::move(report);
}

VerifyWalk::VerifyWalk(Reactor& reactor, std::string directory, VerifyOptions options, VerifyVisitor& visitor)
    : reactor_(reactor), directory_(std::move(directory)), options_(options), visitor_(visitor), buffer_(feed_bytes) {}

std::string VerifyWalk::relative(const std::string& path) const {
  return path.starts_with(directory_ + "/") ? path.substr(directory_.size() + 1) : path;
}

void VerifyWalk::tell(Damage damage) {
  ++report_.damages;
  damage.shard = shard_;
  visitor_.damage(damage);
}

void VerifyWalk::note_read(const std::string& path, std::uint64_t bytes) {
  report_.bytes += bytes;
  progress_.bytes_done += bytes;
  progress_.bytes_total = std::max(progress_.bytes_total, progress_.bytes_done);
  progress_.file = relative(path);
  visitor_.progress(progress_);
}

Task<File> VerifyWalk::open_file(std::string path) {
  unsigned flags = open_read;
  if (!options_.buffered) flags |= open_direct;
  auto opening = File::open(reactor_, std::move(path), flags);
  auto file = co_await opening;
  co_return std::move(file);
}

Task<std::optional<std::vector<std::byte>>> VerifyWalk::read_front(std::string path, std::uint64_t bytes) {
  auto opening = open_file(path);
  auto file = co_await opening;
  if (!file && file.error() == Error::not_found) co_return std::optional<std::vector<std::byte>>{};
  if (!file) co_return fail(file.error());
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  bytes = std::min(bytes, status->size);
  AlignedMemory memory(align_up(bytes, block_bytes));
  auto reading = file->read(0, memory.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  note_read(path, *read);
  MutableBytes got = memory.bytes().first(std::min<std::uint64_t>(*read, bytes));
  co_return std::optional(std::vector<std::byte>(got.begin(), got.end()));
}

/// One of two slots is enough, and a crash may tear the one that is being written; whoever looks should know that one is left.
template <class Slot>
void VerifyWalk::note_half_lost(std::uint64_t at, const Result<Slot>& first, const Result<Slot>& second) {
  if (first.has_value() == second.has_value()) return;
  const std::uint64_t bad = first ? at + block_bytes : at;
  if (all_zero(Bytes(meta_bytes_).subspan(bad, block_bytes))) return;  // never written
  visitor_.note("node.meta: bytes " + std::to_string(bad) + " to " + std::to_string(bad + block_bytes) +
                ": one of two slots does not verify; the other one counts, and the next write goes here. A crash in a "
                "write leaves this too");
}

Task<> VerifyWalk::read_node_meta() {
  auto reading = read_front(directory_ + "/node.meta", node_meta_bytes(shard_count_max));
  auto bytes = co_await reading;
  if (!bytes) co_return fail(bytes.error());
  if (!*bytes) co_return fail(Error::not_found);
  meta_bytes_ = std::move(**bytes);
  meta_bytes_.resize(std::max<std::size_t>(align_up(meta_bytes_.size(), block_bytes), node_meta_bytes(1)));
  Bytes meta(meta_bytes_);
  Result<ChosenSlot<NodeSlot>> node = choose_node_slot(
      meta.subspan(node_slot_offset(0), block_bytes), meta.subspan(node_slot_offset(1), block_bytes), OpenFor::reading);
  if (!node && node.error() == Error::unsupported_version) co_return fail(node.error());
  if (!node) {
    tell({.kind = DamageKind::node_meta,
          .file = "node.meta",
          .end = 2 * block_bytes,
          .what = "neither of its two slots verifies"});
    co_return fail(Error::corrupt);
  }
  note_half_lost(node_slot_offset(0), read_node_slot(meta.subspan(node_slot_offset(0), block_bytes), OpenFor::reading),
                 read_node_slot(meta.subspan(node_slot_offset(1), block_bytes), OpenFor::reading));
  node_ = node->value;
  meta_bytes_.resize(std::max<std::size_t>(meta_bytes_.size(), node_meta_bytes(node_.shard_count)));
  co_return {};
}

Task<VerifyReport> VerifyWalk::run() {
  auto reading = read_node_meta();
  auto read = co_await reading;
  if (!read && read.error() == Error::corrupt && report_.damages > 0) co_return report_;
  if (!read) co_return fail(read.error());
  report_.shards = node_.shard_count;
  for (std::uint32_t shard = 0; shard < node_.shard_count; ++shard) {
    auto walking = walk_shard(ShardIndex{shard});
    auto walked = co_await walking;
    if (!walked) co_return fail(walked.error());
  }
  co_return report_;
}

Task<> VerifyWalk::walk_shard(ShardIndex shard) {
  shard_ = shard;
  shard_directory_ = shard_path(directory_, shard);
  Bytes meta(meta_bytes_);
  Result<ChosenSlot<ShardSlot>> slot =
      choose_shard_slot(meta.subspan(shard_slot_offset(shard, 0), block_bytes),
                        meta.subspan(shard_slot_offset(shard, 1), block_bytes), shard, OpenFor::reading);
  if (slot) {
    meta_ = slot->value;
    const std::uint64_t first = shard_slot_offset(shard, 0);
    note_half_lost(first, read_shard_slot(meta.subspan(first, block_bytes), OpenFor::reading),
                   read_shard_slot(meta.subspan(first + block_bytes, block_bytes), OpenFor::reading));
  } else {
    meta_ = {};
    tell({.kind = DamageKind::node_meta,
          .file = "node.meta",
          .begin = shard_slot_offset(shard, 0),
          .end = shard_slot_offset(shard, 2),
          .what = "neither of the shard's two slots verifies"});
  }
  auto listing = list_segments();
  auto listed = co_await listing;
  if (!listed) co_return fail(listed.error());
  report_.days += days_.size();
  for (const Segment& segment : segments_) progress_.bytes_total += segment.file_bytes;

  LogCheck log(shard);
  std::optional<Day> day;
  for (std::size_t number = 0; number < segments_.size(); ++number) {
    const SegmentKey key = segments_[number].key;
    if (!day || *day != key.day) {
      log.begin_day(key.day, key.number == 0);
      auto beginning = begin_index(key.day);
      auto begun = co_await beginning;
      if (!begun) co_return fail(begun.error());
      day = key.day;
    }
    check_gap(number);
    auto walking = walk_segment(number, log);
    auto walked = co_await walking;
    if (!walked) co_return fail(walked.error());
    bool last_of_day = number + 1 == segments_.size() || segments_[number + 1].key.day != key.day;
    if (!last_of_day) continue;
    auto finishing = check_finish(key.day, log, last_verdict_, key.number);
    auto finished = co_await finishing;
    if (!finished) co_return fail(finished.error());
  }
  report_.tail_batches += log.tail_batches();
  auto looking = look_aside();
  co_return co_await looking;
}

Task<> VerifyWalk::list_segments() {
  segments_.clear();
  days_.clear();
  auto listing = Directory::list(reactor_, shard_directory_);
  auto entries = co_await listing;
  if (!entries && entries.error() == Error::not_found) {
    tell({.kind = DamageKind::missing,
          .file = relative(shard_directory_),
          .what = "the shard's directory is not there"});
    co_return {};
  }
  if (!entries) co_return fail(entries.error());
  for (const DirectoryEntry& entry : *entries) {
    std::optional<Day> day = parse_day(entry.name);
    if (entry.is_directory && day) days_.push_back(*day);
  }
  std::ranges::sort(days_);
  std::vector<SegmentKey> keys;
  for (Day day : days_) {
    auto listing_day = Directory::list(reactor_, day_path(shard_directory_, day));
    auto files = co_await listing_day;
    if (!files && files.error() == Error::not_found) continue;  // dropped meanwhile
    if (!files) co_return fail(files.error());
    for (const DirectoryEntry& entry : *files)
      if (std::optional<SegmentKey> key = parse_segment_name(day, entry.name)) keys.push_back(*key);
  }
  std::ranges::sort(keys);
  for (SegmentKey key : keys) {
    auto looking = look_at(key);
    auto segment = co_await looking;
    if (!segment && segment.error() == Error::not_found) continue;
    if (!segment) {
      std::string file = relative(segment_path(shard_directory_, key));
      tell({.kind = DamageKind::unreadable, .file = file, .what = std::string(error_text(segment.error()))});
      continue;
    }
    if (segment->begun) segments_.push_back(std::move(*segment));
  }
  co_return {};
}

Task<VerifyWalk::Segment> VerifyWalk::look_at(SegmentKey key) {
  Segment segment{.key = key, .header = {}};
  const std::string path = segment_path(shard_directory_, key);
  auto opening = open_file(path);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  auto asking = file->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  segment.file_bytes = status->size;
  // The first group's first block too: a segment whose header block is zeros may be torn, or damaged.
  MutableBytes front = buffer_.bytes().first(2 * block_bytes);
  std::ranges::fill(front, std::byte{0});
  auto reading = file->read(0, front);
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  segment.begun = !all_zero(front);
  Result<SegmentHeader> header = read_segment_header(front, OpenFor::reading);
  if (!header && header.error() == Error::unsupported_version) co_return fail(header.error());
  if (header) segment.header = *header;
  co_return std::move(segment);
}

/// Segments stand one behind the other: only the front of the log may be gone.
void VerifyWalk::check_gap(std::size_t number) {
  if (number == 0) return;
  const Segment& before = segments_[number - 1];
  const Segment& here = segments_[number];
  std::string file = relative(segment_path(shard_directory_, here.key));
  bool follows = here.key.day == before.key.day ? here.key.number == before.key.number + 1 : here.key.number == 0;
  if (!follows)
    tell({.kind = DamageKind::missing,
          .file = file,
          .what = "segments between this one and the one before are missing"});
  else if (here.header && before.header && here.header->previous_segment_id != before.header->segment_id)
    tell({.kind = DamageKind::link,
          .file = file,
          .end = block_bytes,
          .what = "it does not follow the segment before it"});
}

Task<> VerifyWalk::read_tail() {
  auto reading = read_front(shard_directory_ + "/tail", block_bytes + tail_ring_bytes_max);
  auto bytes = co_await reading;
  if (!bytes) co_return fail(bytes.error());
  tail_ = *bytes ? std::move(**bytes) : std::vector<std::byte>{};
  co_return {};
}

/// The log goes on while it is read: segments behind this one may have been begun.
Task<> VerifyWalk::list_newer(std::size_t number) {
  std::vector<Segment> known(segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(number) + 1);
  const SegmentKey key = known.back().key;
  auto listing = list_segments();
  auto listed = co_await listing;
  if (!listed) co_return fail(listed.error());
  std::erase_if(segments_, [key](const Segment& segment) { return segment.key <= key; });
  segments_.insert(segments_.begin(), known.begin(), known.end());
  co_return {};
}

Task<RecoveryInput> VerifyWalk::input_of(std::size_t number) {
  const Segment& segment = segments_[number];
  RecoveryInput input;
  if (!segment.header && number > 0)
    input.previous =
        SegmentEnd{last_verdict_.segment_id, last_verdict_.content_end, last_verdict_.chain, last_verdict_.next_lsn};
  if (number + 1 < segments_.size()) {
    const std::optional<SegmentHeader>& next = segments_[number + 1].header;
    if (next)
      input.expected_end =
          SegmentEnd{next->previous_segment_id, next->previous_length, next->previous_chain, next->first_lsn};
    co_return input;
  }
  auto reading = read_tail();
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  input.tail = tail_;
  co_return input;
}

Task<> VerifyWalk::walk_segment(std::size_t number, LogCheck& log) {
  const std::string path = segment_path(shard_directory_, segments_[number].key);
  std::optional<LogCheck> before;
  if (number + 1 == segments_.size()) before = log;
  for (int attempt = 1;; ++attempt) {
    const Segment segment = segments_[number];
    bool open = number + 1 == segments_.size();
    auto asking = input_of(number);
    auto input = co_await asking;
    if (!input) co_return fail(input.error());
    std::vector<Damage> found;
    LogCheck::Report keep = [&found](Damage damage) { found.push_back(std::move(damage)); };
    log.begin_segment(segment.key, relative(path), std::move(keep));
    auto scanning = scan(segment, *input, log);
    auto verdict = co_await scanning;
    if (!verdict && verdict.error() == Error::not_found) co_return {};  // retention was faster
    if (!verdict) {
      tell({.kind = DamageKind::unreadable, .file = relative(path), .what = std::string(error_text(verdict.error()))});
      co_return {};
    }
    CheckedRun run = log.end_segment(*verdict);
    bool bad = verdict->damaged || verdict->refused || !found.empty();
    if (bad && before && attempt < live_attempts_max) {
      // Perhaps it was written to, or closed, while it was read.
      log = *before;
      auto listing = list_newer(number);
      auto listed = co_await listing;
      if (!listed) co_return fail(listed.error());
      continue;
    }
    std::uint64_t told = report_.damages;
    judge(segment, *verdict, open);
    if (verdict->damaged && found.empty() && report_.damages == told)
      found.push_back({.kind = DamageKind::stray_bytes,
                       .file = relative(path),
                       .begin = verdict->prefix_end,
                       .end = verdict->content_end,
                       .what = "the group that begins here does not verify, though each of its batches does"});
    for (Damage& damage : found) tell(std::move(damage));
    last_verdict_ = *verdict;
    if (open && !day_finished_) co_return {};
    auto checking = check_run(run, !verdict->damaged);
    auto checked = co_await checking;
    co_return std::move(checked);
  }
}

Task<Verdict> VerifyWalk::scan(const Segment& segment, RecoveryInput input, LogCheck& log) {
  const std::string path = segment_path(shard_directory_, segment.key);
  auto opening = open_file(path);
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  input.log_id = node_.log_id;
  input.shard = shard_;
  input.file_bytes = segment.file_bytes;
  input.in_flight_bytes_max = segment_bytes_max;  // without a header W is unknown: far is then no evidence
  input.epochs_led = epochs_led(meta_);
  input.first_lsn = Lsn{0};
  input.purpose = OpenFor::reading;
  SegmentRecovery recovery(input, log);
  while (!recovery.done()) {
    const std::uint64_t at = recovery.wanted();
    const std::uint64_t left = std::min<std::uint64_t>(feed_bytes, segment.file_bytes - at);
    MutableBytes target = buffer_.bytes().first(align_up(left, block_bytes));
    auto reading = file->read(at, target);
    auto read = co_await reading;
    if (!read) co_return fail(read.error());
    if (*read < left) co_return fail(Error::io_failed);
    recovery.feed(at, target.first(left));
    note_read(path, left);
  }
  co_return recovery.verdict();
}

void VerifyWalk::judge(const Segment& segment, const Verdict& verdict, bool open) {
  ++report_.segments;
  report_.groups += verdict.groups;
  report_.batches += verdict.batches;
  report_.records += verdict.records;
  std::string file = relative(segment_path(shard_directory_, segment.key));
  if (verdict.refused || (verdict.damaged && !verdict.header_readable && verdict.begun) ||
      verdict.row == RecoveryRow::closed_mismatch) {
    DamageKind kind = verdict.row == RecoveryRow::closed_mismatch ? DamageKind::link : DamageKind::segment_header;
    tell({.kind = kind, .file = file, .end = block_bytes, .what = std::string(recovery_row_text(verdict.row).reason)});
  } else if (segment.header &&
             (segment.header->day != segment.key.day || segment.header->number != segment.key.number)) {
    tell({.kind = DamageKind::segment_header,
          .file = file,
          .end = block_bytes,
          .what = "it belongs to another place in the log"});
  }
  if (open && verdict.cut_begin < verdict.cut_end && !verdict.damaged)
    visitor_.note(file + ": bytes " + std::to_string(verdict.cut_begin) + " to " + std::to_string(verdict.cut_end) +
                  " were in flight when it stopped; the next start takes them to quarantine");
}

}  // namespace millrace
