#include "sdk/socket_thread.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "base/assert.hpp"
#include "base/host_port.hpp"

namespace millrace {

namespace {

constexpr std::size_t receive_bytes = 256 * KiB;
constexpr std::size_t receive_align = 64;
constexpr int receives_a_turn_max = 8;  // of one connection, so that the others get theirs
constexpr std::size_t pieces_max = 128;
constexpr std::size_t events_max = 64;

Nanos clock_now(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return Nanos{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

Nanos steady_now() { return clock_now(CLOCK_MONOTONIC); }
Nanos wall_clock_now() { return clock_now(CLOCK_REALTIME); }

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = static_cast<std::uint64_t>(steady_now());
  return seed;
}

void Gate::open() {
  if (waiters_.load(std::memory_order_seq_cst) == 0) return;
  {
    const std::lock_guard lock(mutex_);
  }
  changed_.notify_all();
}

bool Gate::wait_until(std::unique_lock<std::mutex>& lock, Nanos deadline) {
  const Nanos left = deadline - steady_now();
  if (left <= 0) return false;
  // A day at most: the sum inside wait_for must not overflow.
  changed_.wait_for(lock, std::chrono::nanoseconds(std::min<Nanos>(left, 86'400'000'000'000)));
  return true;
}

Result<SocketThread::Address> SocketThread::resolve(const std::string& host_and_port) {
  const auto named = split_host_port(host_and_port);
  if (!named || named->port == 0) return fail(Error::invalid_argument);
  const std::string port = std::to_string(named->port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(named->host.empty() ? "127.0.0.1" : named->host.c_str(), port.c_str(), &hints, &found) != 0 ||
      found == nullptr)
    return fail(Error::not_found);
  Address address;
  MR_ASSERT(found->ai_addrlen <= sizeof address.bytes);
  std::memcpy(address.bytes, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  address.family = found->ai_family;
  ::freeaddrinfo(found);
  return address;
}

Result<std::vector<SocketThread::Address>> SocketThread::resolve_all(const std::string& servers) {
  std::vector<Address> all;
  for (std::size_t at = 0; at <= servers.size();) {
    const std::size_t end = std::min(servers.find(',', at), servers.size());
    auto address = resolve(servers.substr(at, end - at));
    if (!address) return fail(address.error());
    all.push_back(*address);
    at = end + 1;
  }
  return all;
}

SocketThread::SocketThread(std::vector<Address> servers) : servers_(std::move(servers)) {
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wake_ < 0) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  MR_ASSERT(::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) == 0);
  receive_memory_ = std::make_unique<std::byte[]>(receive_bytes + receive_align);
  receive_ =
      reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(receive_memory_.get()), receive_align));
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (const std::system_error&) {
    // A limit on processes: started() says so.
  }
}

SocketThread::~SocketThread() {
  if (started()) {
    stop_.store(true);
    wake();
    thread_.join();
  }
  for (const auto& connection : connections_) close_socket(*connection);
  if (wake_ >= 0) ::close(wake_);
  if (epoll_ >= 0) ::close(epoll_);
}

void SocketThread::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
}

void SocketThread::post(std::function<void(Nanos)> work) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  has_posted_.store(true, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst)) wake();
}

void SocketThread::run(std::function<void(Nanos)> work) {
  MR_ASSERT(!is_current());
  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  post([&](Nanos now) {
    work(now);
    const std::lock_guard lock(mutex);
    done = true;
    finished.notify_one();
  });
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return done; });
}

void SocketThread::signal(Driven& driven) {
  if (driven.ready_.exchange(true, std::memory_order_seq_cst)) return;
  Driven* top = ready_.load(std::memory_order_relaxed);
  do {
    driven.next_ready_.store(top, std::memory_order_relaxed);
  } while (!ready_.compare_exchange_weak(top, &driven, std::memory_order_seq_cst, std::memory_order_relaxed));
  // Whoever takes the flag wakes: one write however many threads append.
  if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false, std::memory_order_seq_cst)) wake();
}

Session& SocketThread::session(ShardIndex shard, std::uint32_t index) {
  for (const auto& connection : connections_) {
    const bool same = shard == wire::any_shard || connection->session.wanted_shard() == shard;
    if (same && connection->index == index) return connection->session;
  }
  SessionSettings settings;
  settings.shard = shard;
  settings.seed = random_seed();
  if (servers_.size() > 1) settings.look_elsewhere();
  connections_.push_back(std::make_unique<Connection>(settings, index));
  return connections_.back()->session;
}

void SocketThread::add(std::shared_ptr<Driven> driven, Nanos now) {
  Driven& added = *driven;
  driven_.emplace(&added, std::move(driven));
  added.advance(now);
  reschedule(added);
}

void SocketThread::remove(Driven& driven) {
  const auto found = driven_.find(&driven);
  if (found == driven_.end()) return;
  // It may stand among those that are ready: take them all out, keep the others for this turn.
  for (Driven* ready = ready_.exchange(nullptr, std::memory_order_seq_cst); ready != nullptr;) {
    Driven* next = ready->next_ready_.load(std::memory_order_relaxed);
    turn_ready_.push_back(ready);
    ready = next;
  }
  std::erase(turn_ready_, &driven);
  timers_.erase({driven.scheduled_, &driven});
  driven_.erase(found);
}

void SocketThread::reschedule(Driven& driven) {
  const Nanos deadline = driven.deadline();
  if (deadline >= driven.scheduled_) return;  // a timer that comes too early asks again then
  timers_.erase({driven.scheduled_, &driven});
  driven.scheduled_ = deadline;
  timers_.insert({deadline, &driven});
}

void SocketThread::advance_ready(Nanos now) {
  Driven* ready = ready_.exchange(nullptr, std::memory_order_seq_cst);
  const auto first = static_cast<std::ptrdiff_t>(turn_ready_.size());
  for (; ready != nullptr; ready = ready->next_ready_.load(std::memory_order_relaxed)) turn_ready_.push_back(ready);
  std::reverse(turn_ready_.begin() + first, turn_ready_.end());  // a stack: oldest first
  for (Driven* driven : turn_ready_) {
    driven->ready_.store(false, std::memory_order_seq_cst);
    driven->advance(now);
    reschedule(*driven);
  }
  turn_ready_.clear();
}

void SocketThread::expire_timers(Nanos now) {
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Driven& driven = *timers_.begin()->second;
    timers_.erase(timers_.begin());
    driven.scheduled_ = no_deadline;
    driven.advance(now);
    reschedule(driven);
    if (driven.scheduled_ <= now) break;  // it wants to go on: sockets first
  }
}

void SocketThread::run_posted(Nanos now) {
  if (!has_posted_.exchange(false, std::memory_order_seq_cst)) return;
  {
    const std::lock_guard lock(posted_mutex_);
    turn_posted_.swap(posted_);
  }
  for (auto& posted : turn_posted_) {
    // What it holds ends with it, before whoever waits for later work goes on and lets go of the rest.
    const auto work = std::move(posted);
    work(now);
  }
  turn_posted_.clear();
}

void SocketThread::turn(Nanos now) {
  run_posted(now);
  advance_ready(now);
  expire_timers(now);
  for (std::size_t i = 0; i < connections_.size(); ++i) drive(*connections_[i], now);
  if (gate_wanted_) {
    gate_wanted_ = false;
    gate_.open();
  }
}

void SocketThread::drive(Connection& connection, Nanos now) {
  Session& session = connection.session;
  if (now >= session.deadline()) session.advance(now);
  if (connection.fd >= 0 && (!session.wants_connection() || connection.attempt != session.attempt()))
    close_socket(connection);
  if (connection.fd < 0 && session.wants_connection()) open_socket(connection, now);
  if (connection.fd >= 0 && !connection.connecting && !connection.waits_to_write) write_socket(connection, now);
}

void SocketThread::open_socket(Connection& connection, Nanos now) {
  connection.attempt = connection.session.attempt();
  const Address& server = servers_[(connection.attempt - 1) % servers_.size()];
  connection.fd = ::socket(server.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connection.fd < 0) return connection.session.disconnected(error_from_errno(errno), now);
  const int on = 1;
  ::setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.ptr = &connection;
  MR_ASSERT(::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) == 0);
  connection.connecting = true;
  connection.waits_to_write = true;
  const int result = ::connect(connection.fd, reinterpret_cast<const sockaddr*>(server.bytes), server.length);
  if (result == 0) return finish_connect(connection, now);
  if (errno == EINPROGRESS) return;
  const Error error = error_from_errno(errno);
  close_socket(connection);
  connection.session.disconnected(error, now);
}

void SocketThread::close_socket(Connection& connection) {
  if (connection.fd >= 0) ::close(connection.fd);
  connection.fd = -1;
  connection.connecting = false;
  connection.waits_to_write = false;
}

void SocketThread::finish_connect(Connection& connection, Nanos now) {
  int failed = 0;
  socklen_t length = sizeof failed;
  ::getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &failed, &length);
  if (failed != 0) {
    close_socket(connection);
    return connection.session.disconnected(error_from_errno(failed), now);
  }
  connection.connecting = false;
  connection.session.connected(now);
  write_socket(connection, now);
}

void SocketThread::watch(Connection& connection, bool writing) {
  if (connection.waits_to_write == writing) return;
  connection.waits_to_write = writing;
  epoll_event event{};
  event.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN;
  event.data.ptr = &connection;
  MR_ASSERT(::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event) == 0);
}

void SocketThread::write_socket(Connection& connection, Nanos now) {
  Outbox& outbox = connection.session.outbox();
  Bytes pieces[pieces_max];
  iovec vectors[pieces_max];
  while (!outbox.empty()) {
    const std::size_t count = outbox.pieces(pieces);
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < count; ++i) {
      vectors[i] = {const_cast<std::byte*>(pieces[i].data()), pieces[i].size()};
      wanted += pieces[i].size();
    }
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(connection.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return watch(connection, true);
      const Error error = error_from_errno(errno);
      close_socket(connection);
      return connection.session.disconnected(error, now);
    }
    outbox.sent(static_cast<std::size_t>(sent));
    if (static_cast<std::size_t>(sent) < wanted) return watch(connection, true);
  }
  watch(connection, false);
}

void SocketThread::read_socket(Connection& connection, Nanos now) {
  for (int i = 0; i < receives_a_turn_max; ++i) {
    const ssize_t got = ::recv(connection.fd, receive_, receive_bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      const Error error = got == 0 ? Error::connection_lost : error_from_errno(errno);
      close_socket(connection);
      return connection.session.disconnected(error, now);
    }
    connection.session.received(Bytes(receive_, static_cast<std::size_t>(got)), now);
    // The session may have had enough of this connection; its socket is closed in the next turn.
    if (!connection.session.wants_connection() || connection.attempt != connection.session.attempt()) return;
    if (static_cast<std::size_t>(got) < receive_bytes) return;
  }
}

void SocketThread::sleep(Nanos now) {
  Nanos until = timers_.empty() ? no_deadline : timers_.begin()->first;
  for (const auto& connection : connections_) until = std::min(until, connection->session.deadline());
  asleep_.store(true, std::memory_order_seq_cst);
  if (ready_.load(std::memory_order_seq_cst) != nullptr || has_posted_.load(std::memory_order_seq_cst) || stop_.load())
    until = now;
  epoll_event events[events_max];
  timespec wait{};
  if (until > now && until != no_deadline) {
    wait.tv_sec = (until - now) / 1'000'000'000;
    wait.tv_nsec = (until - now) % 1'000'000'000;
  }
  const int count = ::epoll_pwait2(epoll_, events, events_max, until == no_deadline ? nullptr : &wait, nullptr);
  asleep_.store(false, std::memory_order_seq_cst);
  if (count <= 0) return;
  const Nanos woken = steady_now();
  for (int i = 0; i < count; ++i) {
    auto* connection = static_cast<Connection*>(events[i].data.ptr);
    if (connection == nullptr) {
      std::uint64_t drained = 0;
      [[maybe_unused]] const auto read_bytes = ::read(wake_, &drained, sizeof drained);
      continue;
    }
    if (connection->fd < 0) continue;
    if (connection->connecting) {
      if ((events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) finish_connect(*connection, woken);
      continue;
    }
    if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) read_socket(*connection, woken);
    if (connection->fd >= 0 && (events[i].events & EPOLLOUT) != 0) write_socket(*connection, woken);
  }
}

void SocketThread::loop() {
  while (!stop_.load(std::memory_order_seq_cst)) {
    const Nanos now = steady_now();
    turn(now);
    sleep(now);
  }
  run_posted(steady_now());
}

}  // namespace millrace
