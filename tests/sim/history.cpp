#include "tests/sim/history.hpp"

#include <algorithm>
#include <cstring>

#include "base/hash.hpp"
#include "protocol/handshake.hpp"
#include "tests/sim/sim_faults.hpp"

namespace millrace::sim {

std::uint64_t HistoryRecorder::connection() {
  taps_.emplace(++last_connection_, std::make_unique<Tap>());
  return last_connection_;
}

void HistoryRecorder::sent(std::uint64_t connection, Bytes bytes) {
  Tap& tap = *taps_.at(connection);
  while (!bytes.empty()) {
    auto next = tap.sent.next(bytes);
    if (!next || !*next) return;
    if ((*next)->header.type == FrameType::append) note_append(tap, **next);
  }
}

void HistoryRecorder::note_append(Tap& tap, const Frame& frame) {
  auto append = wire::decode_append(frame);
  if (!append) return;
  auto header = read_batch_header(append->batch);
  if (!header) return;
  Key key{header->producer_id, header->producer_epoch, header->stream_id, header->producer_sequence};
  auto [known, is_new] = attempts_.try_emplace(key, history_.attempts.size());
  tap.requests[append->request_id] = known->second;
  if (!is_new) return;
  auto& attempt = history_.attempts.emplace_back();
  attempt.sent_at = now ? now() : 0;
  attempt.producer = header->producer_id;
  attempt.producer_epoch = header->producer_epoch;
  attempt.stream = header->stream_id;
  attempt.sequence = header->producer_sequence;
  auto body = BodyView::parse(append->batch.subspan(batch_header_bytes, header->body_bytes), *header);
  if (!body) return;
  for (std::uint32_t i = 0; i < body->count(); ++i) attempt.payload_hashes.push_back(hash64(body->payload(i)));
}

void HistoryRecorder::received(std::uint64_t connection, Bytes bytes, std::uint64_t damage) {
  Tap& tap = *taps_.at(connection);
  while (!bytes.empty()) {
    auto next = tap.received.next(bytes);
    if (!next || !*next) return;
    note_answer(connection, tap, **next, damage);
  }
}

void HistoryRecorder::note_answer(std::uint64_t connection, Tap& tap, const Frame& frame, std::uint64_t damage) {
  if (frame.header.type == FrameType::welcome) {
    if (auto welcome = wire::decode_welcome(frame)) tap.shard = welcome->shard.value;
    return;
  }
  if (frame.header.type != FrameType::acks) return;
  auto acks = wire::decode_acks(frame);
  if (!acks) return;
  for (std::size_t i = 0; i < acks->count(); ++i) {
    wire::AckEntry entry = acks->entry(i);
    auto request = tap.requests.find(entry.request_id);
    if (request == tap.requests.end()) continue;
    entry.error == 0 ? ++acknowledged_ : ++refused_;
    if (entry.error == 0 && on_acknowledged) on_acknowledged();
    history_.answers.push_back({request->second, connection, entry.error, entry.first_offset, entry.lsn,
                                (entry.flags & wire::ack_flag_repeat) != 0, tap.shard, damage, now ? now() : 0});
  }
}

void HistoryRecorder::closed(std::uint64_t connection) { taps_.erase(connection); }

void HistoryRecorder::read(std::uint64_t reader, StreamId stream, const BatchHeader& header, std::uint32_t index,
                           Bytes payload) {
  history_.reads.push_back(
      {stream.value, header.first_offset + index, hash64(payload), header.first_id + index, header.day, reader});
}

void HistoryRecorder::lost(StreamId stream, std::uint64_t first, std::uint64_t next) {
  history_.losses.push_back({stream.value, first, next});
}

void HistoryRecorder::cut_away(StreamId stream, std::uint64_t first, std::uint64_t next) {
  history_.losses.push_back({stream.value, first, next, true});
}

namespace {

struct RecordFront {
  std::uint64_t life;
  std::uint64_t ticket;
  std::uint64_t check;  // over length and the rest
};
static_assert(sizeof(RecordFront) == Ledger::record_bytes_min);

std::uint64_t check_of(const RecordFront& front, Bytes rest) {
  return hash64(rest, split_mix(front.life) ^ front.ticket * 31 ^ rest.size());
}

}  // namespace

std::uint64_t Ledger::begin_life(const std::string& stream) {
  lives_.push_back({stream, 0, {}});
  return lives_.size();
}

std::vector<std::byte> Ledger::record(std::uint64_t life, std::uint64_t ticket, std::size_t bytes) {
  std::vector<std::byte> record(std::max(bytes, record_bytes_min));
  MutableBytes rest = MutableBytes(record).subspan(record_bytes_min);
  std::uint64_t word = split_mix(life << 32 ^ ticket);
  for (std::size_t at = 0; at < rest.size(); at += 8) {
    word += 0x9e3779b97f4a7c15;
    std::memcpy(rest.data() + at, &word, std::min<std::size_t>(8, rest.size() - at));
  }
  RecordFront front{life, ticket, 0};
  front.check = check_of(front, rest);
  store(record, 0, front);
  return record;
}

void Ledger::acknowledged(std::uint64_t life, std::uint64_t first_ticket, std::uint32_t records,
                          std::uint64_t first_offset) {
  lives_[life - 1].acknowledged.push_back({first_ticket, records, first_offset});
  records_acknowledged_ += records;
}

std::optional<std::string> Ledger::seen(const std::string& stream, std::uint64_t offset, Bytes payload) {
  std::string where = stream + " offset " + std::to_string(offset);
  if (payload.size() < record_bytes_min) return "P03 " + where + ": a record nobody appended";
  auto front = load<RecordFront>(payload);
  if (front.check != check_of(front, payload.subspan(record_bytes_min)))
    return "P20 " + where + ": damaged bytes were served";
  if (front.life == 0 || front.life > lives_.size() || lives_[front.life - 1].stream != stream ||
      front.ticket >= lives_[front.life - 1].appended)
    return "P03 " + where + ": a record nobody appended here";
  ++records_seen_;
  auto [known, is_new] = streams_[stream].try_emplace(offset, Place{front.life, front.ticket});
  if (!is_new && (known->second.life != front.life || known->second.ticket != front.ticket))
    return "P06 " + where + ": another record was here before";
  return std::nullopt;
}

void Ledger::told_lost(const std::string& stream, std::uint64_t first, std::uint64_t next) {
  losses_[stream].push_back({first, next});
}

/// The first offset of [first, next) that no reader was told is gone; `next` when all are. Losses may span 2^40 offsets.
std::uint64_t Ledger::not_told_lost(const std::string& stream, std::uint64_t first, std::uint64_t next) const {
  auto found = losses_.find(stream);
  if (found == losses_.end()) return first;
  for (std::uint64_t at = first; at < next;) {
    std::uint64_t reached = at;
    for (const Loss& loss : found->second)
      if (loss.first <= at) reached = std::max(reached, loss.next);
    if (reached == at) return at;
    at = reached;
  }
  return next;
}

std::vector<std::string> Ledger::judge(const std::string& stream, std::uint64_t first, std::uint64_t next,
                                       bool damaged) const {
  std::vector<std::string> broken;
  static const std::map<std::uint64_t, Place> nothing;
  auto found = streams_.find(stream);
  const auto& places = found == streams_.end() ? nothing : found->second;
  auto excused = [&](std::uint64_t offset) {
    return offset < first || (damaged && not_told_lost(stream, offset, offset + 1) > offset);
  };
  auto check_gap = [&](std::uint64_t from, std::uint64_t to) {
    std::uint64_t missing = damaged ? not_told_lost(stream, from, to) : from;
    if (from < to && missing < to)
      broken.push_back("P04 " + stream + ": offset " + std::to_string(missing) + " was skipped");
  };
  std::uint64_t expected_offset = first;
  for (auto at = places.lower_bound(first); at != places.end(); ++at) {
    check_gap(expected_offset, at->first);
    expected_offset = at->first + 1;
  }
  check_gap(expected_offset, next);
  std::map<std::uint64_t, std::uint64_t> next_ticket;  // by life
  for (const auto& [offset, place] : places) {
    auto& expected = next_ticket[place.life];
    if (place.ticket < expected)
      broken.push_back("P05/P08 " + stream + " offset " + std::to_string(offset) + ": life " +
                       std::to_string(place.life) + " ticket " + std::to_string(place.ticket) + " again, or after " +
                       std::to_string(expected - 1));
    expected = place.ticket + 1;
  }
  for (std::size_t life = 1; life <= lives_.size(); ++life) {
    if (lives_[life - 1].stream != stream) continue;
    for (const Acknowledged& ack : lives_[life - 1].acknowledged) {
      for (std::uint32_t i = 0; i < ack.records; ++i) {
        auto place = places.find(ack.first_offset + i);
        if (place == places.end() && excused(ack.first_offset + i)) continue;
        if (place != places.end() && place->second.life == life && place->second.ticket == ack.first_ticket + i)
          continue;
        broken.push_back("P01 " + stream + " offset " + std::to_string(ack.first_offset + i) +
                         ": acknowledged record " + std::to_string(ack.first_ticket + i) + " of life " +
                         std::to_string(life) + (place == places.end() ? " is gone" : " is not what stands there"));
        break;
      }
    }
  }
  return broken;
}

std::uint64_t Ledger::records_appended() const {
  std::uint64_t sum = 0;
  for (const Life& life : lives_) sum += life.appended;
  return sum;
}

}  // namespace millrace::sim
