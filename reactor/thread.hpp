// A thread whose start may fail, as a value: std::thread throws where a limit on processes is reached, and that ends a program
// built without exceptions.
//
// Thread: whoever owns it starts and joins it.
#pragma once

#include <pthread.h>

#include <functional>

namespace millrace {

class Thread {
 public:
  Thread() = default;
  /// Joins.
  ~Thread() { join(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  /// 0, or the errno of the refusal: EAGAIN where the limit of the user, of the unit or of the container is reached.
  int start(std::function<void()> body);
  bool started() const { return started_; }
  /// Waits for its end; nothing when it was never started, or joined before.
  void join();

 private:
  std::function<void()> body_;
  pthread_t thread_{};
  bool started_ = false;
};

/// Cause and cure of a thread that could not be started, as an end of a sentence.
inline constexpr const char* thread_refused =
    "no thread can be started: the limit on processes and threads is reached; raise it (ulimit -u, TasksMax= in a "
    "systemd unit, the pids limit of a container)";

}  // namespace millrace
