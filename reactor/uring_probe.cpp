#include "reactor/uring_probe.hpp"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

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
// 0, or the errno that says that it does not work.
int receive_one_byte(UringRing& ring, const std::array<int, 2>& pair, bool multishot) {
  io_uring_sqe* sqe = ring.next_sqe();
  if (sqe == nullptr) return ENOMEM;
  io_uring_prep_recv(sqe, pair[0], nullptr, 0, 0);
  if (multishot) sqe->ioprio |= IORING_RECV_MULTISHOT;
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = probe_group;
  sqe->user_data = probe_user_data;
  char byte = 'x';
  if (::send(pair[1], &byte, 1, MSG_NOSIGNAL) != 1) return errno;
  ProbeOutcome got = next_completion(ring);
  bool works = got.result == 1 && (got.flags & IORING_CQE_F_BUFFER) != 0;
  bool goes_on = (got.flags & IORING_CQE_F_MORE) != 0;
  if (goes_on) {
    ::shutdown(pair[1], SHUT_WR);
    next_completion(ring);
  }
  if (works && goes_on == multishot) return 0;
  return got.result < 0 ? -got.result : EOPNOTSUPP;
}

void find_support(UringRing& ring, const std::array<int, 2>& pair, ReceiveSupport& support) {
  // A failed attempt leaves the socket open and its byte unread, so the plainer one can be tried after it.
  support.multishot_refusal = receive_one_byte(ring, pair, true);
  support.provided_refusal = support.multishot_refusal == 0 ? 0 : receive_one_byte(ring, pair, false);
}

}  // namespace

ReceiveSupport try_receive(UringRing& ring) {
  constexpr unsigned entries = 8;
  constexpr std::size_t page = 4096;
  void* memory = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {ENOMEM, ENOMEM};
  ReceiveSupport support;
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
  registration.ring_entries = entries;
  registration.bgid = probe_group;
  const int registered = io_uring_register_buf_ring(ring.raw(), &registration, 0);
  support.provided_refusal = support.multishot_refusal = -registered;
  if (registered == 0) {
    auto* buffers = static_cast<io_uring_buf_ring*>(memory);
    std::byte* data = static_cast<std::byte*>(memory) + page;
    io_uring_buf_ring_init(buffers);
    for (unsigned i = 0; i < entries; ++i)
      io_uring_buf_ring_add(buffers, data + i * probe_buffer_bytes, probe_buffer_bytes, static_cast<unsigned short>(i),
                            io_uring_buf_ring_mask(entries), static_cast<int>(i));
    io_uring_buf_ring_advance(buffers, static_cast<int>(entries));
    std::array<int, 2> pair{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0) {
      find_support(ring, pair, support);
      ::close(pair[0]);
      ::close(pair[1]);
    } else {
      support.provided_refusal = support.multishot_refusal = errno;
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

}  // namespace millrace
