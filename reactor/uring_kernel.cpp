#include "reactor/uring_kernel.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/assert.hpp"
#include "base/time.hpp"
#include "reactor/uring_buffers.hpp"
#include "reactor/uring_probe.hpp"
#include "reactor/uring_tables.hpp"
#include "reactor/uring_word.hpp"

namespace millrace {

namespace {

Nanos clock_nanos(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<Nanos>(time.tv_sec) * nanos_per_second + time.tv_nsec;
}

// How long the destructor waits for cancelled operations to end.
constexpr Nanos shutdown_wait_max = nanos_per_second;
// A thread that cannot be woken is a server that hangs: better one that ends.
constexpr int wake_tries_max = 1000;
// More than two io-wq workers only fight over the cores; bounded and unbounded work each.
constexpr unsigned system_workers_max = 2;

}  // namespace

UringKernel::UringKernel(const UringOptions& options)
    : options_(options),
      ring_(std::make_unique<UringRing>()),
      memory_(std::make_unique<RegisteredMemory>(*ring_)),
      files_(std::make_unique<RegisteredFiles>(*ring_)),
      buffers_(std::make_unique<ProvidedBuffers>(*ring_)),
      helper_(std::make_unique<HelperThread>([](void* self) { static_cast<UringKernel*>(self)->wake(); }, this)) {
  features_.name = "io_uring";
}

Result<std::unique_ptr<UringKernel>> UringKernel::create(const UringOptions& options, std::string& why) {
  std::unique_ptr<UringKernel> kernel(new UringKernel(options));
  KernelFeatures& features = kernel->features_;
  if (int failed = kernel->ring_->open(options, kernel->standing_, features.used, features.missing); failed != 0) {
    why = why_refused(-failed, kernel->standing_);
    return fail(error_from_errno(-failed));
  }
  unsigned workers[2] = {system_workers_max, system_workers_max};
  if (int refused = io_uring_register_iowq_max_workers(kernel->ring_->raw(), workers); refused != 0)
    kernel->miss({"IOWQ_MAX_WORKERS", "the system chooses how many threads serve punted work", "5.15"}, -refused);
  if (!kernel->helper_->start() || !try_worker(*kernel->ring_)) {
    why = thread_refused;
    return fail(Error::too_many_files);
  }
  kernel->open_tables();
  kernel->choose_receive();
  if (!kernel->choose_wake()) {
    why = why_refused(EMFILE, kernel->standing_);
    return fail(Error::too_many_files);
  }
  return kernel;
}

void UringKernel::miss(const MissingFeature& feature, int system_errno) {
  features_.missing.push_back(missing_line(feature, system_errno, "io_uring_register", standing_));
}

void UringKernel::open_tables() {
  const int memory = options_.registered_memory ? memory_->open() : 0;
  if (memory_->is_open()) features_.used.emplace_back("BUFFERS_SPARSE");
  else miss({"BUFFERS_SPARSE", "pages are pinned for each direct read and write", "5.19"}, -memory);
  const int files = options_.registered_files ? files_->open() : 0;
  if (options_.registered_files && files == 0) features_.used.emplace_back("FILES_SPARSE");
  else miss({"FILES_SPARSE", "files are looked up for each operation", "5.19"}, -files);
}

void UringKernel::choose_receive() {
  const ReceiveSupport support = try_receive(*ring_);
  shared_buffers_ = options_.provided_ring && support.provided_refusal == 0;
  // Multishot receive needs the buffer ring; the kernels that have it all have multishot accept.
  multishot_ = options_.multishot && support.multishot_refusal == 0;
  if (shared_buffers_) features_.used.emplace_back("PBUF_RING");
  else
    miss({"PBUF_RING", "sockets are polled and read into buffers picked here", "5.19"},
         options_.provided_ring ? support.provided_refusal : 0);
  if (multishot_) features_.used.emplace_back(shared_buffers_ ? "ACCEPT_MULTISHOT RECV_MULTISHOT" : "ACCEPT_MULTISHOT");
  else
    miss({"ACCEPT_MULTISHOT RECV_MULTISHOT", "each accept and receive is asked for anew", "6.0"},
         options_.multishot ? support.multishot_refusal : 0);
}

bool UringKernel::choose_wake() {
  const int refused = options_.message_wake ? send_ring_message(ring_->descriptor(), data_wake_message) : 0;
  message_wake_ = options_.message_wake && refused == 0;
  if (message_wake_) {
    // The trial's own message; one that is late wakes the loop once for nothing.
    for (int tries = 0; tries < 1000 && ring_->completions() == 0; ++tries) ring_->enter(true, nanos_per_milli);
    if (ring_->completions() > 0) ring_->consume(1);
    features_.used.emplace_back("SEND_MSG_RING");
    return true;
  }
  miss({"SEND_MSG_RING", "a sleeping thread is woken through an eventfd", "6.13"}, -refused);
  wake_descriptor_ = ::eventfd(0, EFD_CLOEXEC);
  if (wake_descriptor_ < 0) return false;
  arm_wake_descriptor();
  return true;
}

void UringKernel::arm_wake_descriptor() {
  bool room = make_room();
  MR_ASSERT(room);
  io_uring_sqe* sqe = ring_->next_sqe();
  io_uring_prep_read(sqe, wake_descriptor_, &wake_count_, sizeof(wake_count_), 0);
  sqe->user_data = data_wake_read;
}

UringKernel::~UringKernel() {
  helper_.reset();  // joins: no wake() from there any more
  if (ring_->descriptor() > 0 && in_ring_ > 0) {
    in_ring_ -= std::min<std::uint64_t>(in_ring_, ring_->discard_unsubmitted());
    io_uring_sync_cancel_reg everything{};
    everything.fd = -1;
    everything.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    everything.timeout.tv_sec = everything.timeout.tv_nsec = 0;
    io_uring_register_sync_cancel(ring_->raw(), &everything);
    for (Nanos end = now() + shutdown_wait_max; in_ring_ > 0 && now() < end;) {
      ring_->wait_only(10 * nanos_per_milli);
      unsigned count = ring_->completions();
      for (unsigned i = 0; i < count; ++i) {
        const io_uring_cqe& cqe = ring_->completion(i);
        bool last = cqe.user_data > data_own_max && (cqe.flags & IORING_CQE_F_MORE) == 0;
        if (last && in_ring_ > 0) --in_ring_;
      }
      ring_->consume(count);
    }
  }
  for (auto& [operation, connecting] : connecting_) ::close(connecting->descriptor);
  buffers_.reset();
  files_.reset();
  memory_.reset();
  ring_.reset();
  if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
}

void UringKernel::submit(Operation& operation) {
  operation.kernel_word = 0;
  if (runs_blocking(operation.code)) {
    // The table would hold the file, and with it the lock, for a moment after its close.
    if (operation.code == OperationCode::lock) files_->remove(operation.descriptor);
    helper_pending_.push(operation);
    return push_on_helper();
  }
  if (operation.code == OperationCode::receive && operation.provided && !shared_buffers_)
    operation.kernel_word |= word_polling;
  start(operation);
}

void UringKernel::start(Operation& operation) {
  if (pending_.empty() && make_room()) return issue(operation);
  set_place(operation, Whereabouts::pending);
  pending_.push(operation);
}

bool UringKernel::make_room() {
  if (ring_->has_room()) return true;
  enter(false, 0);
  return ring_->has_room();
}

void UringKernel::push_on_helper() {
  while (!helper_pending_.empty() && helper_->has_room()) helper_->push(*helper_pending_.pop());
}

void UringKernel::push_on() {
  while (!pending_.empty() && make_room()) issue(*pending_.pop());
  push_on_helper();
  if (starved_.empty()) return;
  for (std::size_t count = buffers_->available(); count > 0 && !starved_.empty(); --count) rearm(*starved_.pop());
}

void UringKernel::enter(bool wait, Nanos timeout) {
  ++counters_.enters;
  // What could not be submitted now (EAGAIN, EBUSY) stays in the queue for the next call.
  ring_->enter(wait, timeout, disk_in_ring_ == 0);
}

void UringKernel::wait_for_events(Nanos deadline) {
  Nanos timeout = wait_forever;
  if (deadline != wait_forever) timeout = deadline == wait_never ? 0 : deadline - now();
  if (timeout > 0) {
    // The waker sets woken_ before it looks at sleeping_, we the other way round: one of the two sees the other.
    sleeping_.store(true, std::memory_order_seq_cst);
    bool stay = !woken_.load(std::memory_order_seq_cst);
    if (stay) enter(true, timeout);
    sleeping_.store(false, std::memory_order_seq_cst);
    if (stay) return;
  }
  if (ring_->unsubmitted() > 0 || ring_->has_hidden_events()) enter(false, 0);
}

std::size_t UringKernel::poll(std::span<Completion> target, Nanos deadline) {
  push_on();
  bool ready = finished_at_ < finished_.size() || helper_->has_finished() || ring_->completions() > 0;
  wait_for_events(ready ? wait_never : deadline);
  if (woken_.load(std::memory_order_relaxed)) woken_.exchange(false, std::memory_order_acq_rel);
  return reap(target);
}

std::size_t UringKernel::reap_finished(std::span<Completion> target, std::size_t count) {
  while (count < target.size() && finished_at_ < finished_.size()) target[count++] = finished_[finished_at_++];
  if (finished_at_ == finished_.size()) {
    finished_.clear();
    finished_at_ = 0;
  }
  return count;
}

std::size_t UringKernel::reap(std::span<Completion> target) {
  std::size_t count = reap_finished(target, 0);
  for (std::int32_t result = 0; count < target.size();) {
    Operation* operation = helper_->take_finished(result);
    if (operation == nullptr) break;
    if (operation->code == OperationCode::listen && result >= 0) files_->remove(result);
    target[count++] = Completion{operation, result, {}, false};
  }
  unsigned available = ring_->completions();
  unsigned used = 0;
  while (count < target.size() && used < available)
    if (translate(ring_->completion(used++), target[count])) ++count;
  ring_->consume(used);
  return reap_finished(target, count);
}

Nanos UringKernel::now() { return clock_nanos(CLOCK_MONOTONIC); }
Nanos UringKernel::wall_now() { return clock_nanos(CLOCK_REALTIME); }

void UringKernel::wake() {
  if (woken_.exchange(true, std::memory_order_seq_cst)) return;  // somebody else's wake has not been consumed yet
  if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;
  if (message_wake_) {
    // It worked when it was tried; what can fail since is the system's memory, for a moment.
    int failed = send_ring_message(ring_->descriptor(), data_wake_message);
    for (int tries = 1; failed != 0 && tries < wake_tries_max; ++tries) {
      ::sched_yield();
      failed = send_ring_message(ring_->descriptor(), data_wake_message);
    }
    MR_ASSERT(failed == 0);
    return;
  }
  std::uint64_t one = 1;
  auto written = ::write(wake_descriptor_, &one, sizeof(one));
  MR_ASSERT(written == sizeof(one));
}

std::uint64_t UringKernel::seed() {
  std::uint64_t bits = 0;
  auto got = ::getrandom(&bits, sizeof(bits), 0);
  MR_ASSERT(got == sizeof(bits));
  return bits;
}

std::size_t UringKernel::register_memory(MutableBytes memory) {
  std::size_t registered = memory_->add(memory);
  features_.registered_bytes += registered;
  if (registered < memory.size() && memory_->is_open()) {
    const std::string name = "REGISTER_BUFFERS of " + std::to_string((memory.size() - registered) / KiB) + " KiB";
    miss({name.c_str(), "pages are pinned for each transfer there", "5.13"}, -memory_->refusal());
  }
  return registered;
}

Result<> UringKernel::provide_buffers(std::size_t count, std::size_t bytes_each) {
  auto opened = buffers_->open(count, bytes_each, shared_buffers_);
  if (opened || !shared_buffers_ || !buffers_->is_open()) return opened;  // only a refused ring has a way around
  shared_buffers_ = false;
  std::erase(features_.used, "PBUF_RING");
  miss({"PBUF_RING", "sockets are polled and read into buffers picked here", "5.19"}, buffers_->refusal());
  buffers_ = std::make_unique<ProvidedBuffers>(*ring_);
  return buffers_->open(count, bytes_each, shared_buffers_);
}

void UringKernel::recycle(const ProvidedBuffer& buffer) { buffers_->recycle(buffer); }

}  // namespace millrace
