#include "storage/control_batches.hpp"

namespace millrace {

namespace {

template <class T>
void append(std::vector<std::byte>& target, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  Bytes bytes = as_bytes(&value, sizeof(T));
  target.insert(target.end(), bytes.begin(), bytes.end());
}

template <class T>
Result<T> read_whole(Bytes body) {
  if (body.size() != sizeof(T)) return fail(Error::bad_body);
  return load<T>(body);
}

struct EntryHead {
  CatalogueTag tag;
  std::uint8_t zeros[3] = {};
  std::uint32_t length;
};
static_assert(sizeof(EntryHead) == 8);

constexpr std::size_t producer_entry_bytes = 16;

}  // namespace

void write_catalogue_stream(std::vector<std::byte>& body, StreamId id, std::string_view name) {
  MR_ASSERT(!name.empty() && name.size() <= stream_name_bytes_max);
  append(body, EntryHead{.tag = CatalogueTag::stream, .length = static_cast<std::uint32_t>(sizeof(id) + name.size())});
  append(body, id);
  Bytes text = bytes_of(name);
  body.insert(body.end(), text.begin(), text.end());
}

void write_catalogue_producer(std::vector<std::byte>& body, ProducerId id, std::uint32_t epoch) {
  append(body, EntryHead{.tag = CatalogueTag::producer, .length = producer_entry_bytes});
  append(body, id);
  append(body, epoch);
  append(body, std::uint32_t{0});
}

Result<bool> CatalogueReader::next(CatalogueEntry& entry) {
  if (rest_.empty()) return false;
  if (rest_.size() < sizeof(EntryHead)) return fail(Error::bad_body);
  auto head = load<EntryHead>(rest_);
  Bytes rest = rest_.subspan(sizeof(EntryHead));
  if (!all_zero(as_bytes(head.zeros, sizeof(head.zeros))) || head.length > rest.size()) return fail(Error::bad_body);
  Bytes fields = rest.first(head.length);
  entry = {};
  entry.tag = head.tag;
  if (head.tag == CatalogueTag::stream) {
    if (fields.size() <= sizeof(StreamId) || fields.size() > sizeof(StreamId) + stream_name_bytes_max)
      return fail(Error::bad_body);
    entry.stream_id = load<StreamId>(fields);
    Bytes name = fields.subspan(sizeof(StreamId));
    entry.name = {reinterpret_cast<const char*>(name.data()), name.size()};
    if (entry.stream_id != stream_id_of(entry.name)) return fail(Error::bad_body);
  } else if (head.tag == CatalogueTag::producer) {
    if (fields.size() != producer_entry_bytes || load<std::uint32_t>(fields, 12) != 0) return fail(Error::bad_body);
    entry.producer_id = load<ProducerId>(fields);
    entry.producer_epoch = load<std::uint32_t>(fields, 8);
  } else {
    return fail(Error::bad_body);
  }
  rest_ = rest.subspan(head.length);
  return true;
}

void write_state_piece_head(std::vector<std::byte>& body, std::uint32_t piece, std::uint32_t pieces,
                            Lsn first_not_included) {
  MR_ASSERT(piece < pieces);
  append(body, piece);
  append(body, pieces);
  append(body, first_not_included);
}

Result<StatePiece> read_state_piece(Bytes body) {
  if (body.size() < state_piece_head_bytes) return fail(Error::bad_body);
  StatePiece piece{load<std::uint32_t>(body), load<std::uint32_t>(body, 4), load<Lsn>(body, 8),
                   body.subspan(state_piece_head_bytes)};
  if (piece.piece >= piece.pieces) return fail(Error::bad_body);
  return piece;
}

void write_epoch_body(std::vector<std::byte>& body, const EpochBody& value) { append(body, value); }

Result<EpochBody> read_epoch_body(Bytes body) {
  Result<EpochBody> read = read_whole<EpochBody>(body);
  if (read && (read->epoch.value == 0 || read->lost_end < read->lost_first)) return fail(Error::bad_body);
  return read;
}

void write_seal_body(std::vector<std::byte>& body, const SealBody& value) { append(body, value); }

Result<SealBody> read_seal_body(Bytes body) {
  Result<SealBody> read = read_whole<SealBody>(body);
  if (read && read->reserved != 0) return fail(Error::bad_body);
  return read;
}

void write_trim_body(std::vector<std::byte>& body, const TrimBody& value) { append(body, value); }

Result<TrimBody> read_trim_body(Bytes body) { return read_whole<TrimBody>(body); }

BatchHeader control_header(BatchKind kind, Bytes body) {
  MR_ASSERT(kind != BatchKind::data && batch_span(static_cast<std::uint32_t>(body.size())) <= batch_bytes_max);
  BatchHeader header;
  header.kind = kind;
  header.body_hash = hash128(body);
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.raw_bytes = body.size();
  return header;
}

}  // namespace millrace
