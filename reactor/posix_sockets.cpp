#include "reactor/posix_sockets.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

#include "base/assert.hpp"
#include "reactor/uring_address.hpp"

namespace millrace {

namespace {
// Traffic asks for MSG_DONTWAIT each time; connect and accept have no such flag.
void make_nonblocking(int descriptor) { ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK); }

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }
}  // namespace

PosixSockets::PosixSockets() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

PosixSockets::~PosixSockets() {
  if (epoll_ >= 0) ::close(epoll_);
}

bool PosixSockets::watch_wake(int descriptor) {
  wake_ = descriptor;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = descriptor;
  return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

PosixSockets::Socket& PosixSockets::socket_of(int descriptor) {
  MR_ASSERT(descriptor >= 0);
  if (static_cast<std::size_t>(descriptor) >= sockets_.size())
    sockets_.resize(static_cast<std::size_t>(descriptor) + 64);
  return sockets_[static_cast<std::size_t>(descriptor)];
}

void PosixSockets::watch(int descriptor, Socket& socket) {
  if (socket.watched) return;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.fd = descriptor;
  socket.watched = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

void PosixSockets::make_eager(int descriptor, Socket& socket) {
  if (socket.eager) return;
  socket.eager = true;
  eager_.push_back(descriptor);
}

void PosixSockets::complete(Operation& operation, std::int32_t result, const ProvidedBuffer& buffer, bool more) {
  done_.push_back(Completion{&operation, result, buffer, more});
}

void PosixSockets::start(Operation& operation) {
  if (operation.code == OperationCode::connect) return connect(operation);
  if (operation.descriptor < 0) return complete(operation, -EBADF);
  switch (operation.code) {
    case OperationCode::close: close(operation); return;
    case OperationCode::shutdown: {
      int failed = ::shutdown(operation.descriptor, SHUT_RDWR);
      complete(operation, failed != 0 ? -errno : 0);
      return;
    }
    default: break;
  }
  Socket& socket = socket_of(operation.descriptor);
  bool reads = operation.code == OperationCode::receive || operation.code == OperationCode::accept;
  if (reads) {
    if (operation.code == OperationCode::accept) make_nonblocking(operation.descriptor);
    socket.readers.push(operation);
    socket.readable = true;  // worth one try
  } else {
    MR_ASSERT(operation.code == OperationCode::send);
    operation.kernel_word = 0;  // bytes sent so far
    socket.writers.push(operation);
    socket.writable = true;
  }
  make_eager(operation.descriptor, socket);
}

void PosixSockets::run_eager() {
  std::vector<int> now;
  now.swap(eager_);
  for (int descriptor : now) {
    socket_of(descriptor).eager = false;
    serve(descriptor);
  }
  now.clear();
  if (eager_.empty()) eager_.swap(now);  // keeps the memory
}

void PosixSockets::serve(int descriptor) {
  Socket& socket = socket_of(descriptor);
  if (socket.writable && !socket.writers.empty()) serve_writers(descriptor, socket);
  if (socket.readable && !socket.readers.empty()) serve_readers(descriptor, socket);
  bool waits = !socket.readers.empty() || !socket.writers.empty();
  if (waits && !socket.watched) {
    watch(descriptor, socket);
    // An edge that came before watching is reported by EPOLL_CTL_ADD itself.
  }
}

void PosixSockets::serve_readers(int descriptor, Socket& socket) {
  for (int turn = 0; turn < turns_per_socket; ++turn) {
    Operation* operation = socket.readers.first();
    if (operation == nullptr) return;
    bool again = operation->code == OperationCode::accept ? accept_once(descriptor, socket, *operation)
                                                          : receive_once(descriptor, socket, *operation);
    if (!again) return;
  }
  if (!socket.readers.empty()) make_eager(descriptor, socket);
}

// True when the socket may have more to give.
bool PosixSockets::receive_once(int descriptor, Socket& socket, Operation& operation) {
  ProvidedBuffer buffer{};
  std::byte* target = operation.data;
  std::size_t length = operation.length;
  if (operation.provided) {
    if (free_.empty()) {
      ++starved_count_;
      starved_.push_back(descriptor);
      return false;
    }
    buffer.id = free_.back();
    buffer.data = target = memory_.data() + static_cast<std::size_t>(buffer.id) * bytes_each_;
    length = bytes_each_;
  }
  ssize_t got = ::recv(descriptor, target, length, MSG_DONTWAIT);
  if (got < 0 && would_block(errno)) {
    socket.readable = false;
    return false;
  }
  if (got > 0 && operation.provided) {
    free_.pop_back();
    buffer.length = static_cast<std::uint32_t>(got);
  }
  bool more = got > 0 && operation.multishot;
  if (!more) socket.readers.remove(operation);
  complete(operation, got < 0 ? -errno : static_cast<std::int32_t>(got), got > 0 ? buffer : ProvidedBuffer{}, more);
  return got > 0;
}

bool PosixSockets::accept_once(int descriptor, Socket& socket, Operation& operation) {
  int accepted = ::accept4(descriptor, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted < 0 && would_block(errno)) {
    socket.readable = false;
    return false;
  }
  if (accepted < 0 && errno == ECONNABORTED) return true;
  std::int32_t result = accepted < 0 ? -errno : accepted;
  if (accepted >= 0) {
    int one = 1;
    ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    socket_of(accepted) = Socket{};  // another kernel may have closed this number after a hand-over
  }
  bool more = accepted >= 0 && operation.multishot;
  if (!more) socket.readers.remove(operation);
  complete(operation, result, {}, more);
  return accepted >= 0;
}

void PosixSockets::serve_writers(int descriptor, Socket& socket) {
  while (Operation* operation = socket.writers.first()) {
    if (operation->code == OperationCode::connect) {
      int error = 0;
      socklen_t length = sizeof(error);
      if (::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
      socket.writers.remove(*operation);
      if (error != 0) {
        socket = Socket{};
        ::close(descriptor);
      }
      complete(*operation, error != 0 ? -error : descriptor);
      if (error != 0) return;
      continue;
    }
    if (!send_some(descriptor, socket, *operation)) return;
  }
}

// True when this send is over and the next may try.
bool PosixSockets::send_some(int descriptor, Socket& socket, Operation& operation) {
  for (;;) {
    std::size_t sent = operation.kernel_word;
    ssize_t count = ::send(descriptor, operation.data + sent, operation.length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && would_block(errno)) {
      socket.writable = false;
      return false;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count >= 0) operation.kernel_word += static_cast<std::uint64_t>(count);
    if (count >= 0 && operation.kernel_word < operation.length) continue;
    // Short only when the connection is failing; nothing sent at all says why.
    std::int32_t result = count < 0 && sent == 0 ? -errno : static_cast<std::int32_t>(operation.kernel_word);
    socket.writers.remove(operation);
    complete(operation, result);
    return true;
  }
}

void PosixSockets::connect(Operation& operation) {
  MR_ASSERT(operation.address != nullptr);
  SocketAddress to;
  if (!to_uring_address(*operation.address, to)) return complete(operation, -EINVAL);
  int descriptor = open_stream_socket(to.family());
  if (descriptor < 0) return complete(operation, descriptor);
  make_nonblocking(descriptor);
  if (::connect(descriptor, to.pointer(), to.length) == 0) return complete(operation, descriptor);
  if (errno != EINPROGRESS) {
    complete(operation, -errno);
    ::close(descriptor);
    return;
  }
  Socket& socket = socket_of(descriptor) = Socket{};
  operation.descriptor = descriptor;
  socket.writers.push(operation);
  watch(descriptor, socket);
}

void PosixSockets::close(Operation& operation) {
  Socket& socket = socket_of(operation.descriptor);
  cancel_all(socket.readers);
  cancel_all(socket.writers);
  socket = Socket{};
  complete(operation, ::close(operation.descriptor) != 0 ? -errno : 0);
}

void PosixSockets::cancel_all(OperationList& list) {
  while (Operation* operation = list.pop()) complete(*operation, -ECANCELED);
}

bool PosixSockets::cancel(Operation& target) {
  if (target.descriptor < 0) return false;
  Socket& socket = socket_of(target.descriptor);
  bool connecting = target.code == OperationCode::connect;
  if (!socket.readers.remove(target) && !socket.writers.remove(target)) return false;
  // A send that was cut off half-way has sent what it sent.
  bool part = target.code == OperationCode::send && target.kernel_word > 0;
  complete(target, part ? static_cast<std::int32_t>(target.kernel_word) : -ECANCELED);
  if (connecting) {
    ::close(target.descriptor);
    socket = Socket{};
  }
  return true;
}

Result<> PosixSockets::provide_buffers(std::size_t count, std::size_t bytes_each) {
  MR_ASSERT(memory_.empty());
  memory_.resize(count * bytes_each);
  bytes_each_ = bytes_each;
  free_.reserve(count);
  for (std::size_t i = count; i > 0; --i) free_.push_back(static_cast<std::int32_t>(i - 1));
  return {};
}

void PosixSockets::recycle(const ProvidedBuffer& buffer) {
  MR_ASSERT(buffer.id >= 0 && static_cast<std::size_t>(buffer.id) * bytes_each_ < memory_.size());
  free_.push_back(buffer.id);
  while (!starved_.empty()) {
    int descriptor = starved_.back();
    starved_.pop_back();
    make_eager(descriptor, socket_of(descriptor));
  }
}

void PosixSockets::wait(Nanos timeout) {
  run_eager();
  if (has_work()) timeout = 0;
  std::array<epoll_event, events_per_wait> events;
  timespec limit{timeout / 1'000'000'000, timeout % 1'000'000'000};
  bool forever = timeout == wait_forever;
  int count =
      ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), forever ? nullptr : &limit, nullptr);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.fd == wake_) {
      std::uint64_t value = 0;
      [[maybe_unused]] ssize_t got = ::read(wake_, &value, sizeof(value));
      continue;
    }
    Socket& socket = socket_of(event.data.fd);
    bool failing = (event.events & (EPOLLERR | EPOLLHUP)) != 0;
    if (failing || (event.events & (EPOLLIN | EPOLLRDHUP)) != 0) socket.readable = true;
    if (failing || (event.events & EPOLLOUT) != 0) socket.writable = true;
    make_eager(event.data.fd, socket);
  }
  run_eager();
}

std::size_t PosixSockets::reap(std::span<Completion> target) {
  std::size_t count = 0;
  while (count < target.size() && !done_.empty()) {
    target[count++] = done_.front();
    done_.pop_front();
  }
  return count;
}

}  // namespace millrace
