#include "cli/interrupt.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace millrace::cli {

namespace {

// A signal handler reaches nothing else; only an Interrupt sets them.
volatile std::sig_atomic_t caught = 0;
volatile std::sig_atomic_t wake = -1;

void note_signal(int signal) {
  const int before = errno;
  caught = signal;
  const char byte = 0;
  // Without a pipe nobody is woken; the next look at `caught` tells all the same.
  static_cast<void>(::write(wake, &byte, 1) == 1);
  errno = before;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction before{};
  ::sigaction(signal, nullptr, &before);
  if (before.sa_handler == SIG_IGN) return;
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the next one ends the process
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

Interrupt::Interrupt() {
  caught = 0;
  if (::pipe2(pipe_, O_CLOEXEC | O_NONBLOCK) == 0) wake = pipe_[1];
  handle(SIGINT, note_signal);
  handle(SIGTERM, note_signal);
}

Interrupt::~Interrupt() {
  handle(SIGINT, SIG_DFL);
  handle(SIGTERM, SIG_DFL);
  wake = -1;
  for (const int end : pipe_)
    if (end >= 0) ::close(end);
}

bool Interrupt::requested() { return caught != 0; }

int Interrupt::exit_code() { return 128 + caught; }

}  // namespace millrace::cli
