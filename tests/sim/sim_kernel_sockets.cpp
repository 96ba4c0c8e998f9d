// The socket operations of SimKernel. An operation that cannot go on waits at its socket and is tried again when the
// socket changes.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/sim/sim_kernel.hpp"

namespace millrace::sim {

namespace {
constexpr Nanos call_latency = 1'000;
constexpr Nanos connect_retry = 1'000'000'000;
constexpr std::uint64_t connect_attempts_max = 20;
}  // namespace

std::deque<SocketWaiter>* SimKernel::waiters_of(Flight& flight) {
  if (!flight.socket) return nullptr;
  switch (flight.operation->code) {
    case OperationCode::accept: return &flight.socket->accepters;
    case OperationCode::receive: return &flight.socket->receivers;
    case OperationCode::send: return &flight.socket->senders;
    default: return nullptr;
  }
}

void SimKernel::stop_waiting(Flight& flight) {
  if (auto* waiters = waiters_of(flight))
    std::erase_if(*waiters,
                  [&](const SocketWaiter& waiter) { return waiter.kernel == this && waiter.flight == flight.id; });
}

void SimKernel::begin_socket(Flights::iterator at) {
  Flight& flight = at->second;
  Operation& operation = *flight.operation;
  switch (operation.code) {
    case OperationCode::listen: do_listen(at); return;
    case OperationCode::connect:
      run_later<&SimKernel::try_connect>(flight.id, call_latency + static_cast<Nanos>(socket_random_.below(100'000)));
      return;
    case OperationCode::cancel: cancel(at); return;
    default: break;
  }
  if (std::int32_t error = claim(flight); error < 0 || !flight.socket) {
    finish_later(flight.id, error < 0 ? error : -ENOTSOCK, call_latency);
    return;
  }
  if (operation.code == OperationCode::shutdown) {
    if (flight.socket->listening) world_.network().close(flight.socket);
    else world_.network().shutdown(flight.socket);
    auto accepters = flight.socket->accepters;
    for (const SocketWaiter& waiter : accepters) waiter.kernel->socket_changed(waiter.flight);
    finish_later(flight.id, 0, call_latency);
    return;
  }
  auto& waiters = *waiters_of(flight);
  waiters.push_back({this, flight.id});
  // Tried as an event of its own, so that nothing completes inside the poll that handed it over.
  run_later<&SimKernel::progress>(flight.id, call_latency);
}

void SimKernel::socket_changed(std::uint64_t flight) {
  if (auto found = flights_.find(flight); found != flights_.end()) progress(found);
}

void SimKernel::progress(Flights::iterator at) {
  // Bytes keep their order only if the operation in front goes first.
  auto* waiters = waiters_of(at->second);
  if (waiters == nullptr || waiters->empty()) return;
  if (waiters->front().kernel != this || waiters->front().flight != at->first) return;
  switch (at->second.operation->code) {
    case OperationCode::accept: progress_accept(at); return;
    case OperationCode::receive:
      if (at->second.operation->provided) receive_provided(at);
      else progress_receive(at);
      return;
    case OperationCode::send: progress_send(at); return;
    default: return;
  }
}

void SimKernel::do_listen(Flights::iterator at) {
  Operation& operation = *at->second.operation;
  SocketPtr socket = world_.network().listen(node_, operation.address->port, operation.length);
  if (!socket) {
    finish_later(at->first, -EADDRINUSE, call_latency);
    return;
  }
  std::int32_t descriptor = process_.add_descriptor({world_.next_number(), 0, nullptr, socket});
  if (descriptor >= 0) operation.address->port = socket->port;
  else world_.network().close(socket);
  finish_later(at->first, descriptor, call_latency);
}

void SimKernel::try_connect(Flights::iterator at) {
  Flight& flight = at->second;
  int error = 0;
  SocketPtr socket = world_.network().connect(node_, *flight.operation->address, error);
  if (socket) {
    std::int32_t descriptor = process_.add_descriptor({world_.next_number(), 0, nullptr, socket});
    if (descriptor < 0) world_.network().close(socket);
    finish(at, descriptor);
    return;
  }
  if (error != EAGAIN) {
    finish(at, -error);
    return;
  }
  if (++flight.attempts == connect_attempts_max) {
    finish(at, -ETIMEDOUT);
    return;
  }
  run_later<&SimKernel::try_connect>(flight.id, connect_retry);
}

void SimKernel::progress_accept(Flights::iterator at) {
  Flight& flight = at->second;
  SocketPtr listener = flight.socket;
  if (!listener->listening) {
    finish(at, -EINVAL);
    return;
  }
  std::uint64_t id = at->first;
  while (!listener->backlog.empty()) {
    if (world_.strike(FaultClass::accept_aborted, node_)) {
      SocketPtr waiting = listener->backlog.front();
      listener->backlog.pop_front();
      world_.network().reset(waiting, ECONNRESET);
      if (waiting->peer) world_.network().reset(waiting->peer, ECONNRESET);
      world_.network().close(waiting);
      finish(at, -ECONNABORTED);
      return;
    }
    if (world_.strike(FaultClass::too_many_files, node_)) {
      finish(at, -EMFILE);
      return;
    }
    SocketPtr socket = listener->backlog.front();
    std::int32_t descriptor = process_.add_descriptor({world_.next_number(), 0, nullptr, socket});
    if (descriptor >= 0) listener->backlog.pop_front();
    bool more = descriptor >= 0 && flight.operation->multishot && !world_.strike(FaultClass::multishot_ended, node_);
    finish(at, descriptor, more);
    if (!more) return;
    at = flights_.find(id);
  }
}

void SimKernel::progress_receive(Flights::iterator at) {
  Flight& flight = at->second;
  bool end = false;
  MutableBytes target(flight.operation->data, flight.operation->length);
  std::int64_t got = world_.network().pull(flight.socket, target, end);
  if (got == 0 && !end) return;
  finish(at, static_cast<std::int32_t>(got));
}

void SimKernel::receive_provided(Flights::iterator at) {
  Flight& flight = at->second;
  SocketPtr socket = flight.socket;
  std::uint64_t id = at->first;
  for (;;) {
    if (socket->readable() == 0) {
      bool end = false;
      std::int64_t got = world_.network().pull(socket, {}, end);
      if (got < 0 || end) finish(at, static_cast<std::int32_t>(got));
      return;
    }
    if (free_buffers_.empty()) {
      starved_.push_back(id);  // goes on with the next recycled buffer
      return;
    }
    if (world_.strike(FaultClass::buffers_exhausted, node_)) {
      finish(at, -ENOBUFS);
      return;
    }
    std::int32_t buffer = free_buffers_.front();
    auto index = static_cast<std::size_t>(buffer);
    bool end = false;
    std::int64_t got = world_.network().pull(socket, {buffers_[index].get(), buffer_bytes_}, end);
    free_buffers_.pop_front();
    buffer_lent_[index] = true;
    bool more = flight.operation->multishot && !world_.strike(FaultClass::multishot_ended, node_);
    finish(at, static_cast<std::int32_t>(got), more, {buffers_[index].get(), static_cast<std::uint32_t>(got), buffer});
    if (!more) return;
    at = flights_.find(id);
  }
}

void SimKernel::progress_send(Flights::iterator at) {
  Flight& flight = at->second;
  const Operation& operation = *flight.operation;
  while (flight.done < operation.length) {
    std::int64_t taken =
        world_.network().push(flight.socket, {operation.data + flight.done, operation.length - flight.done});
    if (taken == 0) return;  // the window is full: the peer's reading wakes us
    if (taken < 0) break;
    flight.done += static_cast<std::uint64_t>(taken);
  }
  // Bytes that left before the connection failed are reported as a short send.
  if (flight.done == operation.length || flight.done > 0) finish(at, static_cast<std::int32_t>(flight.done));
  else finish(at, -EPIPE);
}

void SimKernel::close_descriptor(Flights::iterator at) {
  auto* file = process_.descriptor(at->second.operation->descriptor);
  if (file == nullptr) {
    finish_later(at->first, -EBADF, call_latency);
    return;
  }
  if (file->inode) node_.disk.release(file->inode, file->number);
  if (SocketPtr socket = file->socket) {
    // Operations in flight keep the connection; it ends with the last of them.
    socket->closed = true;
    if (socket->receivers.empty() && socket->senders.empty() && socket->accepters.empty())
      world_.network().close(socket);
  }
  process_.remove_descriptor(at->second.operation->descriptor);
  finish_later(at->first, 0, call_latency);
}

void SimKernel::cancel(Flights::iterator at) {
  Operation* target = at->second.operation->target;
  std::int32_t result = -ENOENT;
  auto found = flights_.end();
  for (auto other = flights_.begin(); other != flights_.end(); ++other)
    if (other->second.operation == target && other->first != at->first) found = other;
  if (found != flights_.end()) {
    OperationCode code = found->second.operation->code;
    bool waits = code == OperationCode::accept || code == OperationCode::receive || code == OperationCode::send ||
                 code == OperationCode::connect;
    result = waits ? 0 : -EALREADY;
  }
  std::uint64_t id = at->first;
  if (result == 0) {
    // Which of the two completions comes first is anybody's guess.
    std::uint64_t done = found->second.done;
    std::int32_t target_result = done > 0 ? static_cast<std::int32_t>(done) : -ECANCELED;
    if (socket_random_.below(2) == 0) {
      finish(found, target_result);
      finish_later(id, 0, call_latency);
      return;
    }
    stop_waiting(found->second);
    finish_later(found->first, target_result, 2 * call_latency);
  }
  finish_later(id, result, call_latency);
}

}  // namespace millrace::sim
