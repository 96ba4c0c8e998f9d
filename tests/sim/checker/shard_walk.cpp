#include "tests/sim/checker/shard_walk.hpp"

#include <algorithm>

#include "tests/sim/checker/fields.hpp"

namespace millrace::checker {

namespace {

constexpr std::uint64_t block = 4096;
constexpr std::uint64_t group_header = 128;
constexpr std::uint64_t batch_header = 192;

std::string at(const std::string& path, std::uint64_t offset) { return path + " @" + hex(offset); }

}  // namespace

void ShardWalk::broken(const std::string& promise, const std::string& where, const std::string& what) {
  log_.violations.push_back({promise, where, what});
}

bool ShardWalk::header(const std::string& path, std::uint32_t day, std::uint32_t number, Bytes bytes) {
  Bytes head = bytes.first(block);
  if (u32(head, 0) != magic("MRS1") || u64(head, 8) != hash_without(head, {8})) return false;
  if (!zeros(head.subspan(152))) broken("P20", path, "reserved bytes of the segment header are not zero");
  if (u32(head, 72) != shard_ || u32(head, 76) != day || u32(head, 84) != number)
    broken("P21", path, "segment header names another shard, day or number");
  if (begun_) {
    if (u64(head, 40) != log_high_ || u64(head, 48) != log_low_) broken("P21", path, "segment of another log");
    bool follows = u64(head, 104) == id_high_ && u64(head, 112) == id_low_;
    if (!follows) broken("P21", path, "previous segment id does not name the segment before it");
    if (!unsure_ && (u64(head, 120) != end_ || u64(head, 128) != chain_))
      broken("P18", path,
             "previous length " + hex(u64(head, 120)) + " or chain does not fit the segment before, which ends at " +
                 hex(end_));
    if (!unsure_ && u64(head, 88) != next_lsn_) broken("P04", path, "first lsn does not continue the log");
    if (day < day_) broken("P28", path, "day goes backwards");
    if (day == day_ ? number != number_ + 1 : number != 0) broken("P21", path, "segment numbers have a gap");
    if (day > day_ && sealed_day_ != day_ && !unsure_)
      broken("P28", path, "a later day begins before the day was sealed");
  } else if (!options_.first_days_dropped && u64(head, 88) != 1) {
    broken("P21", path, "the log does not begin at lsn 1");
  }
  if (day != day_ || !begun_) day_batches_ = day_records_ = day_bytes_ = 0;
  log_high_ = u64(head, 40), log_low_ = u64(head, 48);
  id_high_ = u64(head, 56), id_low_ = u64(head, 64);
  if (!begun_ || unsure_) next_lsn_ = u64(head, 88);
  if (u64(head, 96) < epoch_) broken("P12", path, "segment begun in an older epoch than what precedes it");
  begun_ = true, day_ = day, number_ = number;
  chain_ = u64(head, 8);
  end_ = block;
  return true;
}

std::optional<ShardWalk::Group> ShardWalk::group_at(Bytes bytes, std::uint64_t position) const {
  if (position + block > bytes.size()) return std::nullopt;
  Bytes head = bytes.subspan(position, group_header);
  if (u32(head, 0) != magic("MRG1") || u64(head, 16) != id_high_ || u64(head, 24) != id_low_) return std::nullopt;
  if (u64(head, 32) != position || u64(head, 8) != hash_without(head, {8})) return std::nullopt;
  Group group{position, u64(head, 72), u32(head, 4), u64(head, 48), u64(head, 56), u64(head, 80), u64(head, 40)};
  if (group.length < group_header || position + up(group.length, block) > bytes.size()) return std::nullopt;
  return group;
}

bool ShardWalk::walk_group(const std::string& path, Bytes bytes, const Group& group) {
  if (!unsure_ && (group.first_lsn != next_lsn_ || group.chain_before != chain_)) return false;
  next_lsn_ = group.first_lsn;
  chain_ = group.chain_before;
  if (group.epoch < epoch_) broken("P12", at(path, group.at), "group of an older epoch than what precedes it");
  epoch_ = std::max(epoch_, group.epoch);
  // Judge the whole group first: a torn one is not begun at all.
  std::uint64_t position = group.at + group_header;
  std::uint64_t end = group.at + group.length;
  std::uint64_t chain = chain_;
  for (std::uint32_t i = 0; i < group.batches; ++i) {
    if (position + batch_header > end) return false;
    Bytes head = bytes.subspan(position, batch_header);
    std::uint64_t span = up(batch_header + u32(head, 76), 16);
    if (u32(head, 0) != magic("MRB1") || position + span > end) return false;
    if (u64(head, 8) != hash_without(head, {8})) return false;
    Bytes body = bytes.subspan(position + batch_header, u32(head, 76));
    XXH128_hash_t body_hash = XXH3_128bits(body.data(), body.size());
    if (u64(head, 16) != body_hash.low64 || u64(head, 24) != body_hash.high64) return false;
    chain = hash_without(head, {8, 32}, chain);
    if (u64(head, 32) != chain) return false;
    position += span;
  }
  if (position != end || chain != group.chain_after) return false;
  if (!zeros(bytes.subspan(end, up(end, block) - end))) {
    broken("P20", at(path, end), "padding of a group is not zero");
    return false;
  }
  position = group.at + group_header;
  for (std::uint32_t i = 0; i < group.batches; ++i) {
    std::uint64_t span = 0;
    batch(path, bytes, position, false, span);
    position += span;
  }
  unsure_ = false;
  ++log_.groups;
  return true;
}

bool ShardWalk::batch(const std::string& path, Bytes bytes, std::uint64_t position, bool in_tail, std::uint64_t& span) {
  Bytes head = bytes.subspan(position, batch_header);
  Batch b;
  b.shard = shard_, b.kind = field<std::uint8_t>(head, 4), b.lsn = u64(head, 40), b.stream = u64(head, 48);
  b.first_offset = u64(head, 56), b.first_id = u64(head, 64), b.count = u32(head, 72);
  b.leader_time = field<std::int64_t>(head, 80), b.event_min = field<std::int64_t>(head, 88);
  b.event_max = field<std::int64_t>(head, 96), b.producer = u64(head, 104), b.producer_epoch = u32(head, 112);
  b.day = u32(head, 116), b.sequence = u64(head, 120), b.body_hash = {u64(head, 16), u64(head, 24)};
  b.segment = number_, b.position = position, b.epoch = epoch_, b.in_tail = in_tail;
  b.body = bytes.subspan(position + batch_header, u32(head, 76));
  span = up(batch_header + u32(head, 76), 16);
  std::string where = at(path, position) + " lsn " + std::to_string(b.lsn);
  if (b.lsn != next_lsn_) broken("P04", where, "lsn expected " + std::to_string(next_lsn_));
  if (b.leader_time < leader_time_) broken("P28", where, "leader time falls");
  if (b.day != day_) broken("P28", where, "batch of another day than its segment");
  if (!zeros(head.subspan(136))) broken("P20", where, "reserved bytes of a batch header are not zero");
  if (sealed_day_ == day_) broken("P28", where, "a batch follows the seal of its day");
  leader_time_ = b.leader_time;
  next_lsn_ = b.lsn + 1;
  chain_ = u64(head, 32);
  if (b.kind == 0) data(b, where);
  else control(b, where);
  if (b.kind != 4) ++day_batches_, day_records_ += b.count, day_bytes_ += b.body.size();
  log_.batches.push_back(b);
  if (b.kind == 0) log_.streams[b.stream].batches.push_back(log_.batches.size() - 1);
  return true;
}

void ShardWalk::data(const Batch& b, const std::string& where) {
  auto& stream = streams_[b.stream];
  if (log_.streams.find(b.stream) == log_.streams.end() && !unsure_ && !options_.first_days_dropped)
    broken("P10", where, "data of a stream the catalogue does not know");
  log_.streams[b.stream].shard = shard_;
  if (stream.id_day != b.day) {
    if (stream.known) stream.next_id = 0;
    stream.id_day = b.day;
  }
  bool certain = stream.known && !unsure_;
  if (certain && b.first_offset != stream.next_offset)
    broken("P04", where,
           "offset " + std::to_string(b.first_offset) + " where " + std::to_string(stream.next_offset) + " is next");
  if (certain && b.first_id != stream.next_id)
    broken("P04", where, "id " + std::to_string(b.first_id) + " where " + std::to_string(stream.next_id) + " is next");
  if (stream.known && b.first_offset < stream.next_offset) broken("P04", where, "offset used twice");
  if (b.count == 0) broken("P03", where, "data batch without records");
  stream.known = true;
  stream.next_offset = b.first_offset + b.count;
  stream.next_id = b.first_id + b.count;
}

void ShardWalk::catalogue(Bytes body, const std::string& where) {
  for (std::size_t position = 0; position + 8 <= body.size();) {
    std::uint32_t length = u32(body, position + 4);
    if (length > body.size() - position - 8) {
      broken("P20", where, "catalogue entry longer than its batch");
      return;
    }
    Bytes rest = body.subspan(position + 8, length);
    if (field<std::uint8_t>(body, position) == 1) {
      std::string name(reinterpret_cast<const char*>(rest.data()) + 8, length - 8);
      if (hash(rest.subspan(8)) != u64(rest, 0)) broken("P21", where, "stream id is not the hash of its name");
      auto& stream = log_.streams[u64(rest, 0)];
      stream.name = name, stream.shard = shard_;
      auto [at, fresh] = streams_.try_emplace(u64(rest, 0));
      auto& state = at->second;
      if (fresh) state.next_offset = state.next_id = floor_, state.id_day = floor_ == 0 ? 0 : day_;
      if (!unsure_ && !options_.first_days_dropped) state.known = true;
    }
    position += 8 + length;
  }
}

void ShardWalk::state_rows(Bytes body) {
  for (std::size_t position = 16; position + 8 <= body.size();) {
    std::uint32_t length = u32(body, position + 4);
    if (length > body.size() - position - 8) return;
    Bytes row = body.subspan(position + 8, length);
    if (field<std::uint8_t>(body, position) == 4 && length >= 72) floor_ = std::max(floor_, u64(row, 64));
    if (field<std::uint8_t>(body, position) == 1 && length >= 48) {
      std::uint32_t name_length = u32(row, 28);
      auto& stream = log_.streams[u64(row, 0)];
      if (name_length != 0 && 48 + name_length <= length)
        stream.name.assign(reinterpret_cast<const char*>(row.data()) + 48, name_length);
      stream.shard = shard_;
    }
    position += 8 + length;
  }
}

void ShardWalk::control(const Batch& b, const std::string& where) {
  if (b.stream != 0 || b.count != 0) broken("P20", where, "control batch with a stream or records");
  if (b.kind == 1) catalogue(b.body, where);
  if (b.kind == 2) state_rows(b.body);
  if (b.kind == 3) {
    // A group that was open at a crash is closed anew with a newer epoch around the same batches; never with an older one.
    const std::uint64_t named = u64(b.body, 0);
    if (named > epoch_) broken("P12", where, "epoch batch names a newer epoch than its group");
    if (named <= epoch_batch_) broken("P12", where, "epoch batch names an epoch that was there before");
    epoch_batch_ = named;
    std::uint64_t bump = u64(b.body, 24);
    floor_ += bump;
    for (auto& [id, stream] : streams_) {
      if (bump != 0 && stream.id_day != day_) stream.next_id = 0, stream.id_day = day_;
      stream.next_offset += bump, stream.next_id += bump;
    }
  }
  if (b.kind == 4) {
    if (u32(b.body, 0) != day_) broken("P28", where, "seal of another day");
    if (u64(b.body, 8) != day_batches_ && !options_.first_days_dropped && log_.holes.empty())
      broken("P24", where,
             "seal counts " + std::to_string(u64(b.body, 8)) + " batches, the day has " + std::to_string(day_batches_));
    sealed_day_ = day_;
    std::uint64_t end = up(b.position + batch_header + b.body.size(), 16);
    seals_[day_] = {b.lsn + 1, chain_, up(end, block), number_, day_batches_, day_records_, day_bytes_};
  }
}

void ShardWalk::after_end(const std::string& path, Bytes bytes, std::uint64_t end, bool last) {
  if (zeros(bytes.subspan(end))) return;
  if (last && options_.torn_end_allowed) return;
  if (options_.damage_expected) return;
  broken(last ? "P17" : "P18", at(path, end), "bytes after the last group are neither a group nor zero");
}

void ShardWalk::segment(const std::string& path, std::uint32_t day, std::uint32_t number, Bytes bytes, bool last) {
  if (zeros(bytes)) {
    // Named ahead for a day that then ended: it may be left behind there, but nothing of its day may follow it.
    not_begun_seen_ = true;
    not_begun_day_ = day;
    return;
  }
  if (not_begun_seen_ && day == not_begun_day_ && !(last && options_.torn_end_allowed))
    broken("P21", path, "a begun segment follows one that is not begun");
  if (bytes.size() < block || !header(path, day, number, bytes)) {
    if (last && options_.torn_end_allowed) return;
    if (options_.damage_expected) {
      log_.holes.push_back({shard_, path, 0, bytes.size(), next_lsn_, 0});
      unsure_ = true;
      return;
    }
    broken("P20", path, "segment header does not verify");
    return;
  }
  std::uint64_t position = block;
  while (position + block <= bytes.size()) {
    auto group = group_at(bytes, position);
    if (group && walk_group(path, bytes, *group)) {
      position = end_ = group->at + up(group->length, block);
      continue;
    }
    if (!options_.damage_expected) break;
    std::uint64_t next = position + block;  // damage: look for the next group that can be read by itself
    bool found = false;
    for (; next + block <= bytes.size() && !found; next += block) {
      auto later = group_at(bytes, next);
      if (!later || later->first_lsn < next_lsn_) continue;
      log_.holes.push_back({shard_, path, position, next, next_lsn_, later->first_lsn});
      unsure_ = found = true;
      break;
    }
    if (!found) {
      if (!zeros(bytes.subspan(position))) {
        log_.holes.push_back({shard_, path, position, bytes.size(), next_lsn_, 0});
        unsure_ = true;
      }
      break;
    }
    position = next;
  }
  after_end(path, bytes, position, last);
}

void ShardWalk::tail(const std::string& path, Bytes bytes) {
  if (!begun_ || bytes.size() < 2 * block) return;
  std::map<std::uint64_t, std::uint64_t> slots;  // number -> position
  for (std::uint64_t position = block; position + block <= bytes.size(); position += block) {
    Bytes rest = bytes.subspan(position);
    if (u32(rest, 0) != magic("MRL1")) continue;
    std::uint64_t length = 128 + u32(rest, 4);
    if (length > rest.size() || u64(rest, 8) != hash_without(rest.first(length), {8})) continue;
    slots[u64(rest, 16)] = position;
  }
  std::uint64_t group = end_;
  std::uint64_t start = group + group_header;
  for (auto [number, position] : slots) {
    Bytes slot = bytes.subspan(position);
    if (u32(slot, 4) == 0 || u64(slot, 24) != id_high_ || u64(slot, 32) != id_low_) continue;
    if (u64(slot, 40) != group || u64(slot, 48) != start || u64(slot, 64) != next_lsn_ || u64(slot, 72) != chain_)
      continue;
    if (u64(slot, 56) < epoch_) continue;
    epoch_ = u64(slot, 56);
    ++log_.slots_used;
    Bytes held = slot.subspan(128, u32(slot, 4));
    for (std::uint64_t inside = 0; inside + batch_header <= held.size();) {
      std::uint64_t span = 0;
      batch(path, held, inside, true, span);
      inside += span;
    }
    start += held.size();
  }
}

void ShardWalk::finish(const std::string& path, std::uint32_t day, Bytes bytes) {
  auto seal = seals_.find(day);
  if (bytes.size() != block || u32(bytes, 0) != magic("MRF1") || u64(bytes, 8) != hash_without(bytes, {8})) {
    if (!options_.damage_expected) broken("P24", path, "finish does not verify");
    return;
  }
  if (seal == seals_.end()) {
    if (!options_.damage_expected && log_.holes.empty()) broken("P24", path, "finish without a seal in the log");
    return;
  }
  const Seal& s = seal->second;
  bool fits = u32(bytes, 56) == shard_ && u32(bytes, 60) == day && u32(bytes, 64) == s.segment &&
              u64(bytes, 72) == s.length && u64(bytes, 80) == s.next_lsn && u64(bytes, 88) == s.chain;
  if (!fits) broken("P24", path, "finish does not fit the seal");
  if (fits && !options_.first_days_dropped && log_.holes.empty() &&
      (u64(bytes, 96) != s.batches || u64(bytes, 104) != s.records || u64(bytes, 112) != s.bytes))
    broken("P24", path, "finish totals differ from the day's batches");
  log_.finished_days[shard_].push_back(day);
}

}  // namespace millrace::checker
