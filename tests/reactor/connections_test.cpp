// Ten thousand idle connections on one reactor, over io_uring and over posix: possible, cheap, and no hindrance to the one
// that talks.
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <vector>

#include "reactor/listener.hpp"
#include "reactor/socket.hpp"
#include "tests/reactor/run_task.hpp"
#include "tests/reactor/uring_harness.hpp"

namespace millrace::test {

namespace {

constexpr std::size_t connections = 10'000;

// Sanitizers surround each allocation with memory of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool sanitized = false;
#endif

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * block_bytes;
}

Task<> accept_all(Listener& listener, Reactor& reactor, std::vector<std::unique_ptr<Socket>>& sockets) {
  while (sockets.size() < connections) {
    auto accepted = co_await listener.accept();
    if (!accepted) co_return fail(accepted.error());
    sockets.push_back(std::make_unique<Socket>(reactor, accepted->descriptor));
  }
  co_return Result<>{};
}

Task<> echo(Socket& socket) {
  for (;;) {
    auto buffer = co_await socket.receive();
    if (!buffer) co_return fail(buffer.error());
    if (buffer->length == 0) co_return Result<>{};
    auto sent = socket.send({buffer->data, buffer->length});
    socket.recycle(*buffer);
    if (!sent) co_return sent;
  }
}

// The other side, in a child process so that each process needs only half of the descriptors. Writes a byte to `ready`
// when all are connected, waits for `go` to end, talks on three of them. Exit status 0 = each answered.
int run_clients(std::uint16_t port, int ready, int go) {
  std::vector<int> clients;
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (std::size_t i = 0; i < connections; ++i) {
    int client = ::socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || ::connect(client, reinterpret_cast<sockaddr*>(&at), sizeof(at)) != 0) return 2;
    clients.push_back(client);
  }
  char byte = 0;
  if (::write(ready, &byte, 1) != 1) return 3;
  if (::read(go, &byte, 1) != 0) return 4;
  for (std::size_t i : {std::size_t{0}, connections / 2, connections - 1}) {
    char answer[12] = {};
    if (::send(clients[i], "still there?", 12, 0) != 12) return 5;
    if (::recv(clients[i], answer, 12, MSG_WAITALL) != 12) return 6;
    if (std::string(answer, 12) != "still there?") return 7;
  }
  return 0;
}

class ConnectionsTest : public UringTest {};
INSTANTIATE_TEST_SUITE_P(Modes, ConnectionsTest, ::testing::Values(all_modes().front(), all_modes().back()), mode_name);

TEST_P(ConnectionsTest, ten_thousand_idle_connections) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max < connections + 100) GTEST_SKIP() << "needs many_descriptors: ulimit -Hn is too low";
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  Reactor reactor(*kernel_);
  Listener listener(reactor);
  auto port = run_task(reactor, listener.listen(Address{"127.0.0.1", 0}));
  ASSERT_TRUE(port);
  std::vector<std::unique_ptr<Socket>> servers;
  servers.reserve(connections);
  std::optional<Result<>> accepted;
  reactor.spawn(detail::keep_result<void>(reactor, accept_all(listener, reactor, servers), accepted));
  ::malloc_trim(0);  // what the test before gave back must not hide what this one takes
  std::size_t before = resident_bytes();
  int ready[2], go[2];
  ASSERT_TRUE(::pipe2(ready, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0);
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(go[1]);
    ::_exit(run_clients(*port, ready[1], go[0]));
  }
  ASSERT_TRUE(turn_until(reactor, [&] { return accepted.has_value(); }))
      << servers.size() << " accepted, " << listener.refused() << " refused";
  ASSERT_EQ(servers.size(), connections);
  for (auto& server : servers) reactor.spawn(echo(*server));
  for (int i = 0; i < 20; ++i) reactor.turn(kernel_->now() + nanos_per_milli);
  std::size_t each = (resident_bytes() - std::min(before, resident_bytes())) / connections;
  std::printf("idle connection: %zu bytes of this process's memory, of them %zu the Socket\n", each, sizeof(Socket));
  EXPECT_LT(each, sanitized ? 8 * KiB : 2 * KiB);

  ::close(go[1]);
  ASSERT_TRUE(turn_until(reactor, [&] { return reactor.in_flight() == 1; })) << "all echoes end, the listener goes on";
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  for (int descriptor : {ready[0], ready[1], go[0]}) ::close(descriptor);
  std::size_t closed = 0;
  for (auto& server : servers) {
    auto done = run_task(reactor, server->close(reactor.now()));
    closed += done ? 1 : 0;
  }
  EXPECT_EQ(closed, connections);
  EXPECT_TRUE(run_task(reactor, listener.close()));
  EXPECT_TRUE(settle(reactor));
}

}  // namespace

}  // namespace millrace::test
