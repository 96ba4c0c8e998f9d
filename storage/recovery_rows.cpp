#include "storage/recovery_rows.hpp"

#include "base/assert.hpp"

namespace millrace {

namespace {

using Row = RecoveryRow;
using Action = RecoveryAction;

constexpr std::array<RecoveryRowText, recovery_rows> table{{
    {Row::clean_empty, Action::go_on, "clean_empty", "the segment was prepared and never begun"},
    {Row::clean_end, Action::go_on, "clean_end", "everything verifies to the end and zeros follow"},
    {Row::tail_extends, Action::go_on, "tail_extends", "the tail goes on where the segment ends"},
    {Row::torn_cut, Action::cut_go_on, "torn_cut", "what was in flight at a crash reached the disk in part"},
    {Row::tail_then_cut, Action::cut_go_on, "tail_then_cut",
     "the tail goes on where the segment ends, and a crash tore what was in flight behind"},
    {Row::torn_header, Action::cut_go_on, "torn_header", "a crash tore the segment's very first write"},
    {Row::damaged_durable, Action::new_segment, "damaged_durable",
     "batches known to be durable do not verify; they are lost unless another copy exists"},
    {Row::damaged_tail, Action::new_segment, "damaged_tail",
     "a tail slot known to be durable does not verify; its batches are lost unless another copy exists"},
    {Row::unexplainable_far, Action::new_segment, "unexplainable_far",
     "bytes stand further behind the end than can be in flight: no crash does that"},
    {Row::unexplainable_group, Action::new_segment, "unexplainable_group",
     "the first group that does not verify is complete on the disk: no crash does that"},
    {Row::damaged_header, Action::new_segment, "damaged_header", "the segment's header block is damaged"},
    {Row::foreign, Action::refuse, "foreign", "this segment belongs to another log or place; nothing was touched"},
    {Row::unsupported, Action::refuse, "unsupported", "a newer program wrote this; nothing was touched"},
    {Row::closed_ok, Action::none, "closed_ok", "the closed segment is what its successor says"},
    {Row::closed_damaged, Action::none, "closed_damaged", "a closed segment does not verify in part"},
    {Row::closed_mismatch, Action::none, "closed_mismatch",
     "a closed segment verifies, but it is not the one its successor names"},
}};

constexpr bool in_order() {
  for (std::size_t row = 0; row < table.size(); ++row)
    if (static_cast<std::size_t>(table[row].row) != row) return false;
  return true;
}
static_assert(in_order());

}  // namespace

const RecoveryRowText& recovery_row_text(RecoveryRow row) {
  auto at = static_cast<std::size_t>(row);
  MR_ASSERT(at < table.size());
  return table[at];
}

}  // namespace millrace
