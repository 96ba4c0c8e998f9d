// Where a follower's stream goes on: what it stated is compared with this log, group header by group header.
#include <utility>

#include "replica/leader_stream.hpp"
#include "storage/read_view.hpp"

namespace millrace {

Task<> LeaderStream::answer(wire::Follow request) {
  const wire::Statement& statement = request.statement;
  if (request.epoch > source_.known_epoch() && !source_.deposed()) {
    // Somebody was promoted and could not tell: now it is told.
    auto deposing = source_.depose(request.epoch);
    auto deposed = co_await deposing;
    static_cast<void>(deposed);
  }
  if (request.epoch > source_.epoch()) co_return fail(Error::fenced);
  if (!statement.log_id.is_zero() &&
      (statement.log_id != source_.log_id() || statement.cluster_id != source_.cluster_id()))
    co_return fail(Error::foreign);
  auto finding = find_place(request);
  auto found = co_await finding;
  if (!found) co_return fail(found.error());
  wire::FollowBegin begin;
  begin.request_id = request_id_;
  begin.differs = !*found;
  begin.pending_differs = pending_differs_;
  begin.epoch = source_.epoch();
  begin.durable = log_.watermarks().durable;
  begin.first = next_lsn_;
  begin.offset = group_;
  begin.identity = identity_;
  small_.clear();
  encode(small_, begin);
  const auto sent = socket_.send(small_);
  if (!sent) co_return fail(Error::connection_lost);
  state_.streaming = *found && !pending_differs_ && !request.probe;
  durable_said_ = begin.durable;
  co_return Result<>{};
}

/// False: what was stated is not this log's.
Task<bool> LeaderStream::find_place(wire::Follow request) {
  const wire::Statement statement = request.statement;
  pending_differs_ = false;
  if (statement.segment_id.is_zero()) {
    auto beginning = find_begin(request);
    co_return co_await beginning;
  }
  const SegmentKey key{statement.day, statement.number};
  const auto newest = source_.newest_segment();
  if (!newest || *newest < key) co_return false;
  if (key < source_.first_kept_segment()) co_return fail(Error::out_of_range);
  auto comparing = is_segment(key, statement.segment_id);
  auto same = co_await comparing;
  if (!same || !*same) co_return same;
  key_ = key;
  announced_ = true;
  group_ = block_bytes;
  from_ = group_header_bytes;
  next_lsn_ = statement.end_lsn;
  if (statement.group_offset != 0) {
    auto looking = group_at(key, statement.group_offset);
    auto header = co_await looking;
    if (!header) co_return fail(header.error());
    if (!*header || (*header)->checksum != statement.group_checksum) co_return false;
    group_ = (*header)->file_offset + group_span(**header);
    next_lsn_ = group_end_lsn(**header);
    group_lsn_ = next_lsn_;
    group_chain_ = (*header)->chain_after;
  }
  if (statement.pending_lsn > next_lsn_) {
    auto matching = match_pending(statement);
    auto matched = co_await matching;
    if (!matched) co_return fail(matched.error());
  }
  co_return true;
}

/// A follower that holds nothing begins with the oldest segment, once there is one.
Task<bool> LeaderStream::find_begin(wire::Follow request) {
  key_ = {};
  group_ = from_ = 0;
  next_lsn_ = request.next_lsn;
  if (request.probe) co_return true;
  while (!source_.newest_segment() && !gone() && !failed_) co_await source_.submitted_signal().wait();
  if (gone() || failed_) co_return fail(Error::not_ready);
  key_ = source_.first_kept_segment();
  auto reading = read_header(key_);
  auto header = co_await reading;
  if (!header) co_return fail(header.error());
  if (header->first_lsn != request.next_lsn) co_return fail(Error::out_of_range);
  announced_ = false;
  group_ = block_bytes;
  from_ = group_header_bytes;
  co_return true;
}

Task<bool> LeaderStream::is_segment(SegmentKey key, Id128 id) {
  auto reading = read_header(key);
  auto header = co_await reading;
  if (!header && (header.error() == Error::not_found || header.error() == Error::corrupt)) co_return false;
  if (!header) co_return fail(header.error());
  co_return header->segment_id == id;
}

Task<SegmentHeader> LeaderStream::read_header(SegmentKey key) {
  // The newest one's may not have reached its file.
  if (source_.newest_segment() == key) co_return source_.newest_header();
  auto opening = open_segment(key);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  const AlignedMemory block(block_bytes);
  auto reading = file_.read_exact(0, block.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  co_return read_segment_header(block.bytes(), OpenFor::reading);
}

/// The closed group that begins there, if one does.
Task<std::optional<GroupHeader>> LeaderStream::group_at(SegmentKey key, std::uint64_t offset) {
  std::optional<GroupHeader> none;
  if (!is_aligned(offset, block_bytes) || offset < block_bytes) co_return none;
  if (auto live = source_.submitted(key, offset)) {
    if (live->closed) none = load<GroupHeader>(live->bytes);
    co_return none;
  }
  if (offset >= log_.view().readable_of(key)) co_return none;
  auto opening = open_segment(key);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  const AlignedMemory block(block_bytes);
  auto reading = file_.read(offset, block.bytes());
  auto read = co_await reading;
  if (!read) co_return fail(read.error());
  if (*read < block_bytes) co_return none;
  auto header = read_group_header(block.bytes(), offset);
  if (header) none = *header;
  co_return none;
}

/// Whether the follower's pending batches are the front of this log's group at the same place.
Task<> LeaderStream::match_pending(wire::Statement statement) {
  pending_differs_ = true;
  Bytes group;
  if (auto live = source_.submitted(key_, group_)) {
    group = live->bytes;
  } else if (group_ < log_.view().readable_of(key_)) {
    auto reading = read_group(group_);
    auto read = co_await reading;
    if (!read && read.error() != Error::corrupt) co_return fail(read.error());
    if (read)
      group =
          memory_.bytes().subspan(group_ - memory_at_, load<GroupHeader>(memory_.bytes(), group_ - memory_at_).length);
  }
  if (group.size() <= group_header_bytes) co_return Result<>{};
  BatchWalk walk(group.subspan(group_header_bytes), next_lsn_, group_chain_);
  while (!walk.at_end() && walk.next_lsn() < statement.pending_lsn) static_cast<void>(walk.next_checked());
  if (walk.next_lsn() != statement.pending_lsn || walk.chain() != statement.pending_chain) co_return Result<>{};
  pending_differs_ = false;
  from_ = group_header_bytes + walk.at();
  next_lsn_ = statement.pending_lsn;
  co_return Result<>{};
}

}  // namespace millrace
