#include "reactor/socket.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

namespace millrace {

namespace {
// The id of a buffer that was moved to the connection's own memory; no kernel has as many buffers.
constexpr std::int32_t spilled_id = std::numeric_limits<std::int32_t>::max();
}  // namespace

Socket::Socket(Reactor& reactor, std::int32_t descriptor, const SocketLimits& limits)
    : reactor_(reactor), limits_(limits), descriptor_(descriptor) {
  MR_ASSERT(descriptor >= 0 && limits.receive_queue_max > 0);
  for (Operation* operation : {&receive_, &receive_into_, &stop_wait_, &send_, &cancel_, &shutdown_})
    operation->context = this;
  receive_.code = OperationCode::receive;
  receive_.provided = receive_.multishot = true;
  receive_.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<Socket*>(self.context)->on_received(completion);
  };
  receive_into_.code = OperationCode::receive;
  receive_into_.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<Socket*>(self.context)->on_received_into(completion);
  };
  stop_wait_.code = OperationCode::cancel;
  stop_wait_.target = &receive_into_;
  stop_wait_.on_complete = [](Operation& self, const Completion&) {
    auto& socket = *static_cast<Socket*>(self.context);
    socket.stopping_wait_ = false;
    socket.progress_.notify();
  };
  send_.code = OperationCode::send;
  send_.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<Socket*>(self.context)->on_sent(completion);
  };
  cancel_.code = OperationCode::cancel;
  cancel_.target = &receive_;
  cancel_.on_complete = [](Operation& self, const Completion&) {
    auto& socket = *static_cast<Socket*>(self.context);
    socket.cancelling_ = false;
    socket.arm();
    socket.progress_.notify();
  };
  shutdown_.code = OperationCode::shutdown;
  shutdown_.on_complete = [](Operation& self, const Completion&) {
    auto& socket = *static_cast<Socket*>(self.context);
    socket.shutting_down_ = false;
    socket.progress_.notify();
  };
  spill_.context = this;
  spill_.fire = [](Timer& self) { static_cast<Socket*>(self.context)->spill(); };
  receive_.descriptor = receive_into_.descriptor = send_.descriptor = shutdown_.descriptor = descriptor;
}

Socket::~Socket() {
  while (waiting() > 0 && received_.back().id == spilled_id) {
    delete[] received_.back().data;
    received_.pop_back();
  }
  reactor_.withdraw(*this);
  reactor_.disarm(linger_);
  reactor_.disarm(spill_);
}

// --- Receiving.

bool Socket::wants_more(std::size_t waiting_max) const {
  if (!started_ || ended_ || aborted_ || failure_) return false;
  return discarding_ || (!paused_ && !closing_ && waiting() < waiting_max);
}

void Socket::arm() {
  // Read ahead again once half of the queue is free, so that a slow reader does not cost a cancel a buffer.
  if (receiving_ || receiving_into_ || cancelling_ || !wants_more(limits_.receive_queue_max / 2 + 1)) return;
  receiving_ = true;
  reactor_.submit(receive_);
}

void Socket::stop_receiving() {
  if (!receiving_ || cancelling_) return;
  cancelling_ = true;
  reactor_.submit(cancel_);
}

void Socket::on_received(const Completion& completion) {
  if (completion.buffer.id >= 0) {
    if (discarding_) recycle(completion.buffer);
    else received_.push_back(completion.buffer);
  }
  if (!completion.more) {
    receiving_ = false;
    if (completion.result == 0) ended_ = true;
    else if (completion.result < 0 && completion.result != -ECANCELED) fail_with(error_from_errno(-completion.result));
    progress_.notify();
  }
  arm();
  if (waiting() > 0) reactor_.request(*this);  // whether the owner keeps up shows after it has run
  wake_receiver();
}

void Socket::wake_receiver() {
  if (!receiver_) return;
  if (waiting() == 0 && !ended_ && !failure_) return;
  reactor_.make_ready(std::exchange(receiver_, {}));
}

ProvidedBuffer Socket::take() {
  ProvidedBuffer buffer = received_[received_at_++];
  if (received_at_ == received_.size()) {
    received_.clear();
    received_at_ = 0;
  }
  arm();
  return buffer;
}

std::optional<ProvidedBuffer> Socket::try_receive() {
  if (waiting() == 0) return std::nullopt;
  return take();
}

void Socket::recycle(const ProvidedBuffer& buffer) {
  if (buffer.id == spilled_id) delete[] buffer.data;
  else reactor_.kernel().recycle(buffer);
}

void Socket::spill() {
  for (std::size_t i = received_at_; i < received_.size(); ++i) {
    ProvidedBuffer& buffer = received_[i];
    if (buffer.id == spilled_id) continue;
    ProvidedBuffer own{new std::byte[buffer.length], buffer.length, spilled_id};
    std::memcpy(own.data, buffer.data, buffer.length);
    recycle(buffer);
    buffer = own;
  }
}

bool Socket::Receive::await_ready() const { return socket.waiting() > 0 || socket.ended_ || socket.failure_; }

void Socket::Receive::await_suspend(std::coroutine_handle<> handle) {
  MR_ASSERT(!socket.receiver_);
  socket.receiver_ = handle;
  socket.started_ = true;
  socket.arm();
}

Result<ProvidedBuffer> Socket::Receive::await_resume() {
  if (socket.waiting() > 0) return socket.take();
  if (socket.failure_) return fail(*socket.failure_);
  return ProvidedBuffer{};
}

void Socket::pause() {
  paused_ = true;
  stop_receiving();
}

void Socket::resume() {
  paused_ = false;
  arm();
}

// --- Receiving into the owner's memory.

Task<> Socket::hold() {
  pause();
  while (receiving_ || cancelling_) co_await progress_.wait();
  co_return Result<>{};
}

void Socket::ReceiveInto::await_suspend(std::coroutine_handle<> handle) {
  MR_ASSERT(!socket.filler_ && !socket.receiving_ && socket.waiting() == 0 && !target.empty());
  socket.filler_ = handle;
  socket.receive_into_.data = target.data();
  socket.receive_into_.length = static_cast<std::uint32_t>(std::min<std::size_t>(target.size(), 1 << 30));
  socket.receiving_into_ = true;
  socket.reactor_.submit(socket.receive_into_);
}

void Socket::on_received_into(const Completion& completion) {
  receiving_into_ = false;
  filled_ = completion.result;
  if (filled_ == 0) ended_ = true;
  if (filled_ < 0 && filled_ != -ECANCELED) fail_with(error_from_errno(-filled_));
  progress_.notify();
  arm();  // what comes while the socket closes
  reactor_.make_ready(std::exchange(filler_, {}));
}

Result<std::size_t> Socket::ReceiveInto::await_resume() {
  const std::int32_t filled = std::exchange(socket.filled_, 0);
  if (filled > 0) return static_cast<std::size_t>(filled);
  if (socket.failure_) return fail(*socket.failure_);
  if (socket.ended_) return std::size_t{0};
  return fail(Error::cancelled);
}

void Socket::stop_waiting() {
  if (!receiving_into_ || stopping_wait_) return;
  stopping_wait_ = true;
  reactor_.submit(stop_wait_);
}

// --- Sending.

Result<> Socket::send(Bytes bytes) {
  if (failure_) return fail(*failure_);
  if (closing_) return fail(Error::cancelled);
  if (bytes.size() > limits_.send_bytes_max - std::min(sends_.bytes(), limits_.send_bytes_max))
    return fail(Error::retry_later);
  sends_.append(bytes);
  reactor_.request(*this);
  return {};
}

Result<> Socket::send_owned(OwnedSend& owned) {
  if (failure_) return fail(*failure_);
  if (closing_) return fail(Error::cancelled);
  if (owned.bytes.size() > limits_.send_bytes_max - std::min(sends_.bytes(), limits_.send_bytes_max))
    return fail(Error::retry_later);
  sends_.append(owned);
  reactor_.request(*this);
  return {};
}

void Socket::turn_ended() {
  if (receiving_ && !wants_more(limits_.receive_queue_max)) stop_receiving();
  if (waiting() > 0 && !spill_.armed()) reactor_.arm(spill_, reactor_.now() + spill_after);
  if (!failure_) return start_send();
  if (sending_) return;  // the bytes in flight still belong to the kernel
  while (!sends_.empty()) {
    OwnedSend* owned = sends_.drop_first();
    if (owned != nullptr) owned->done(*owned, fail(*failure_));
  }
  progress_.notify();
}

void Socket::start_send() {
  if (sending_ || sends_.empty()) return;
  Bytes bytes = sends_.front();
  send_.data = read_only(bytes.data());
  send_.length = static_cast<std::uint32_t>(bytes.size());
  sending_ = true;
  reactor_.submit(send_);
}

void Socket::on_sent(const Completion& completion) {
  sending_ = false;
  if (completion.result > 0) {
    OwnedSend* owned = sends_.consume(static_cast<std::size_t>(completion.result));
    if (owned != nullptr) owned->done(*owned, {});
  } else {
    fail_with(completion.result == 0 ? Error::connection_lost : error_from_errno(-completion.result));
  }
  if (!sends_.empty()) reactor_.request(*this);
  progress_.notify();
}

// --- The end.

void Socket::fail_with(Error error) {
  if (failure_) return;
  failure_ = error;
  abort();
}

void Socket::abort() {
  if (aborted_ || descriptor_ < 0) return;
  aborted_ = true;
  if (!failure_) failure_ = closing_ ? Error::cancelled : Error::connection_lost;
  stop_receiving();
  stop_waiting();
  shutting_down_ = true;
  reactor_.submit(shutdown_);
  reactor_.request(*this);
  wake_receiver();
  progress_.notify();
}

void Socket::discard() {
  while (waiting() > 0) {
    ProvidedBuffer buffer = take();
    recycle(buffer);
  }
}

void Socket::linger_until(Nanos deadline) {
  lingered_ = false;
  linger_.context = this;
  linger_.fire = [](Timer& self) {
    auto& socket = *static_cast<Socket*>(self.context);
    socket.lingered_ = true;
    socket.progress_.notify();
  };
  reactor_.arm(linger_, deadline);
}

Task<> Socket::close(Nanos deadline) {
  MR_ASSERT(!closing_ && descriptor_ >= 0);
  closing_ = true;
  linger_until(deadline);
  while (!sends_.empty() && !failure_ && !lingered_) co_await progress_.wait();
  if (started_ && !failure_ && !lingered_) {
    discarding_ = true;
    stop_waiting();
    discard();
    arm();
    linger_until(std::min(deadline, reactor_.now() + discard_wait));
    while (!ended_ && !failure_ && !lingered_) co_await progress_.wait();
  }
  abort();
  while (!at_rest() || !sends_.empty()) co_await progress_.wait();
  discard();
  reactor_.disarm(linger_);
  Operation operation;
  operation.code = OperationCode::close;
  operation.descriptor = std::exchange(descriptor_, -1);
  auto closed = co_await Io(operation);
  if (!closed) co_return fail(closed.error());
  co_return Result<>{};
}

Task<std::int32_t> Socket::detach() {
  MR_ASSERT(sends_.empty() && !receiver_);
  paused_ = true;
  stop_receiving();
  while (!at_rest()) co_await progress_.wait();
  if (failure_) co_return fail(*failure_);
  co_return std::exchange(descriptor_, -1);
}

namespace {

// Gives a connect up at its deadline; lives in the coroutine's frame until the cancel has completed too.
struct ConnectLimit {
  explicit ConnectLimit(Reactor& on) : reactor(on) {}
  Reactor& reactor;
  Timer timer;
  Operation cancel;
  bool cancelling = false;
  bool expired = false;
  Signal done;

  void start(Operation& connect, Nanos deadline) {
    timer.context = cancel.context = this;
    cancel.code = OperationCode::cancel;
    cancel.target = &connect;
    cancel.on_complete = [](Operation& self, const Completion&) {
      auto& limit = *static_cast<ConnectLimit*>(self.context);
      limit.cancelling = false;
      limit.done.notify();
    };
    timer.fire = [](Timer& self) {
      auto& limit = *static_cast<ConnectLimit*>(self.context);
      limit.expired = limit.cancelling = true;
      limit.reactor.submit(limit.cancel);
    };
    reactor.arm(timer, deadline);
  }
};

}  // namespace

Task<std::int32_t> connect(Reactor& reactor, Address address, Nanos deadline) {
  Operation operation;
  operation.code = OperationCode::connect;
  operation.address = &address;
  ConnectLimit limit(reactor);
  limit.start(operation, deadline);
  auto connected = co_await Io(operation);
  reactor.disarm(limit.timer);
  while (limit.cancelling) co_await limit.done.wait();
  if (!connected)
    co_return fail(limit.expired && connected.error() == Error::cancelled ? Error::timed_out : connected.error());
  co_return static_cast<std::int32_t>(*connected);
}

}  // namespace millrace
