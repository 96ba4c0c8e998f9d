// Ctrl-C and SIGTERM as a request to come to an end: the first one is noted, and wakes who waits in poll(); the second one ends the
// process at once, as it would have without this.
//
// One at a time, on the main thread. A signal that the process was started to ignore stays ignored.
#pragma once

namespace millrace::cli {

class Interrupt {
 public:
  /// From here on the signals are noted.
  Interrupt();
  /// They end the process again.
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested();
  /// Readable once a signal came.
  int descriptor() const { return pipe_[0]; }
  /// What shells expect of a program that a signal ended: 130 for Ctrl-C, 143 for SIGTERM.
  static int exit_code();

 private:
  int pipe_[2] = {-1, -1};
};

}  // namespace millrace::cli
