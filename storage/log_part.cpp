// What a node is to its log: a follower that becomes the leader, a leader that another one deposed.
#include <utility>

#include "base/assert.hpp"
#include "storage/log_core.hpp"

namespace millrace {

// What node.meta says of earlier lives goes before what the command line says.
Result<> LogCore::choose_part(OpeningReport& report) {
  const ShardSlot& slot = meta_->slot();
  if (options_.follow && slot.promoted_from != 0 && slot.promoted_from == options_.leader_hash) {
    options_.follow = false;
    report.notes.push_back(
        "this node was promoted over the leader it is told to follow, and leads; it follows when it is told another "
        "leader");
    return {};
  }
  if (options_.follow) return {};
  if (slot.part == NodePart::deposed) {
    report.diagnosis = options_.directory +
                       ": another node was promoted over this one and leads its log. Start with --follow and that "
                       "node's address; to have this one lead again, promote it then.";
    return fail(Error::fenced);
  }
  if (slot.part == NodePart::follows)
    report.notes.push_back(
        "this was a follower's copy and leads from now on, under a new term: its old leader may be started "
        "again only with --follow");
  return {};
}

Task<> LogCore::depose(Epoch epoch) {
  MR_ASSERT(!options_.follow);
  if (epoch <= meta_->slot().epoch) co_return fail(Error::fenced);
  if (state_ != State::serving) co_return fail(state_ == State::closed ? Error::closed : Error::not_ready);
  // Refused from this instant on; when the epoch cannot be persisted, better nobody leads than two.
  deposed_ = true;
  auto becoming = meta_->become(NodePart::deposed, epoch, 0);
  auto became = co_await becoming;
  if (!became) co_return fail(became.error());
  while (state_ == State::serving && writer_->marks().durable < writer_->marks().appended) co_await progress_.wait();
  if (state_ != State::serving) co_return fail(Error::not_ready);
  co_return Result<>{};
}

Task<> LogCore::lead(Epoch epoch) {
  MR_ASSERT(options_.follow && epoch.value % epoch_term == 0);
  if (copy_damaged_) co_return fail(Error::data_loss);
  if (epoch <= meta_->slot().epoch) co_return fail(Error::fenced);
  if (state_ != State::serving) co_return fail(state_ == State::closed ? Error::closed : Error::not_ready);
  // Decided with this: whatever happens now, the next opening takes the term.
  auto becoming = meta_->become(NodePart::follows, Epoch{epoch.value - 1}, options_.leader_hash);
  auto became = co_await becoming;
  if (!became) co_return fail(became.error());
  if (state_ != State::serving) co_return fail(Error::not_ready);
  options_.follow = false;
  auto opening = open_anew();
  co_return co_await opening;
}

}  // namespace millrace
