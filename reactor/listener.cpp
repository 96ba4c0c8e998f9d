#include "reactor/listener.hpp"

#include <cerrno>
#include <utility>

namespace millrace {

Listener::Listener(Reactor& reactor) : reactor_(reactor) {
  accept_.code = OperationCode::accept;
  accept_.multishot = true;
  accept_.context = cancel_.context = open_spare_.context = retry_.context = this;
  accept_.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<Listener*>(self.context)->on_accepted(completion);
  };
  cancel_.code = OperationCode::cancel;
  cancel_.target = &accept_;
  cancel_.on_complete = [](Operation& self, const Completion&) {
    auto& listener = *static_cast<Listener*>(self.context);
    listener.cancelling_ = false;
    listener.progress_.notify();
  };
  open_spare_.code = OperationCode::open_file;
  open_spare_.path = "/dev/null";
  open_spare_.open_flags = open_read;
  open_spare_.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<Listener*>(self.context)->on_spare(completion);
  };
  retry_.fire = [](Timer& self) { static_cast<Listener*>(self.context)->arm(); };
}

Listener::~Listener() { reactor_.disarm(retry_); }

Task<std::uint16_t> Listener::listen(Address address) {
  MR_ASSERT(descriptor_ < 0);
  Operation operation;
  operation.code = OperationCode::listen;
  operation.address = &address;
  operation.length = backlog;
  auto opened = co_await Io(operation);
  if (!opened) co_return fail(opened.error());
  descriptor_ = static_cast<std::int32_t>(*opened);
  accept_.descriptor = descriptor_;
  arm();
  co_return address.port;
}

void Listener::arm() {
  accepting_ = true;
  reactor_.submit(accept_);
}

void Listener::on_accepted(const Completion& completion) {
  if (completion.result >= 0) {
    if (spare_wanted_ && spare_ < 0 && !closing_) {
      undecided_.push_back(completion.result);
      take_spare();
    } else {
      add({completion.result, false});
    }
  }
  if (!completion.more) {
    accepting_ = false;
    if (!closing_) {
      if (completion.result < 0) ++failed_;
      bool spared = completion.result < 0 && give_up_spare(completion.result);
      reactor_.arm(retry_, reactor_.now() + (completion.result < 0 && !spared ? retry_after : 0));
    }
    progress_.notify();
  }
  wake_waiter();
}

void Listener::add(Accepted connection) {
  if (closing_ || accepted_.size() == accepted_max) {
    ++refused_;
    reactor_.close_later(connection.descriptor);
  } else {
    accepted_.push_back(connection);
  }
}

/// True when there is one descriptor now that was not there before.
bool Listener::give_up_spare(std::int32_t result) {
  if (spare_ < 0 || error_from_errno(-result) != Error::too_many_files) return false;
  reactor_.close_later(std::exchange(spare_, -1));
  return true;
}

void Listener::take_spare() {
  if (std::exchange(taking_spare_, true)) return;
  reactor_.submit(open_spare_);
}

/// A connection was accepted without a spare. If there is one again there is room for the connection as well.
void Listener::on_spare(const Completion& completion) {
  taking_spare_ = false;
  if (completion.result >= 0) spare_ = completion.result;
  while (!undecided_.empty()) {
    add({undecided_.front(), completion.result < 0});
    undecided_.pop_front();
  }
  progress_.notify();
  wake_waiter();
}

void Listener::wake_waiter() {
  if (waiter_ && (!accepted_.empty() || closing_)) reactor_.make_ready(std::exchange(waiter_, {}));
}

void Listener::Accept::await_suspend(std::coroutine_handle<> handle) {
  MR_ASSERT(!listener.waiter_);
  listener.waiter_ = handle;
}

Result<Listener::Accepted> Listener::Accept::await_resume() {
  if (listener.closing_ || listener.accepted_.empty()) return fail(Error::cancelled);
  Accepted connection = listener.accepted_.front();
  listener.accepted_.pop_front();
  return connection;
}

Task<> Listener::close() {
  MR_ASSERT(!closing_);
  closing_ = true;
  reactor_.disarm(retry_);
  wake_waiter();
  if (accepting_) {
    cancelling_ = true;
    reactor_.submit(cancel_);
  }
  while (accepting_ || cancelling_ || taking_spare_) co_await progress_.wait();
  for (const Accepted& connection : accepted_) reactor_.close_later(connection.descriptor);
  accepted_.clear();
  if (spare_ >= 0) reactor_.close_later(std::exchange(spare_, -1));
  if (descriptor_ < 0) co_return Result<>{};
  Operation operation;
  operation.code = OperationCode::close;
  operation.descriptor = std::exchange(descriptor_, -1);
  auto closed = co_await Io(operation);
  if (!closed) co_return fail(closed.error());
  co_return Result<>{};
}

}  // namespace millrace
