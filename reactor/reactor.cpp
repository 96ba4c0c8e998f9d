#include "reactor/reactor.hpp"

#include <algorithm>
#include <bit>

namespace millrace {

namespace {
constexpr std::size_t completions_per_poll = 512;
constexpr int polls_per_turn_max = 4;
// After so much work a turn ends, and what is ready goes on in the next: hooks run and the kernel gets its operations, so that the
// disk is busy while the rest of a burst is handled.
constexpr Nanos turn_slice = 150'000;
}  // namespace

Reactor::Reactor(Kernel& kernel) : kernel_(kernel), random_(kernel.seed()), completions_(completions_per_poll) {
  refresh_time();
}

Reactor::~Reactor() {
  // What still waits is destroyed here; the kernel must not complete anything any more.
  abandon();
}

void Reactor::abandon() {
  while (!detached_.empty()) {
    auto handle = detached_.back();
    detached_.pop_back();
    handle.destroy();
  }
  ready_.clear();
}

void Reactor::refresh_time() {
  now_ = std::max(now_, kernel_.now());
  wall_now_ = kernel_.wall_now();
}

void Reactor::submit(Operation& operation) {
  MR_ASSERT(operation.on_complete != nullptr);
  ++in_flight_;
  kernel_.submit(operation);
}

void Reactor::spawn(Task<> task) {
  auto handle = task.release();
  MR_ASSERT(handle);
  handle.promise().reactor = this;
  handle.promise().detached = true;
  detached_.push_back(handle);
  make_ready(handle);
}

void Reactor::close_later(int descriptor) {
  auto done = std::find_if(closes_.begin(), closes_.end(), [](const auto& close) { return close->descriptor < 0; });
  if (done == closes_.end()) done = closes_.insert(closes_.end(), std::make_unique<Operation>());
  Operation& close = **done;
  close = {};
  close.code = OperationCode::close;
  close.descriptor = descriptor;
  close.on_complete = [](Operation& self, const Completion&) { self.descriptor = -1; };
  submit(close);
}

void detail::make_ready(Reactor& reactor, std::coroutine_handle<> handle) { reactor.make_ready(handle); }

void detail::PromiseBase::finish_detached(PromiseBase& promise, std::coroutine_handle<> handle) {
  auto& owned = promise.reactor->detached_;
  auto found = std::find(owned.begin(), owned.end(), handle);
  MR_ASSERT(found != owned.end());
  *found = owned.back();
  owned.pop_back();
  handle.destroy();
}

void Reactor::arm(Timer& timer, Nanos deadline) {
  MR_ASSERT(timer.fire != nullptr);
  timers_.arm(timer, deadline);
}

void Reactor::disarm(Timer& timer) { timers_.disarm(timer); }

Nanos Reactor::next_deadline() const {
  Timer* first = timers_.first();
  return first == nullptr ? wait_forever : first->deadline;
}

void Reactor::request(TurnHook& hook) {
  if (hook.requested_) return;
  hook.requested_ = true;
  hooks_.push_back(&hook);
}

void Reactor::withdraw(TurnHook& hook) {
  if (!hook.requested_) return;
  hook.requested_ = false;
  auto found = std::find(hooks_.begin(), hooks_.end(), &hook);
  MR_ASSERT(found != hooks_.end());
  *found = nullptr;  // not erased: run_hooks may be walking
}

void Reactor::count(const Operation& done, std::uint32_t result) {
  FileTraffic& files = stats_.files;
  switch (done.code) {
    case OperationCode::read:
      ++files.reads;
      files.read_bytes += result;
      break;
    case OperationCode::write:
      ++files.writes;
      files.durable_writes += done.durable;
      files.written_bytes += result;
      break;
    case OperationCode::write_zeroes: files.zeroed_bytes += done.extent; break;
    case OperationCode::sync: ++files.syncs; break;
    default: break;
  }
}

void Reactor::deliver(const Completion& completion) {
  MR_ASSERT(completion.operation != nullptr && completion.operation->on_complete != nullptr);
  if (!completion.more) {
    MR_ASSERT(in_flight_ > 0);
    --in_flight_;
  }
  ++stats_.completions;
  if (completion.result >= 0) count(*completion.operation, static_cast<std::uint32_t>(completion.result));
  completion.operation->on_complete(*completion.operation, completion);
}

void Reactor::run_ready(Nanos begin) {
  // Only what was ready at the start: a coroutine that yields goes on in the next turn, so no one starves the kernel.
  for (std::size_t count = ready_.size(); count > 0; --count) {
    auto handle = ready_.front();
    ready_.pop_front();
    handle.resume();
    if (kernel_.now() - begin >= turn_slice) break;
  }
}

void Reactor::run_hooks() {
  // A hook may request another (a commit completes, acknowledgements follow), which then runs in the same turn.
  for (std::size_t i = 0; i < hooks_.size(); ++i) {
    TurnHook* hook = hooks_[i];
    if (hook == nullptr) continue;
    hooks_[i] = nullptr;
    hook->requested_ = false;
    hook->turn_ended();
  }
  hooks_.clear();
}

void Reactor::count_turn(Nanos length) {
  ++stats_.turns;
  stats_.longest_turn = std::max(stats_.longest_turn, length);
  if (length > turn_length_wanted) ++stats_.long_turns;
  const auto bucket = static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length) / 1000));
  ++stats_.turns_by_length[std::min(bucket, stats_.turns_by_length.size() - 1)];
}

bool Reactor::turn(Nanos deadline) {
  bool busy = has_ready();
  Nanos wait = busy || inbox_had_messages_ || stopping_.load(std::memory_order_relaxed)
                   ? wait_never
                   : std::min(deadline, next_deadline());
  bool happened = busy;
  std::size_t count = kernel_.poll(completions_, wait);
  refresh_time();
  Nanos begin = now_;
  for (int polls = 1;; ++polls) {
    happened |= count > 0;
    for (std::size_t i = 0; i < count; ++i) deliver(completions_[i]);
    if (count < completions_.size() || polls == polls_per_turn_max) break;
    count = kernel_.poll(completions_, wait_never);
  }
  inbox_had_messages_ = false;
  for (Inbox* inbox : inboxes_) inbox_had_messages_ |= inbox->drain();
  happened |= inbox_had_messages_;
  for (Timer* first = timers_.first(); first != nullptr && first->deadline <= now_; first = timers_.first()) {
    timers_.disarm(*first);
    first->fire(*first);
    happened = true;
  }
  run_ready(begin);
  run_hooks();
  count_turn(kernel_.now() - begin);
  return happened;
}

void Reactor::run() {
  while (!stopping_.load(std::memory_order_acquire)) turn(wait_forever);
}

void Reactor::stop() {
  stopping_.store(true, std::memory_order_release);
  kernel_.wake();
}

}  // namespace millrace
