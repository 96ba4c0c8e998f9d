#include "server/quorum.hpp"

#include <algorithm>
#include <functional>

namespace millrace {

void Quorum::durable(Lsn end, Nanos now) {
  if (end <= durable_) return;
  durable_ = end;
  if (wanted_ == 0) return;
  if (!waits_.empty() && now - waits_.back().since < quorum_wait_step) waits_.back().end = end;
  else waits_.push_back({end, now});
  raise();
}

void Quorum::reported(std::vector<Lsn> ends) {
  if (wanted_ == 0 || ends.size() < wanted_) return;
  std::ranges::nth_element(ends, ends.begin() + (wanted_ - 1), std::greater<>{});
  // Followers may be durable before the leader is.
  reported_ = std::max(reported_, ends[wanted_ - 1]);
  raise();
}

void Quorum::raise() {
  replicated_ = std::max(replicated_, std::min(durable_, reported_));
  while (!waits_.empty() && waits_.front().end <= replicated_) waits_.pop_front();
  // They have everything again that is older than the longest wait.
  if (replicated_ >= given_up_ && replicated_ > Lsn{}) missing_ = false;
}

void Quorum::tick(Nanos now) {
  while (!waits_.empty() && now >= waits_.front().since + quorum_wait_max) {
    given_up_ = waits_.front().end;
    missing_ = true;
    waits_.pop_front();
  }
}

Lsn Quorum::answerable() const { return wanted_ == 0 || missing_ ? durable_ : std::max(replicated_, given_up_); }

}  // namespace millrace
