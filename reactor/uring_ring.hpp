// The pair of queues shared with the kernel: set-up with the best flags this kernel takes, submission entries, the one
// system call, and completion entries. Knows nothing of Operations.
//
// Thread: created, used and destroyed on one thread (SINGLE_ISSUER).
#pragma once

#include <liburing.h>

#include <string>
#include <vector>

#include "base/units.hpp"
#include "reactor/uring_options.hpp"
#include "reactor/uring_refusal.hpp"

namespace millrace {

class UringRing {
 public:
  UringRing() = default;
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;
  ~UringRing();

  /// 0 or -errno. Flags are stripped one by one until the kernel accepts, and the queues shrink to what the limit on
  /// locked memory allows; `used` and `missing` tell.
  int open(const UringOptions& options, const UringStanding& standing, std::vector<std::string>& used,
           std::vector<std::string>& missing);

  /// The next submission entry, cleared; nullptr when the queue is full (enter() makes room).
  io_uring_sqe* next_sqe();
  bool has_room() const { return unsubmitted() < ring_.sq.ring_entries; }
  /// Entries filled in that the system has not taken yet.
  unsigned unsubmitted() const;
  /// True when completions wait inside the system and only enter() brings them out.
  bool has_hidden_events() const;

  /// Submits everything and, when `wait`, sleeps until a completion is there or `timeout` ns passed (wait_forever = no
  /// limit). Returns -errno only for reasons the next call may cure: EBUSY, EAGAIN, EINTR, ETIME; others are bugs.
  /// `parked` = nothing is expected from a disk: the wait is not counted as waiting for I/O, where the system knows.
  int enter(bool wait, Nanos timeout, bool parked = false);
  /// Forgets the entries not submitted yet (returns how many), and waits without submitting: for shutting down.
  unsigned discard_unsubmitted();
  int wait_only(Nanos timeout);

  /// Completions that can be read now, and reading them in order.
  unsigned completions() const;
  const io_uring_cqe& completion(unsigned index) const;
  void consume(unsigned count);

  /// For the register calls of liburing.
  io_uring* raw() { return &ring_; }
  int descriptor() const { return ring_.ring_fd; }

 private:
  int open_best(const UringOptions& options, const UringStanding& standing, std::string& used,
                std::vector<std::string>& missing);
  int set_up(const UringOptions& options, unsigned flags);
  int call(unsigned to_submit, bool wait, Nanos timeout, bool parked);

  io_uring ring_{};
  bool open_ = false;
  bool registered_descriptor_ = false;
  bool no_iowait_ = false;
  bool proven_ = false;  // the one system call has worked once: an error no cure is known for is a bug from then on
};

}  // namespace millrace
