// The bodies of control batches: what a log says about itself. Layout: storage/FORMAT.md, "Control batches".
//
// Writers append to a vector (control batches are rare: off the hot path). Readers view the body in place. Every reader
// answers bad_body for what it cannot read. Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/batch.hpp"

namespace millrace {

/// Longest name of a stream, in bytes.
inline constexpr std::size_t stream_name_bytes_max = 255;

enum class CatalogueTag : std::uint8_t { stream = 1, producer = 2 };

struct CatalogueEntry {
  CatalogueTag tag{};
  StreamId stream_id{};      // stream
  std::string_view name;     // stream
  ProducerId producer_id{};  // producer
  std::uint32_t producer_epoch = 0;
};

void write_catalogue_stream(std::vector<std::byte>& body, StreamId id, std::string_view name);
void write_catalogue_producer(std::vector<std::byte>& body, ProducerId id, std::uint32_t epoch);

/// Entries of a catalogue body one after the other; false at the end. A stream's id is checked against its name.
class CatalogueReader {
 public:
  explicit CatalogueReader(Bytes body) : rest_(body) {}
  Result<bool> next(CatalogueEntry& entry);

 private:
  Bytes rest_;
};

/// A piece of the tables at the start of a day; `rows` are state rows (state_rows.hpp).
struct StatePiece {
  std::uint32_t piece = 0;
  std::uint32_t pieces = 0;
  Lsn first_not_included{};
  Bytes rows;
};
inline constexpr std::size_t state_piece_head_bytes = 16;
/// Appends the head; the rows follow by write_row().
void write_state_piece_head(std::vector<std::byte>& body, std::uint32_t piece, std::uint32_t pieces,
                            Lsn first_not_included);
Result<StatePiece> read_state_piece(Bytes body);

struct EpochBody {
  Epoch epoch{};
  Lsn lost_first{};  // both 0 = nothing lost
  Lsn lost_end{};
  std::uint64_t offset_bump = 0;  // every stream known then skipped so many offsets and ids
};
static_assert(sizeof(EpochBody) == 32);

struct SealBody {
  Day day{};
  std::uint32_t reserved = 0;
  std::uint64_t batches = 0;  // of the day, the seal not counted
  std::uint64_t records = 0;
  std::uint64_t body_bytes = 0;
  Epoch epoch{};
};
static_assert(sizeof(SealBody) == 40);

struct TrimBody {
  StreamId stream_id{};
  Offset first_kept{};
};
static_assert(sizeof(TrimBody) == 16);

void write_epoch_body(std::vector<std::byte>& body, const EpochBody& value);
Result<EpochBody> read_epoch_body(Bytes body);
void write_seal_body(std::vector<std::byte>& body, const SealBody& value);
Result<SealBody> read_seal_body(Bytes body);
void write_trim_body(std::vector<std::byte>& body, const TrimBody& value);
Result<TrimBody> read_trim_body(Bytes body);

/// A header for a control batch around `body`: kind, hash and lengths set; lsn, times, day and chain are the leader's.
BatchHeader control_header(BatchKind kind, Bytes body);

}  // namespace millrace
