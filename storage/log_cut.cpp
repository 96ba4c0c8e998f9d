// A copy gives back what its leader does not have. What readers were shown is never among it: the leader had that durably.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "storage/log_core.hpp"
#include "storage/names.hpp"
#include "storage/quarantine.hpp"
#include "storage/tail_scan.hpp"

namespace millrace {

namespace {

constexpr std::uint64_t zero_step = 1 * MiB;

}  // namespace

/// Batches of groups()[group], read back, or of the open group; from memory that stays until the next turn.
Task<Bytes> LogCore::group_batches(std::size_t group, AlignedMemory& memory) {
  if (group >= groups_.size()) co_return writer_->open_batches();
  const GroupMark mark = groups_[group];
  auto opening =
      File::open(reactor_, segment_path(options_.directory, *last_key_), open_read | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(file.error());
  memory = AlignedMemory(mark.end - mark.offset);
  auto reading = file->read_exact(mark.offset, memory.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  auto header = read_group_header(memory.bytes(), mark.offset);
  if (!header || header->checksum != mark.checksum) co_return fail(Error::corrupt);
  auto checked = check_group(*header, memory.bytes());
  if (!checked) co_return fail(checked.error());
  co_return Bytes(memory.bytes()).subspan(group_header_bytes, header->length - group_header_bytes);
}

Task<std::vector<BatchEnd>> LogCore::batch_ends(std::size_t group) {
  std::vector<BatchEnd> ends;
  // What was closed may still be on its way to the file.
  while (state_ == State::serving && group < groups_.size() && writer_->marks().durable < groups_[group].end_lsn)
    co_await progress_.wait();
  if (state_ != State::serving) co_return fail(Error::not_ready);
  AlignedMemory memory;
  auto reading = group_batches(group, memory);
  auto batches = co_await reading;
  if (!batches) co_return fail(batches.error());
  Lsn lsn = group > 0 ? groups_[group - 1].end_lsn : last_header_.first_lsn;
  for (std::size_t at = 0; at < batches->size();) {
    const auto header = load<BatchHeader>(*batches, at);
    lsn = lsn.next();
    ends.push_back({lsn, Chain{header.chain}});
    at += batch_span(header.body_bytes);
  }
  co_return std::move(ends);
}

Task<> LogCore::cut(CopyPlace place) {
  MR_ASSERT(options_.follow && place.groups <= groups_.size());
  if (state_ != State::serving) co_return fail(state_ == State::closed ? Error::closed : Error::not_ready);
  if (!last_key_) co_return fail(Error::diverged);
  CopyCut wanted;
  wanted.key = *last_key_;
  const bool none = place.whole || place.groups == 0;
  wanted.from = place.whole ? 0 : none ? block_bytes : groups_[place.groups - 1].end;
  wanted.first = none ? last_header_.first_lsn : groups_[place.groups - 1].end_lsn;
  wanted.end = std::max<std::uint64_t>(block_bytes, groups_.empty() ? 0 : groups_.back().end);
  if (!place.whole && place.pending > wanted.first) {
    auto keeping = keep_pending(wanted, place);
    auto kept = co_await keeping;
    if (!kept) co_return fail(kept.error());
  }
  // Readers have seen what the leader had durably: a leader that lacks it is not the one it was.
  if (state_ != State::serving || wanted.first < view_->durable()) co_return fail(Error::diverged);
  cut_ = std::move(wanted);
  auto opening = open_anew();
  co_return co_await opening;
}

/// What stays of the group there, as one slot; `first` moves behind it, as far as a slot reaches.
Task<> LogCore::keep_pending(CopyCut& wanted, CopyPlace place) {
  const std::size_t group = place.groups;
  AlignedMemory memory;
  auto reading = group_batches(group, memory);
  auto batches = co_await reading;
  if (!batches) co_return fail(batches.error());
  wanted.kept_slot = AlignedMemory(tail_slot_header_bytes + tail_flush_bytes_max);
  TailSlot& slot = wanted.kept;
  slot.segment_id = last_header_.segment_id;
  slot.group = wanted.from;
  slot.start = wanted.from + group_header_bytes;
  slot.first_lsn = slot.durable_end = wanted.first;
  slot.chain_before = group > 0 ? groups_[group - 1].end_chain : first_chain(last_header_);
  slot.epoch = meta_->slot().epoch;
  for (std::size_t at = 0; at < batches->size() && wanted.first < place.pending;) {
    const std::size_t span = batch_span(load<BatchHeader>(*batches, at).body_bytes);
    if (at + span > tail_flush_bytes_max) break;
    at += span;
    slot.length = static_cast<std::uint32_t>(at);
    wanted.first = wanted.first.next();
  }
  std::memcpy(wanted.kept_slot.bytes().data() + tail_slot_header_bytes, batches->data(), slot.length);
  co_return Result<>{};
}

/// No slot may go on claiming what is given back; what stays gets a slot of its own, durable before anything else goes.
Task<> LogCore::cut_tail(CopyCut& wanted) {
  auto opening =
      File::open(reactor_, tail_path(options_.directory), open_read | open_write | direct_flag(options_.buffered));
  auto tail = co_await opening;
  if (!tail) co_return fail(tail.error());
  auto asking = tail->status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  const AlignedMemory image(align_down(status->size, block_bytes));
  auto reading = tail->read_exact(0, image.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  auto keeping =
      quarantine_range(*tail, options_.directory, "pending", wanted.first, 0, image.size(), options_.buffered);
  auto kept = co_await keeping;
  if (!kept) co_return fail(kept.error());
  auto scanned = TailScan::read(image.bytes(), meta_->node().log_id, options_.shard, OpenFor::writing);
  if (!scanned) co_return fail(scanned.error());
  // Where nothing that stays stands: behind the newest slot, or at the ring's front.
  std::uint64_t place = block_bytes;
  for (const FoundSlot& slot : scanned->slots()) {
    const auto at = static_cast<std::uint64_t>(slot.held.data() - image.bytes().data()) - tail_slot_header_bytes;
    const std::uint64_t span = tail_slot_span(slot.header.length);
    place = at + span;
    if (slot.header.first_lsn < wanted.first && slot.header.durable_end <= wanted.first) continue;
    auto zeroing = zero_range(*tail, at, at + span);
    auto zeroed = co_await zeroing;
    if (!zeroed) co_return fail(zeroed.error());
  }
  TailSlot& slot = wanted.kept;
  if (slot.length == 0) co_return Result<>{};
  const std::uint64_t span = tail_slot_span(slot.length);
  if (place + span > image.size()) place = block_bytes;
  slot.number = scanned->highest_number() + 1;
  write_tail_slot(slot, wanted.kept_slot.bytes());
  auto writing = tail->write_exact(place, wanted.kept_slot.bytes().first(span), true);
  auto written = co_await writing;
  co_return std::move(written);
}

// From the end towards the front, so that whatever a crash leaves is a copy that ends somewhere.
Task<> LogCore::cut_files(CopyCut wanted) {
  auto opening = File::open(reactor_, segment_path(options_.directory, wanted.key),
                            open_read | open_write | direct_flag(options_.buffered));
  auto file = co_await opening;
  const bool named = file || file.error() != Error::not_found;  // else nothing of it was ever written
  if (!file && named) co_return fail(file.error());
  if (!named) wanted.end = wanted.from;
  if (wanted.from < wanted.end) {
    auto keeping = quarantine_range(*file, options_.directory, "diverged", wanted.first, wanted.from, wanted.end,
                                    options_.buffered);
    auto kept = co_await keeping;
    if (!kept) co_return fail(kept.error());
  }
  auto cutting = cut_tail(wanted);
  auto was_cut = co_await cutting;
  if (!was_cut) co_return fail(was_cut.error());
  for (std::uint64_t end = wanted.end; end > wanted.from;) {
    const std::uint64_t begin = std::max(wanted.from, end - std::min(end, zero_step));
    auto zeroing = zero_range(*file, begin, end);
    auto zeroed = co_await zeroing;
    if (!zeroed) co_return fail(zeroed.error());
    end = begin;
  }
  co_return Result<>{};
}

/// The state first: without the index's run of a segment nobody asks what a state says of it.
Task<> LogCore::forget_derived(Day day) {
  while (view_->writing()) co_await view_->run_written().wait();
  view_->forget_derived(day);
  for (const std::string& path : {state_path(options_.directory), index_path(options_.directory, day)}) {
    auto removing = Directory::remove_file(reactor_, path);
    auto removed = co_await removing;
    if (!removed && removed.error() != Error::not_found) co_return fail(removed.error());
    const std::string folder = path.substr(0, path.rfind('/'));
    auto syncing = Directory::sync(reactor_, folder);
    auto synced = co_await syncing;
    if (!synced) co_return fail(synced.error());
  }
  co_return Result<>{};
}

}  // namespace millrace
