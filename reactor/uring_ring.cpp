#include "reactor/uring_ring.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "base/time.hpp"
#include "reactor/kernel.hpp"

namespace millrace {

namespace {

// Newer than liburing 2.3's headers.
constexpr unsigned setup_no_sq_array = 1U << 16;
constexpr unsigned feature_no_iowait = 1U << 17;
constexpr unsigned enter_no_iowait = 1U << 7;

// Locked memory may be scarce: queues shrink to a quarter at a time, down to this.
constexpr unsigned submission_entries_min = 64;

struct Attempt {
  unsigned flags;
  const char* used;
  MissingFeature missing;  // what was taken away to get here; no name for the first
};

constexpr unsigned base_flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned defer_flags =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | base_flags;
constexpr unsigned coop_flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | base_flags;

// From best to plainest. What a row says is missing stays missing in the rows below it.
constexpr std::array attempts{
    Attempt{defer_flags | setup_no_sq_array, "SINGLE_ISSUER DEFER_TASKRUN TASKRUN_FLAG NO_SQARRAY", {}},
    Attempt{defer_flags,
            "SINGLE_ISSUER DEFER_TASKRUN TASKRUN_FLAG",
            {"NO_SQARRAY", "an index array is filled in once", "6.6"}},
    Attempt{coop_flags,
            "COOP_TASKRUN TASKRUN_FLAG",
            {"SINGLE_ISSUER DEFER_TASKRUN", "completions are run at any return to user space", "6.1"}},
    Attempt{IORING_SETUP_CQSIZE, "CQSIZE", {"COOP_TASKRUN", "completions interrupt the thread", "5.19"}},
};

// Says that the call was in vain this time, not that it is refused.
bool passing(int entered) { return entered == -EBUSY || entered == -EAGAIN || entered == -EINTR || entered == -ETIME; }

bool wanted(const UringOptions& options, unsigned flags) {
  if (!options.no_sq_array && (flags & setup_no_sq_array) != 0) return false;
  return options.defer_taskrun || (flags & IORING_SETUP_DEFER_TASKRUN) == 0;
}

}  // namespace

UringRing::~UringRing() {
  if (open_) io_uring_queue_exit(&ring_);
}

int UringRing::set_up(const UringOptions& options, unsigned flags) {
  io_uring_params params{};
  params.flags = flags;
  params.cq_entries = options.completion_entries;
  int descriptor = io_uring_setup(options.submission_entries, &params);
  if (descriptor < 0) return descriptor;
  if (int failed = io_uring_queue_mmap(descriptor, &params, &ring_); failed != 0) {
    ::close(descriptor);
    return failed;
  }
  ring_.features = params.features;
  if ((flags & setup_no_sq_array) == 0)
    for (unsigned i = 0; i < ring_.sq.ring_entries; ++i) ring_.sq.array[i] = i;
  open_ = true;
  return 0;
}

int UringRing::open_best(const UringOptions& options, const UringStanding& standing, std::string& used,
                         std::vector<std::string>& missing) {
  int failed = 0;  // of the attempt before; 0 = it was not wanted
  missing.clear();
  for (const Attempt& attempt : attempts) {
    if (attempt.missing.name != nullptr)
      missing.push_back(missing_line(attempt.missing, -failed, "io_uring_setup", standing));
    failed = 0;
    if (!wanted(options, attempt.flags)) continue;
    failed = set_up(options, attempt.flags);
    if (failed == 0) used = attempt.used;
    if (failed != -EINVAL) break;  // 0, or no flag is to blame: EPERM, ENOSYS, ENOMEM
  }
  return failed;
}

int UringRing::open(const UringOptions& options, const UringStanding& standing, std::vector<std::string>& used,
                    std::vector<std::string>& missing) {
  MR_ASSERT(!open_);
  UringOptions fitting = options;
  std::string flags;
  std::vector<std::string> stripped;
  int failed = open_best(fitting, standing, flags, stripped);
  while (failed == -ENOMEM && fitting.submission_entries > submission_entries_min) {
    fitting.submission_entries /= 4;
    fitting.completion_entries /= 4;
    failed = open_best(fitting, standing, flags, stripped);
  }
  if (failed != 0) return failed;
  used.push_back(flags);
  missing.insert(missing.end(), stripped.begin(), stripped.end());
  if (fitting.submission_entries != options.submission_entries) {
    const std::string name = "queues of " + std::to_string(options.submission_entries) + " entries";
    const std::string instead = std::to_string(fitting.submission_entries) + " are used";
    missing.push_back(missing_line({name.c_str(), instead.c_str(), ""}, ENOMEM, "io_uring_setup", standing));
  }
  // Without these, completions could get lost and waiting could not be bounded; every kernel since 5.11 has them.
  constexpr unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;
  if ((ring_.features & needed) != needed) return -ENOSYS;
  // A filter may allow the set-up and refuse the rest, with whatever errno it was told to.
  if (int entered = call(0, false, 0, false); entered < 0 && !passing(entered)) return entered;
  const int registered = io_uring_register_ring_fd(&ring_);
  registered_descriptor_ = registered == 1;
  if (registered_descriptor_) used.emplace_back("REGISTERED_RING");
  else
    missing.push_back(missing_line({"REGISTERED_RING", "the descriptor is looked up at each call", "5.18"},
                                   registered < 0 ? -registered : EINVAL, "io_uring_register", standing));
  no_iowait_ = options.no_iowait && (ring_.features & feature_no_iowait) != 0;
  if (no_iowait_) used.emplace_back("NO_IOWAIT");
  else
    missing.push_back(
        missing_line({"NO_IOWAIT", "an idle server is counted as waiting for I/O (/proc/pressure/io)", "6.15"},
                     options.no_iowait ? EINVAL : 0, "io_uring_enter", standing));
  return 0;
}

io_uring_sqe* UringRing::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe != nullptr) std::memset(sqe, 0, sizeof(*sqe));
  return sqe;
}

unsigned UringRing::unsubmitted() const { return ring_.sq.sqe_tail - io_uring_smp_load_acquire(ring_.sq.khead); }

bool UringRing::has_hidden_events() const {
  return (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

int UringRing::enter(bool wait, Nanos timeout, bool parked) {
  io_uring_smp_store_release(ring_.sq.ktail, ring_.sq.sqe_tail);
  ring_.sq.sqe_head = ring_.sq.sqe_tail;
  return call(unsubmitted(), wait, timeout, parked);
}

unsigned UringRing::discard_unsubmitted() {
  unsigned count = unsubmitted();
  ring_.sq.sqe_tail -= count;
  return count;
}

int UringRing::wait_only(Nanos timeout) { return call(0, true, timeout, false); }

int UringRing::call(unsigned to_submit, bool wait, Nanos timeout, bool parked) {
  unsigned flags = IORING_ENTER_GETEVENTS | (registered_descriptor_ ? IORING_ENTER_REGISTERED_RING : 0U);
  if (wait && parked && no_iowait_) flags |= enter_no_iowait;
  __kernel_timespec limit{};
  io_uring_getevents_arg argument{};
  sigset_t* extra = nullptr;
  std::size_t extra_bytes = 0;
  if (wait && timeout != wait_forever) {
    limit.tv_sec = timeout / nanos_per_second;
    limit.tv_nsec = timeout % nanos_per_second;
    argument.ts = reinterpret_cast<std::uint64_t>(&limit);
    extra = reinterpret_cast<sigset_t*>(&argument);
    extra_bytes = sizeof(argument);
    flags |= IORING_ENTER_EXT_ARG;
  }
  int result =
      io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), to_submit, wait ? 1U : 0U, flags, extra, extra_bytes);
  MR_ASSERT(result >= 0 || passing(result) || !proven_);
  proven_ |= result >= 0;
  return result;
}

unsigned UringRing::completions() const { return io_uring_cq_ready(&ring_); }

const io_uring_cqe& UringRing::completion(unsigned index) const {
  return ring_.cq.cqes[(*ring_.cq.khead + index) & ring_.cq.ring_mask];
}

void UringRing::consume(unsigned count) { io_uring_cq_advance(&ring_, count); }

}  // namespace millrace
