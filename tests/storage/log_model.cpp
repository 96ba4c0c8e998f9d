#include "tests/storage/log_model.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/hash.hpp"

namespace millrace::test {

namespace {

MutableBytes file_of(Image& image, const Write& write) { return write.to_tail ? image.tail : image.segment; }

}  // namespace

std::vector<std::byte> make_batch(Lsn lsn, Chain before, std::size_t body_bytes, std::mt19937_64& random,
                                  Chain& after) {
  BatchHeader header;
  header.body_bytes = static_cast<std::uint32_t>(body_bytes);
  std::vector<std::byte> batch(batch_span(header.body_bytes));
  const MutableBytes body = MutableBytes(batch).subspan(batch_header_bytes, body_bytes);
  // Some bodies hold whole sectors of zeros: a crash and a payload look alike there.
  bool sparse = random() % 8 == 0;
  for (std::size_t at = 0; at < body.size(); ++at)
    if (!sparse || at % 4096 < 256) body[at] = static_cast<std::byte>(random());
  header.lsn = lsn.value;
  header.stream_id = 1 + random() % 3;
  header.first_offset = lsn.value * 10;
  header.record_count = 3;
  header.raw_bytes = body_bytes;
  header.leader_time = static_cast<Nanos>(lsn.value);
  header.body_hash = hash128(body);
  seal_header(header, before);
  after = Chain{header.chain};
  store(batch, 0, header);
  return batch;
}

LogModel::LogModel(std::uint64_t seed, ModelOptions options)
    : random_(seed), options_(options), led_{{Epoch{1}, Epoch{1}}} {
  disk_.segment.resize(options_.file_bytes);
  disk_.tail.resize(block_bytes + options_.ring_bytes);
  TailHeader tail{.log_id = {1, 2}, .shard = {}, .ring_bytes = options_.ring_bytes};
  write_tail_header(tail, disk_.tail);
  header_.log_id = {1, 2};
  header_.segment_id = segment_id();
  header_.first_lsn = Lsn{1};
  header_.epoch = epoch_;
  header_.in_flight_bytes_max = options_.in_flight_max;
  header_.segment_bytes = segment_bytes_min;
  std::vector<std::byte> block(block_bytes);
  write_segment_header(header_, block);
  chain_ = group_chain_ = slotted_chain_ = first_chain(header_);
}

void LogModel::append(std::size_t body_bytes) {
  Chain after;
  std::vector<std::byte> batch = make_batch(next_lsn_, chain_, body_bytes, random_, after);
  std::uint64_t whole = group_header_bytes + pending_.size() + batch.size();
  if (whole > group_bytes_max || group_at_ + align_up(whole, block_bytes) > options_.file_bytes) return;
  chain_ = after;
  pending_.insert(pending_.end(), batch.begin(), batch.end());
  batches_[next_lsn_.value] = std::move(batch);
  next_lsn_ = next_lsn_.next();
  ++group_batches_;
}

void LogModel::submit(Write write) { flying_.push_back(std::move(write)); }

bool LogModel::ring_has_room(std::uint64_t span) {
  if (span > options_.ring_bytes) return false;
  if (ring_at_ + span > options_.ring_bytes) ring_at_ = 0;
  return std::ranges::none_of(
      live_, [&](const LiveSlot& slot) { return slot.begin < ring_at_ + span && ring_at_ < slot.end; });
}

/// The next slot's header, with `length` bytes of the open group behind it.
void LogModel::write_slot(std::uint32_t length, MutableBytes slot) {
  TailSlot header{.length = length,
                  .number = ++slot_number_,
                  .segment_id = segment_id(),
                  .group = group_at_,
                  .start = group_at_ + group_header_bytes + slotted_,
                  .epoch = epoch_,
                  .first_lsn = slotted_lsn_,
                  .chain_before = slotted_chain_,
                  .durable_end = durable_};
  write_tail_slot(header, slot);
}

bool LogModel::flush_to_tail() {
  bool allowed = header_written_ && flying_.empty() && pending_.size() > slotted_ &&
                 pending_.size() < tail_flush_bytes_max && durable_group_end_ == group_at_;
  if (!allowed) return false;
  auto length = static_cast<std::uint32_t>(pending_.size() - slotted_);
  std::uint64_t span = tail_slot_span(length);
  if (!ring_has_room(span)) return false;
  Write write{
      .to_tail = true, .offset = block_bytes + ring_at_, .bytes = std::vector<std::byte>(span), .end_lsn = next_lsn_};
  std::ranges::copy(Bytes(pending_).subspan(slotted_), write.bytes.begin() + tail_slot_header_bytes);
  write_slot(length, write.bytes);
  live_.push_back({ring_at_, ring_at_ + span, group_at_});
  ring_at_ += span;
  slotted_ = pending_.size();
  slotted_lsn_ = next_lsn_;
  slotted_chain_ = chain_;
  submit(std::move(write));
  return true;
}

bool LogModel::record_durable_end() {
  if (!header_written_ || !flying_.empty() || !ring_has_room(block_bytes)) return false;
  Write write{.to_tail = true,
              .offset = block_bytes + ring_at_,
              .bytes = std::vector<std::byte>(block_bytes),
              .end_lsn = durable_};
  write_slot(0, write.bytes);
  ring_at_ += block_bytes;
  submit(std::move(write));
  return true;
}

bool LogModel::flush_to_segment() {
  if (pending_.empty() || flying_.size() >= options_.slots_in_flight) return false;
  std::uint64_t length = group_header_bytes + pending_.size();
  std::uint64_t end = group_at_ + align_up(length, block_bytes);
  if (end - std::max(durable_group_end_, std::uint64_t{header_written_ ? block_bytes : 0}) > options_.in_flight_max)
    return false;
  Write write{
      .offset = group_at_, .bytes = std::vector<std::byte>(end - group_at_), .end_lsn = next_lsn_, .group_end = end};
  std::ranges::copy(pending_, write.bytes.begin() + group_header_bytes);
  GroupHeader group{.batches = group_batches_,
                    .segment_id = segment_id(),
                    .file_offset = group_at_,
                    .epoch = epoch_,
                    .first_lsn = group_lsn_,
                    .chain_before = group_chain_,
                    .durable_upto = durable_,
                    .length = length,
                    .chain_after = chain_};
  seal_group_header(group);
  store(MutableBytes(write.bytes), 0, group);
  if (!header_written_) {
    std::vector<std::byte> whole(block_bytes);
    write_segment_header(header_, whole);
    whole.insert(whole.end(), write.bytes.begin(), write.bytes.end());
    write.bytes = std::move(whole);
    write.offset = 0;
    header_written_ = true;
  }
  submit(std::move(write));
  pending_.clear();
  group_at_ = end;
  group_lsn_ = slotted_lsn_ = next_lsn_;
  group_chain_ = slotted_chain_ = chain_;
  group_batches_ = 0;
  slotted_ = 0;
  return true;
}

void LogModel::complete(std::size_t which) {
  flying_[which].done = true;
  apply(flying_[which], disk_, 1);
  advance_durable();
}

void LogModel::complete_all() {
  for (Write& write : flying_)
    if (!write.done) {
      write.done = true;
      apply(write, disk_, 1);
    }
  advance_durable();
}

void LogModel::advance_durable() {
  while (!flying_.empty() && flying_.front().done) {
    const Write& write = flying_.front();
    durable_ = std::max(durable_, write.end_lsn);
    if (!write.to_tail) {
      durable_group_end_ = write.group_end;
      std::erase_if(live_, [&](const LiveSlot& slot) { return slot.group < write.group_end; });
    }
    flying_.erase(flying_.begin());
  }
}

void LogModel::random_steps(std::size_t steps) {
  std::vector<std::size_t> open;
  for (std::size_t step = 0; step < steps; ++step) {
    open.clear();
    for (std::size_t i = 0; i < flying_.size(); ++i)
      if (!flying_[i].done) open.push_back(i);
    switch (random_() % 8) {
      case 0: append(random_() % 64); break;
      case 1: append(random_() % 3000); break;
      case 2: append(random_() % 12 == 0 ? 20000 : 200); break;
      case 3: flush_to_tail(); break;
      case 4:
        if (random_() % 3 == 0) flush_to_segment();
        break;
      case 5:
        if (random_() % 4 == 0) record_durable_end();
        break;
      default:
        if (!open.empty()) complete(open[random_() % open.size()]);
    }
  }
}

void apply_torn(const Write& write, Image& image, double persisted, std::mt19937_64& random) {
  std::uniform_real_distribution<double> chance(0, 1);
  for (std::size_t at = 0; at < write.bytes.size(); at += sector)
    if (chance(random) < persisted)
      std::ranges::copy(Bytes(write.bytes).subspan(at, sector),
                        file_of(image, write).begin() + static_cast<long>(write.offset + at));
}

void LogModel::apply(const Write& write, Image& image, double persisted) {
  apply_torn(write, image, persisted, random_);
}

Image LogModel::crash(double persisted) {
  Image image = disk_;
  for (const Write& write : flying_)
    if (!write.done) apply(write, image, persisted);
  return image;
}

RecoveryInput LogModel::input(const Image& image) const {
  RecoveryInput input;
  input.log_id = {1, 2};
  input.file_bytes = image.segment.size();
  input.in_flight_bytes_max = options_.in_flight_max;
  input.epochs_led = led_;
  input.tail = image.tail;
  return input;
}

void LogModel::reopen(const Image& image, const Verdict& verdict) {
  disk_ = image;
  flying_.clear();
  live_.clear();
  pending_.clear();
  epoch_ = epoch_.next();
  led_.back().last = epoch_;
  header_written_ = verdict.begun;
  group_at_ = std::max<std::uint64_t>(verdict.content_end, block_bytes);
  durable_group_end_ = verdict.content_end;
  next_lsn_ = group_lsn_ = slotted_lsn_ = durable_ = verdict.next_lsn;
  chain_ = group_chain_ = slotted_chain_ = verdict.begun ? verdict.chain : first_chain(header_);
  group_batches_ = 0;
  slotted_ = 0;
  slot_number_ = verdict.slot_number;
  ring_at_ = 0;
  batches_.erase(batches_.lower_bound(verdict.next_lsn.value), batches_.end());
}

Recovered::Recovered(const RecoveryInput& input, Bytes segment, std::size_t feed) {
  SegmentRecovery recovery(input, *this);
  while (!recovery.done()) {
    std::uint64_t at = recovery.wanted();
    recovery.feed(at, segment.subspan(at, std::min<std::size_t>(feed, segment.size() - at)));
  }
  verdict = recovery.verdict();
}

void Recovered::batch(const FoundBatch& found) {
  if (!batches.empty() && batches.rbegin()->first >= found.header.lsn) in_order = false;
  batches[found.header.lsn] = {found.whole.begin(), found.whole.end()};
  sources[found.header.lsn] = found.source;
}

std::vector<Write> writes_of(const Verdict& verdict, Epoch epoch) {
  std::vector<Write> writes;
  if (verdict.cut_end > verdict.cut_begin)
    writes.push_back({.offset = verdict.cut_begin,
                      .bytes = std::vector<std::byte>(verdict.cut_end - verdict.cut_begin),
                      .end_lsn = {}});
  for (const TailGroup& group : verdict.tail_groups) {
    Write write{.offset = group.file_offset,
                .bytes = std::vector<std::byte>(align_up(group.length, block_bytes)),
                .end_lsn = {}};
    Lsn end = group.first_lsn.next(group.batches);
    close_tail_group(group, verdict.segment_id, epoch, end, write.bytes);
    writes.push_back(std::move(write));
  }
  return writes;
}

void apply_whole(const std::vector<Write>& writes, Image& image) {
  for (const Write& write : writes)
    std::ranges::copy(write.bytes, file_of(image, write).begin() + static_cast<long>(write.offset));
}

}  // namespace millrace::test
