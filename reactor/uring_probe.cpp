#include "reactor/uring_probe.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/time.hpp"

namespace millrace {

namespace {

constexpr std::uint16_t probe_group = 65535;
constexpr std::size_t probe_buffer_bytes = 64;
constexpr std::uint64_t probe_user_data = 1;

struct ProbeOutcome {
  std::int32_t result = -EINVAL;
  unsigned flags = 0;
};

// One completion, with a bound so that a kernel that never answers cannot hang the start.
ProbeOutcome next_completion(UringRing& ring) {
  for (int tries = 0; tries < 100 && ring.completions() == 0; ++tries) ring.enter(true, 10 * nanos_per_milli);
  if (ring.completions() == 0) return {};
  ProbeOutcome outcome{ring.completion(0).res, ring.completion(0).flags};
  ring.consume(1);
  return outcome;
}

// Sends one byte through `pair` and receives it. The last completion has come when this returns.
bool receive_one_byte(UringRing& ring, const std::array<int, 2>& pair, bool multishot) {
  io_uring_sqe* sqe = ring.next_sqe();
  if (sqe == nullptr) return false;
  io_uring_prep_recv(sqe, pair[0], nullptr, 0, 0);
  if (multishot) sqe->ioprio |= IORING_RECV_MULTISHOT;
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = probe_group;
  sqe->user_data = probe_user_data;
  char byte = 'x';
  if (::send(pair[1], &byte, 1, MSG_NOSIGNAL) != 1) return false;
  ProbeOutcome got = next_completion(ring);
  bool works = got.result == 1 && (got.flags & IORING_CQE_F_BUFFER) != 0;
  bool goes_on = (got.flags & IORING_CQE_F_MORE) != 0;
  if (goes_on) {
    ::shutdown(pair[1], SHUT_WR);
    next_completion(ring);
  }
  return works && goes_on == multishot;
}

ReceiveSupport receive_support(UringRing& ring, const std::array<int, 2>& pair) {
  // A failed attempt leaves the socket open and its byte unread, so the plainer one can be tried after it.
  if (receive_one_byte(ring, pair, true)) return ReceiveSupport::provided_multishot;
  if (receive_one_byte(ring, pair, false)) return ReceiveSupport::provided;
  return ReceiveSupport::plain;
}

}  // namespace

ReceiveSupport try_receive(UringRing& ring) {
  constexpr unsigned entries = 8;
  constexpr std::size_t page = 4096;
  void* memory = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ReceiveSupport::plain;
  ReceiveSupport support = ReceiveSupport::plain;
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
  registration.ring_entries = entries;
  registration.bgid = probe_group;
  if (io_uring_register_buf_ring(ring.raw(), &registration, 0) == 0) {
    auto* buffers = static_cast<io_uring_buf_ring*>(memory);
    std::byte* data = static_cast<std::byte*>(memory) + page;
    io_uring_buf_ring_init(buffers);
    for (unsigned i = 0; i < entries; ++i)
      io_uring_buf_ring_add(buffers, data + i * probe_buffer_bytes, probe_buffer_bytes, static_cast<unsigned short>(i),
                            io_uring_buf_ring_mask(entries), static_cast<int>(i));
    io_uring_buf_ring_advance(buffers, static_cast<int>(entries));
    std::array<int, 2> pair{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0) {
      support = receive_support(ring, pair);
      ::close(pair[0]);
      ::close(pair[1]);
    }
    io_uring_unregister_buf_ring(ring.raw(), probe_group);
  }
  ::munmap(memory, 2 * page);
  return support;
}

bool try_worker(UringRing& ring) {
  io_uring_sqe* sqe = ring.next_sqe();
  if (sqe == nullptr) return false;
  io_uring_prep_nop(sqe);
  sqe->flags |= IOSQE_ASYNC;
  sqe->user_data = probe_user_data;
  return next_completion(ring).result != -ECANCELED;
}

int send_ring_message(int target, std::uint64_t user_data) {
  constexpr unsigned register_send_msg_ring = 31;  // IORING_REGISTER_SEND_MSG_RING, newer than liburing 2.3
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_MSG_RING;
  sqe.fd = target;
  sqe.off = user_data;
  int result = io_uring_register(static_cast<unsigned>(-1), register_send_msg_ring, &sqe, 1);
  return result < 0 ? result : 0;
}

std::optional<int> read_io_uring_disabled() {
  int descriptor = ::open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  char digit = 0;
  auto got = ::read(descriptor, &digit, 1);
  ::close(descriptor);
  if (got != 1 || digit < '0' || digit > '9') return std::nullopt;
  return digit - '0';
}

std::string why_refused(int system_errno, std::optional<int> io_uring_disabled) {
  switch (system_errno) {
    case EPERM:
    case EACCES:
      if (io_uring_disabled == 2)
        return "io_uring is switched off on this machine (sysctl kernel.io_uring_disabled is 2); switch it on with "
               "`sysctl -w kernel.io_uring_disabled=0`";
      if (io_uring_disabled == 1)
        return "io_uring is reserved for administrators (sysctl kernel.io_uring_disabled is 1); run as root, put this "
               "user into the group named by kernel.io_uring_group, or set kernel.io_uring_disabled=0";
      return "io_uring is denied by a security filter (seccomp or an LSM), as container runtimes install by default; "
             "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile";
    case ENOSYS:
      return "this kernel has no io_uring, or a security filter (seccomp) hides it; run on Linux 6.1 or newer, and in "
             "a "
             "container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile";
    case EINVAL: return "this kernel's io_uring is too old; run on Linux 6.1 or newer";
    case ENOMEM:
      return "the limit on locked memory or the machine's memory is used up, so io_uring cannot set up its queues; "
             "raise it with `ulimit -l` (LimitMEMLOCK= in a systemd unit) or free memory";
    case EMFILE:
    case ENFILE: return "out of file descriptors, so io_uring cannot be opened; raise the limit with `ulimit -n`";
    default: return std::string("io_uring cannot be set up: ") + std::strerror(system_errno);
  }
}

}  // namespace millrace
