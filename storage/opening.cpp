#include "storage/opening.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "storage/finish.hpp"
#include "storage/names.hpp"
#include "storage/quarantine.hpp"
#include "storage/read_around.hpp"
#include "storage/tail_slot.hpp"

namespace millrace {

namespace {

Task<> make_directory_if_missing(Reactor& reactor, std::string path) {
  auto making = Directory::make(reactor, path);
  auto made = co_await making;
  if (!made && made.error() != Error::already_exists) co_return fail(made.error());
  auto naming = make_name_durable(reactor, parent_path(path));
  auto named = co_await naming;
  co_return std::move(named);
}

// What a crash left in the system's memory may still be lost; it must not be decided upon before it is on the device.
Task<> make_durable(File& file) {
  if (mutant("no_fsync_on_open")) co_return Result<>{};
  auto syncing = file.sync(false);
  auto synced = co_await syncing;
  co_return std::move(synced);
}

}  // namespace

Task<std::vector<Day>> list_days(Reactor& reactor, std::string shard_directory) {
  auto listing = Directory::list(reactor, shard_directory);
  auto entries = co_await listing;
  if (!entries) co_return fail(entries.error());
  std::vector<Day> days;
  for (const DirectoryEntry& entry : *entries)
    if (entry.is_directory)
      if (std::optional<Day> day = parse_day(entry.name)) days.push_back(*day);
  std::sort(days.begin(), days.end());
  co_return std::move(days);
}

Task<DayFiles> list_day(Reactor& reactor, std::string shard_directory, Day day) {
  auto listing = Directory::list(reactor, day_path(shard_directory, day));
  auto entries = co_await listing;
  if (!entries) co_return fail(entries.error());
  DayFiles files;
  for (const DirectoryEntry& entry : *entries) {
    if (entry.is_directory) continue;
    if (std::optional<std::uint32_t> number = segment_number(entry.name)) files.segments.push_back(*number);
    if (entry.name == "finish") files.has_finish = true;
  }
  std::sort(files.segments.begin(), files.segments.end());
  co_return std::move(files);
}

Opening::Opening(Reactor& reactor, const LogOptions& options, ShardMeta& meta, Tables& tables, ReadView& view,
                 OpeningReport& report)
    : reactor_(reactor),
      options_(options),
      meta_(meta),
      tables_(tables),
      view_(view),
      report_(report),
      buffer_(feed_bytes) {}

Error Opening::refuse(Error error, std::string diagnosis) {
  if (report_.diagnosis.empty()) {
    report_.diagnosis = std::move(diagnosis);
    // What cannot be read or written says why; what was judged says it itself.
    if (report_.diagnosis.ends_with(" cannot be read") || report_.diagnosis.find(": cannot be ") != std::string::npos)
      report_.diagnosis += " (" + std::string(error_name(error)) + "): " +
                           (error == Error::no_space ? "the disk is full; free some space and start again"
                                                     : std::string(error_text(error)));
  }
  return error;
}

void Opening::note_unreadable(const std::string& path, std::uint32_t blocks) {
  if (blocks > 0)
    report_.notes.push_back(path + ": the device cannot read " + std::to_string(blocks) +
                            " blocks of it; they count as damaged");
}

Task<OpenedLog> Opening::run() {
  report_.step = "looking at the directory";
  for (std::string path : {options_.directory, pool_path(options_.directory), quarantine_path(options_.directory)}) {
    auto making = make_directory_if_missing(reactor_, path);
    auto made = co_await making;
    if (!made) co_return fail(refuse(made.error(), path + ": " + std::string(error_text(made.error()))));
  }
  auto opening_tail = open_tail();
  auto tail = co_await opening_tail;
  if (!tail)
    co_return fail(refuse(
        tail.error(),
        tail_path(options_.directory) + (tail.error() == Error::no_space ? ": cannot be made" : ": cannot be read")));
  auto finding = find_candidates();
  auto found = co_await finding;
  if (!found) co_return fail(refuse(found.error(), options_.directory + ": its segments cannot be listed"));
  auto loading = load_tables();
  auto loaded = co_await loading;
  if (!loaded) co_return fail(refuse(loaded.error(), options_.directory + ": its closed segments cannot be read"));
  auto scanning = scan_newest();
  auto scanned = co_await scanning;
  if (!scanned) co_return fail(refuse(scanned.error(), options_.directory + ": its newest segment cannot be read"));
  if (options_.follow) opened_.epoch = meta_.slot().epoch;
  if (opened_.epoch == Epoch{} && !options_.follow) {
    auto taking = meta_.take_epoch(tables_.log().epoch, tables_.log().day);
    auto epoch = co_await taking;
    if (!epoch) co_return fail(refuse(epoch.error(), options_.node_meta_path + ": the new epoch cannot be written"));
    opened_.epoch = *epoch;
  }
  auto checking = check_finish();
  auto checked = co_await checking;
  if (!checked) co_return fail(refuse(checked.error(), options_.directory + ": a finish file cannot be read"));
  report_.epoch = opened_.epoch;
  report_.next_lsn = opened_.next_lsn;
  report_.day = tables_.log().day;
  report_.days = opened_.days;
  report_.step = "open";
  co_return std::move(opened_);
}

Task<> Opening::open_tail() {
  const std::string path = tail_path(options_.directory);
  for (bool created = false;; created = true) {
    auto opening = File::open(reactor_, path, open_read | open_write | direct_flag(options_.buffered));
    auto file = co_await opening;
    if (file) {
      opened_.tail = std::move(*file);
      break;
    }
    if (file.error() != Error::not_found || created) {
      if (file.error() == Error::unsupported || file.error() == Error::invalid_argument)
        refuse(Error::unsupported, path + ": this filesystem has no direct I/O. Use another one, or --buffered.");
      co_return fail(file.error());
    }
    report_.created = true;
    auto creating = create_tail();
    auto made = co_await creating;
    if (!made) co_return fail(made.error());
  }
  auto syncing = make_durable(opened_.tail);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto reading = read_tail();
  auto read = co_await reading;
  co_return std::move(read);
}

Task<> Opening::create_tail() {
  TailHeader header;
  header.log_id = meta_.node().log_id;
  header.shard = options_.shard;
  header.ring_bytes = options_.tail_bytes;
  AlignedMemory image(block_bytes + options_.tail_bytes);
  write_tail_header(header, image.bytes());
  const std::string path = tail_path(options_.directory);
  const std::string temporary = path + ".tmp";
  auto opening =
      File::open(reactor_, temporary, open_write | open_create | open_truncate | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) {
    if (file.error() == Error::unsupported || file.error() == Error::invalid_argument)
      refuse(Error::unsupported, path + ": this filesystem has no direct I/O. Use another one, or --buffered.");
    co_return fail(file.error());
  }
  auto writing = file->write_exact(0, image.bytes(), false);
  auto written = co_await writing;
  if (!written) co_return fail(written.error());
  auto syncing = file->sync(false);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto renaming = Directory::rename_file(reactor_, temporary, path);
  auto renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error());
  auto naming = make_name_durable(reactor_, options_.directory);
  auto named = co_await naming;
  co_return std::move(named);
}

Task<> Opening::read_tail() {
  auto asking = opened_.tail.status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  const std::uint64_t bytes = align_down(status->size, block_bytes);
  if (bytes < 2 * block_bytes || bytes > block_bytes + tail_ring_bytes_max) co_return fail(Error::corrupt);
  tail_bytes_ = AlignedMemory(bytes);
  auto reading = read_around(opened_.tail, 0, tail_bytes_.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (read->bytes < bytes) co_return fail(Error::io_failed);
  note_unreadable(tail_path(options_.directory), read->unreadable);
  ++report_.reads;
  report_.bytes_read += bytes;
  opened_.ring_bytes = bytes - block_bytes;
  // A header block that does not verify is written anew: the slots behind it speak for themselves.
  if (!all_zero(tail_bytes_.bytes().first(block_bytes))) {
    auto header = read_tail_header(tail_bytes_.bytes(), OpenFor::writing);
    if (header || header.error() != Error::corrupt) co_return Result<>{};
  }
  report_.notes.push_back("the tail's header block was damaged and has been written anew");
  TailHeader header;
  header.log_id = meta_.node().log_id;
  header.shard = options_.shard;
  header.ring_bytes = opened_.ring_bytes;
  AlignedMemory block(block_bytes);
  write_tail_header(header, block.bytes());
  auto writing = opened_.tail.write_exact(0, block.bytes(), true);
  auto written = co_await writing;
  co_return std::move(written);
}

Task<> Opening::find_candidates() {
  auto naming = make_name_durable(reactor_, options_.directory);
  auto named = co_await naming;
  if (!named) co_return fail(named.error());
  auto listing = list_days(reactor_, options_.directory);
  auto days = co_await listing;
  if (!days) co_return fail(days.error());
  days_ = std::move(*days);
  opened_.days = days_.size();
  for (std::size_t at = days_.size(); at > 0; --at) {
    const Day day = days_[at - 1];
    auto day_naming = make_name_durable(reactor_, day_path(options_.directory, day));
    auto day_named = co_await day_naming;
    if (!day_named) co_return fail(day_named.error());
    auto listing_day = list_day(reactor_, options_.directory, day);
    auto files = co_await listing_day;
    if (!files) co_return fail(files.error());
    std::vector<std::uint32_t> numbers = std::move(files->segments);
    std::erase_if(numbers, [&](std::uint32_t number) { return SegmentKey{day, number} < dropped_before(); });
    for (std::size_t i = 1; i < numbers.size(); ++i)
      if (numbers[i] != numbers[i - 1] + 1)
        co_return fail(refuse(Error::foreign, path_of({day, numbers[i - 1] + 1}) +
                                                  ": this segment is missing between others. Nothing was touched. "
                                                  "Put it back, or restore the directory from a copy."));
    auto adding = add_candidates(day, numbers);
    auto added = co_await adding;
    if (!added) co_return fail(added.error());
    if (!candidates_.empty() && candidates_.front().header) break;
  }
  auto finding = find_first_kept();
  auto found = co_await finding;
  if (!found) co_return fail(found.error());
  auto checking = check_previous();
  auto checked = co_await checking;
  co_return std::move(checked);
}

SegmentKey Opening::dropped_before() const {
  const ShardSlot& slot = meta_.slot();
  if (slot.drop_count == 0) return {};
  const DropName& last = slot.drops[slot.drop_count - 1];
  return {last.day, last.number + 1};
}

// The oldest segment that stays: what a drop was going to take, and a crash left in pieces, is gone already.
Task<> Opening::find_first_kept() {
  const SegmentKey from = dropped_before();
  for (const Day day : days_) {
    if (day < from.day) continue;
    auto listing = list_day(reactor_, options_.directory, day);
    auto files = co_await listing;
    if (!files) co_return fail(files.error());
    for (std::uint32_t number : files->segments) {
      const SegmentKey key{day, number};
      if (key < from) continue;
      opened_.first_kept = key;
      auto looking = look_at(key);
      auto oldest = co_await looking;
      if (!oldest) co_return fail(oldest.error());
      if (oldest->header) opened_.first_lsn = oldest->header->first_lsn;
      co_return Result<>{};
    }
  }
  co_return Result<>{};
}

// From the newest file down to the first whose header block verifies.
Task<> Opening::add_candidates(Day day, const std::vector<std::uint32_t>& numbers) {
  for (std::size_t at = numbers.size(); at > 0; --at) {
    auto looking = look_at({day, numbers[at - 1]});
    auto candidate = co_await looking;
    if (!candidate) co_return fail(candidate.error());
    candidates_.insert(candidates_.begin(), std::move(*candidate));
    if (candidates_.front().header) break;
  }
  co_return Result<>{};
}

Task<Opening::Candidate> Opening::look_at(SegmentKey key) {
  Candidate candidate;
  candidate.segment.key = key;
  auto opening = File::open(reactor_, path_of(key), open_read | open_write | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return fail(refuse(file.error(), path_of(key) + ": cannot be opened"));
  candidate.segment.file = std::move(*file);
  File& opened = candidate.segment.file;
  auto syncing = make_durable(opened);
  auto synced = co_await syncing;
  if (!synced) co_return fail(synced.error());
  auto asking = opened.status();
  auto status = co_await asking;
  if (!status) co_return fail(status.error());
  candidate.segment.file_bytes = status->size;
  if (status->size < block_bytes) co_return std::move(candidate);
  const MutableBytes block = buffer_.bytes().first(block_bytes);
  auto reading = read_around(opened, 0, block);
  auto read = co_await reading;
  if (!read) co_return fail(refuse(read.error(), path_of(key) + ": cannot be read"));
  ++report_.reads;
  report_.bytes_read += block_bytes;
  candidate.has_bytes = !all_zero(block);
  auto header = read_segment_header(block, OpenFor::writing);
  if (header) {
    if (header->log_id != meta_.node().log_id || header->shard != options_.shard || header->day != key.day ||
        header->number != key.number)
      co_return fail(refuse(Error::foreign, path_of(key) +
                                                ": this file belongs to another log or another place in this one. "
                                                "Nothing was touched. Put the right file here."));
    candidate.header = *header;
  } else if (header.error() == Error::unsupported_version) {
    co_return fail(refuse(header.error(), path_of(key) + ": was written by a newer millrace. Nothing was touched."));
  }
  co_return std::move(candidate);
}

/// The segment before the newest one must be the one it names.
Task<> Opening::check_previous() {
  if (candidates_.empty() || !candidates_.front().header) co_return Result<>{};
  const SegmentHeader header = *candidates_.front().header;
  const SegmentKey newest = candidates_.front().segment.key;
  if (!(opened_.first_kept < newest) || header.previous_segment_id.is_zero()) co_return Result<>{};
  std::optional<SegmentKey> before;
  for (std::size_t at = days_.size(); at > 0 && !before; --at) {
    if (days_[at - 1] > newest.day) continue;
    auto listing = list_day(reactor_, options_.directory, days_[at - 1]);
    auto files = co_await listing;
    if (!files) co_return fail(files.error());
    for (std::uint32_t number : files->segments)
      if (SegmentKey{days_[at - 1], number} < newest) before = SegmentKey{days_[at - 1], number};
  }
  if (!before) co_return Result<>{};
  auto looking = look_at(*before);
  auto candidate = co_await looking;
  if (!candidate) co_return fail(candidate.error());
  // An unreadable header there is damage, which reading and verify report; another id is another log.
  if (candidate->header && candidate->header->segment_id != header.previous_segment_id)
    co_return fail(refuse(Error::foreign, path_of(*before) + ": is not the segment that " + path_of(newest) +
                                              " follows: a segment is missing, doubled or foreign. Nothing was "
                                              "touched."));
  co_return Result<>{};
}

Task<> Opening::check_finish() {
  opened_.sealed = opened_.begun && last_kind_ == BatchKind::seal;
  if (!opened_.sealed) co_return Result<>{};
  const Day day = tables_.log().day;
  auto opening = File::open(reactor_, finish_path(options_.directory, day), open_read | direct_flag(options_.buffered));
  auto file = co_await opening;
  if (!file) co_return Result<>{};
  const MutableBytes block = buffer_.bytes().first(block_bytes);
  auto reading = file->read(0, block);
  auto read = co_await reading;
  if (!read || *read != block_bytes) co_return Result<>{};
  auto finish = read_finish(block, OpenFor::writing);
  opened_.finished = finish && finish->day == day && finish->final_chain == opened_.chain &&
                     finish->end_lsn == opened_.next_lsn && finish->log_id == meta_.node().log_id;
  co_return Result<>{};
}

}  // namespace millrace
