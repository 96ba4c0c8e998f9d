#include "tests/sim/session_driver.hpp"

#include <algorithm>
#include <array>

namespace millrace::sim {

SessionDriver::SessionDriver(Reactor& reactor, Session& session, Address address, HistoryRecorder& recorder,
                             Users users)
    : reactor_(reactor),
      session_(session),
      address_(std::move(address)),
      recorder_(recorder),
      users_(std::move(users)) {
  timer_.context = this;
  timer_.fire = [](Timer& timer) { static_cast<SessionDriver*>(timer.context)->poke(); };
}

void SessionDriver::poke() {
  poked_ = true;
  if (changed_.has_waiters()) changed_.notify();
}

void SessionDriver::on_connected(Operation& operation, const Completion& completion) {
  auto& self = *static_cast<SessionDriver*>(operation.context);
  self.connect_ended_ = true;
  self.connect_result_ = completion.result;
  self.poke();
}

void SessionDriver::on_received(Operation& operation, const Completion& completion) {
  auto& self = *static_cast<SessionDriver*>(operation.context);
  self.connection_->receiving = false;
  self.connection_->has_received = true;
  self.connection_->received = completion.result;
  self.poke();
}

void SessionDriver::on_sent(Operation& operation, const Completion& completion) {
  auto& self = *static_cast<SessionDriver*>(operation.context);
  self.connection_->sending = false;
  self.connection_->has_sent = true;
  self.connection_->sent = completion.result;
  self.poke();
}

void SessionDriver::start_connect() {
  connecting_ = true;
  connect_ended_ = false;
  connecting_attempt_ = session_.attempt();
  connect_ = Operation{};
  connect_.code = OperationCode::connect;
  connect_.address = &address_;
  connect_.context = this;
  connect_.on_complete = on_connected;
  reactor_.submit(connect_);
}

void SessionDriver::finish_connect(Nanos now) {
  connecting_ = false;
  bool wanted = session_.wants_connection() && session_.attempt() == connecting_attempt_;
  if (connect_result_ < 0) {
    if (wanted) session_.disconnected(error_from_errno(-connect_result_), now);
    return;
  }
  connection_ = std::make_unique<Connection>();
  connection_->descriptor = connect_result_;
  connection_->number = recorder_.connection();
  connection_->attempt = connecting_attempt_;
  connection_->in.resize(receive_bytes);
  connection_->dead = !wanted;
  if (!wanted) return;
  ++connections_made_;
  session_.connected(now);
  start_receive();
}

void SessionDriver::start_receive() {
  Connection& connection = *connection_;
  connection.receive = Operation{};
  connection.receive.code = OperationCode::receive;
  connection.receive.descriptor = connection.descriptor;
  connection.receive.data = connection.in.data();
  connection.receive.length = static_cast<std::uint32_t>(connection.in.size());
  connection.receive.context = this;
  connection.receive.on_complete = on_received;
  connection.receiving = true;
  reactor_.submit(connection.receive);
}

void SessionDriver::take_received(Nanos now) {
  Connection& connection = *connection_;
  connection.has_received = false;
  if (connection.dead) return;
  if (connection.received <= 0) {
    connection.dead = true;
    session_.disconnected(Error::connection_lost, now);
    return;
  }
  Bytes bytes(connection.in.data(), static_cast<std::size_t>(connection.received));
  recorder_.received(connection.number, bytes, users_.damage());
  session_.received(bytes, now);
  start_receive();
}

void SessionDriver::take_sent(Nanos now) {
  Connection& connection = *connection_;
  connection.has_sent = false;
  bool whole = connection.sent == static_cast<std::int32_t>(connection.out.size());
  connection.out.clear();
  if (whole || connection.dead) return;
  connection.dead = true;
  session_.disconnected(Error::connection_lost, now);
}

void SessionDriver::start_send() {
  Connection& connection = *connection_;
  std::array<Bytes, 16> pieces;
  std::size_t count = session_.outbox().pieces(pieces);
  for (std::size_t i = 0; i < count && connection.out.size() < send_bytes_max; ++i) {
    std::size_t take = std::min(pieces[i].size(), send_bytes_max - connection.out.size());
    connection.out.insert(connection.out.end(), pieces[i].begin(),
                          pieces[i].begin() + static_cast<std::ptrdiff_t>(take));
  }
  if (connection.out.empty()) return;
  session_.outbox().sent(connection.out.size());
  recorder_.sent(connection.number, connection.out);
  connection.send = Operation{};
  connection.send.code = OperationCode::send;
  connection.send.descriptor = connection.descriptor;
  connection.send.data = connection.out.data();
  connection.send.length = static_cast<std::uint32_t>(connection.out.size());
  connection.send.context = this;
  connection.send.on_complete = on_sent;
  connection.sending = true;
  reactor_.submit(connection.send);
}

Task<> SessionDriver::close_connection() {
  Operation end;
  end.code = OperationCode::shutdown;
  end.descriptor = connection_->descriptor;
  (void)co_await Io(end);
  // Both directions have ended: what is in flight comes back.
  while (connection_->receiving || connection_->sending) co_await changed_.wait();
  end = Operation{};
  end.code = OperationCode::close;
  end.descriptor = connection_->descriptor;
  (void)co_await Io(end);
  recorder_.closed(connection_->number);
  connection_.reset();
  co_return Result<>{};
}

Task<> SessionDriver::run() {
  for (;;) {
    poked_ = false;
    Nanos now = reactor_.now();
    if (connection_ && connection_->has_received) take_received(now);
    if (connection_ && connection_->has_sent) take_sent(now);
    if (connecting_ && connect_ended_ && !cancelling_) finish_connect(now);
    session_.advance(now);
    users_.advance(now);
    bool current = connection_ && session_.wants_connection() && session_.attempt() == connection_->attempt;
    if (connection_ && (connection_->dead || !current)) {
      connection_->dead = true;
      auto closing = close_connection();
      (void)co_await closing;
      continue;
    }
    if (connecting_ && !connect_ended_ && !cancelling_ &&
        (!session_.wants_connection() || session_.attempt() != connecting_attempt_)) {
      cancelling_ = true;
      cancel_ = Operation{};
      cancel_.code = OperationCode::cancel;
      cancel_.target = &connect_;
      cancel_.context = this;
      cancel_.on_complete = [](Operation& operation, const Completion&) {
        auto& self = *static_cast<SessionDriver*>(operation.context);
        self.cancelling_ = false;
        self.poke();
      };
      reactor_.submit(cancel_);
    }
    if (!connecting_ && !connection_ && session_.wants_connection()) start_connect();
    if (connection_ && !connection_->sending && !session_.outbox().empty()) start_send();
    Nanos deadline = std::min(session_.deadline(), users_.deadline());
    if (deadline <= now) {
      co_await Yield{};
      continue;
    }
    if (deadline != no_deadline) reactor_.arm(timer_, deadline);
    if (!poked_) co_await changed_.wait();
    reactor_.disarm(timer_);
  }
}

}  // namespace millrace::sim
